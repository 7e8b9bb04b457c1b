"""What a setting stands for: it may change more than it is named after, and a preset changes much."""

from __future__ import annotations

from typing import Any

from fused_gan.study.grid import Study
from fused_gan.training.presets import to_json


def recipes(study: Study, axis: str) -> dict[str, dict[str, list[Any]]]:
    """By label of an axis, the fields in which its settings differ, each with the values it has over the other axes."""
    found: dict[str, dict[str, list[Any]]] = {label: {} for label in study.axes[axis]}
    for job in study.jobs():
        if job.seed:  # all seeds have the same fields
            continue
        preset = to_json(job.configured())
        for name, value in ({"preset": job.preset} | preset["model"] | preset["training"]).items():
            values = found[job.settings[axis]].setdefault(name, [])
            if value not in values:
                values.append(value)
    return {
        label: {
            name: fields[name] for name in fields if any(other.get(name) != fields[name] for other in found.values())
        }
        for label, fields in found.items()
    }
