"""The processor that this runs on, by name: measured choices belong to it."""

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
