"""What the plan on CPU goes by: the processor, and products as it takes them."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """The processor's name, with the numbers of its maker where the system tells them: names are shared by many."""
    info = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    keys = ("cpu family", "model", "CPU implementer", "CPU part")  # the last two on ARM, which has no names
    numbers = ", ".join(f"{key.removeprefix('cpu ')} {facts[key]}" for key in keys if key in facts)
    return f"{name} ({numbers})" if numbers else name


def layer_product(product: tuple[str, str, int, int, int, bool, bool]) -> tuple[str, str, int, int, int]:
    """A product as (precision, direction, samples, inputs, outputs) of the layer that it belongs to.

    Args:
        product: precision, direction, rows, columns, depth, and two that matter on CUDA alone.
    """
    precision, direction, rows, columns, depth, _, _ = product
    inputs, outputs = (depth, columns) if direction == "forward" else (columns, depth)
    return precision, direction, rows, inputs, outputs
