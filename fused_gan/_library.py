"""Loads the compiled operators, after making sure that they were built for the torch that is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

_HERE = Path(__file__).parent
_LIBRARY = _HERE / "libfused_gan.so"
_FACTS = _HERE / "build.json"
_MEND = "pip install --no-build-isolation --force-reinstall --no-deps ."


def load() -> dict[str, Any]:
    """Load the operator library and return the facts of its build (build.json).

    Raises:
        ImportError: nothing was built, or it was built against another torch; the message names both versions and
            the command that mends it.
    """
    if not _LIBRARY.exists() or not _FACTS.exists():
        raise ImportError(
            f"fused_gan is not built: {_LIBRARY if not _LIBRARY.exists() else _FACTS} is missing. "
            "In the folder of fused_gan's sources run: pip install --no-build-isolation ."
        )
    facts: dict[str, Any] = json.loads(_FACTS.read_text())
    if facts["torch"] != torch.__version__:
        raise ImportError(
            f"fused_gan was built against torch {facts['torch']}, but torch {torch.__version__} is imported. "
            f"Build it again in the folder of its sources: {_MEND}"
        )
    torch.ops.load_library(str(_LIBRARY))  # type: ignore[no-untyped-call]
    return facts


FACTS = load()
