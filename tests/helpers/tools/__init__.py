"""The table of docs/tools.md, as code: each tool at work on the same network in four forms. See `table`."""

from helpers.tools import adapters, gradients, physics, placement, programs, quantisers  # noqa: F401  (they add rows)
from helpers.tools.table import COLUMNS, PACKAGES, TOOLS, Tool

__all__ = ["COLUMNS", "PACKAGES", "TOOLS", "Tool"]
