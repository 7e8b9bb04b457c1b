"""Draws the roofline picture: how near each case comes to the peak compute rate and memory bandwidth.

S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52 (2009).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKERS = "osD^vP"


def _panel(axes: Axes, dtype: str, records: list[dict[str, Any]]) -> None:
    infos = [record["extra_info"] for record in records]
    peak, bandwidth = (max(info[roof] for info in infos) for roof in ("peak_flops", "bandwidth"))
    intensities = [info["flops"] / info["traffic"] for info in infos]
    ridge = peak / bandwidth
    low, high = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    roof = [(x, min(peak, x * bandwidth) * 1e-9) for x in (low, ridge, high)]
    axes.plot(*zip(*roof, strict=True), color="black", linewidth=1)
    axes.annotate(f"micro-kernel {peak * 1e-9:.0f} GFLOP/s", roof[2], (0, 3), **_ABOVE, ha="right")
    axes.annotate(f"memory {bandwidth * 1e-9:.0f} GB/s", roof[0], (8, 3), **_ABOVE)
    for marker, (function, group) in zip(MARKERS, _by_function(records), strict=False):
        for variant, color in (("eager", "tab:gray"), ("fused_gan", "tab:red")):
            points = [
                (info["flops"] / info["traffic"], info["flops"] / info["median"][variant] * 1e-9) for info in group
            ]
            label = f"{function}, {'ours' if variant == 'fused_gan' else 'stock'}"
            axes.scatter(*zip(*points, strict=True), 14, color, marker, alpha=0.7, linewidths=0, label=label)
    axes.set(
        title=dtype, xlabel="FLOP per byte, every operand moved once", ylabel="GFLOP/s", xscale="log", yscale="log"
    )
    axes.legend(loc="lower right")


_ABOVE = {"textcoords": "offset points", "va": "bottom"}


def _by_function(records: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for function, group in groupby(records, lambda record: record["name"].partition("[")[0]):
        yield function.removeprefix("bench_").replace("_", " "), [record["extra_info"] for record in group]


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Write a picture with one panel per dtype. Cases without `traffic` are left out."""
    placed = [record for record in records if record["extra_info"]["traffic"]]
    dtypes = sorted({record["extra_info"]["dtype"] for record in placed}, reverse=True)
    rcParams["font.size"] = 8
    figure = Figure((5.5 * max(len(dtypes), 1), 4.5), layout="constrained")
    for i, dtype in enumerate(dtypes):
        axes = figure.add_subplot(1, len(dtypes), i + 1)
        _panel(axes, dtype, [record for record in placed if record["extra_info"]["dtype"] == dtype])
    figure.savefig(path, dpi=150)
