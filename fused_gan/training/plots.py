"""Draws a run's curves as PNG pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from fused_gan.base.files import atomic_write
from fused_gan.base.scores import SCORES
from fused_gan.training.folder import RunFolder, read_lines

NO_LOSSES = ("step", "seconds", "images_per_second", *SCORES)


def curves(lines: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, logarithmic: bool = False) -> bytes:
    """Return a PNG of the values `names` of the lines, over their steps.

    Args:
        lines: objects with `step` and some of the names.
        names: the names of the values; each gets a curve.
        title: the title above the picture.
        logarithmic: whether the values have a logarithmic scale.
    """
    from matplotlib.figure import Figure  # takes most of a second: not at start-up

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        if points:
            # With markers, because a single point does not make a line.
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else None)
    axes.set_xlabel("step")
    axes.set_title(title)
    if logarithmic:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def draw_losses(folder: RunFolder) -> None:
    """Write the loss plot of a run's metrics."""
    lines = read_lines(folder.metrics)
    names = list(dict.fromkeys(name for line in lines for name in line if name not in NO_LOSSES))
    content = curves(lines, names, "losses")
    with atomic_write(folder.losses) as temporary:
        temporary.write_bytes(content)
