"""Loads the compiled operators, after a check that they were built for the torch that is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # dtypes of the operators, as in csrc/checks.h

VERSION = "0.1.0"  # of this package; pyproject.toml reads it here

_HERE = Path(__file__).parents[1]
_LIBRARY = _HERE / "libfused_gan.so"
_FACTS = _HERE / "build.json"
_MEND = "pip install --no-build-isolation --force-reinstall --no-deps ."


def _how_to_build() -> str:
    """Return what to do where the operators are not beside this package."""
    sources = _HERE.parent
    if (sources / "setup.py").is_file():  # Python looks in the current folder first
        return (
            f"Python took the package from its sources in {sources}, which are not built in place, even if fused_gan "
            "is installed too. Start Python in another folder, or build in place: in the folder of the sources run "
            "pip install --no-build-isolation --editable ."
        )
    return "In the folder of fused_gan's sources run: pip install --no-build-isolation --force-reinstall --no-deps ."


def load() -> dict[str, Any]:
    """Load the operator library and return the facts of its build (build.json).

    Raises:
        ImportError: the operators were not built, or built against another torch; the message names both versions and
            the command that builds them again.
    """
    for pattern in (_FACTS.name, _LIBRARY.name, "_C*.so"):
        if not any(_HERE.glob(pattern)):
            raise ImportError(f"fused_gan is not built: {_HERE / pattern} is missing. {_how_to_build()}")
    facts: dict[str, Any] = json.loads(_FACTS.read_text())
    if facts["torch"] != torch.__version__:
        raise ImportError(
            f"fused_gan was built against torch {facts['torch']}, but torch {torch.__version__} is imported. "
            f"Build it again in the folder of its sources: {_MEND}"
        )
    torch.ops.load_library(str(_LIBRARY))  # type: ignore[no-untyped-call]
    return facts


FACTS = load()

import fused_gan._C as native  # noqa: E402  (links to the library, so only after its torch was compared)

__all__ = ["DTYPES", "FACTS", "VERSION", "build_info", "native"]


def build_info() -> dict[str, Any]:
    """Return versions and build facts of the compiled operators.

    Returns:
        A dictionary with ``torch`` (the version built against), ``cuda`` (its version or None), ``cuda_architectures``
        (of the CUDA kernels, or None for a CPU-only build), ``wgmma`` (whether products for Hopper's tensor cores are
        among them), ``compiler``, ``cxx_flags``, ``cpu_capability`` (the instruction set of the CPU kernels in use),
        ``threads`` and ``activations``.
    """
    return {
        **FACTS,
        "cpu_capability": native.cpu_capability(),
        "threads": torch.get_num_threads(),
        "activations": native.activations,
    }
