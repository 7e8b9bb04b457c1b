"""Names the processor, as measured plans belong to one processor."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """Return the processor's name, and family and model numbers where the system says them, as many share a name."""
    info = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    keys = ("cpu family", "model", "CPU implementer", "CPU part")  # the last two on ARM, where no model name is given
    numbers = ", ".join(f"{key.removeprefix('cpu ')} {facts[key]}" for key in keys if key in facts)
    return f"{name} ({numbers})" if numbers else name
