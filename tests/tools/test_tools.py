"""Each tool does to each form of the network what docs/tools.md says: the same as to stock, or nothing, or an error."""

from __future__ import annotations

import pytest

from helpers.tools import COLUMNS, TOOLS, Tool

pytestmark = pytest.mark.filterwarnings("ignore")  # what the tools say of themselves and of torch


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("tool", TOOLS, ids=[tool.name for tool in TOOLS])
def test_a_tool_does_what_its_cell_says(tool: Tool, column: str) -> None:
    if missing := tool.missing():
        pytest.skip(f"not installed, `make tools` does it: {', '.join(missing)}")
    tool.cells[column].check(tool, column)
