"""Loads the compiled operators, after making sure that they were built for the torch that is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # that the operators take, as checks.h says

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
    for pattern in (_FACTS.name, _LIBRARY.name, "_C*.so"):
        if not any(_HERE.glob(pattern)):
            raise ImportError(
                f"fused_gan is not built: {_HERE / pattern} is missing. "
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

from fused_gan import _C as native  # noqa: E402  (links to the library, so only after its torch was compared)

__all__ = ["DTYPES", "FACTS", "native"]
