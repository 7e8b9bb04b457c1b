"""Draws a study as PNG pictures, with one colour per setting of the first axis and one panel per combination of the
other axes' settings.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fused_gan.base.scores import SCORES
from fused_gan.study.grid import Study
from fused_gan.study.result import is_finite
from fused_gan.study.statistics import Cell

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")  # safe for colour blindness
LOGARITHMIC = 10.0  # values take a logarithmic scale if the largest over the smallest is above this


def score_over_time(study: Study, cells: Sequence[Cell], metric: str) -> bytes | None:
    """Return a PNG of a metric over the steps, or None if no run was evaluated during training.

    A thin line is a run, a thick line is the mean over the runs.
    """
    if not any(metric in point for cell in cells for result in cell.results for point in result.curve):
        return None
    figure, panels = _panels(study, cells, rows=1)
    smallest, largest = math.inf, 0.0
    for row, together in zip(panels[0], _by_panel(study, cells), strict=True):
        for colour, cell in together:
            runs = [
                [(point["step"], point[metric]) for point in result.curve if metric in point] for result in cell.results
            ]
            curves = [curve for curve in runs if curve]
            for curve in curves:
                row.plot(*zip(*curve, strict=True), color=colour, linewidth=0.6, alpha=0.5)
                smallest, largest = min([smallest, *_finite(curve)]), max([largest, *_finite(curve)])
            row.plot(*_mean_curve(curves), color=colour, linewidth=2, label=_first(study, cell))
        row.set_xlabel("step")
    panels[0][0].set_ylabel(SCORES[metric].title)
    if 0 < LOGARITHMIC * smallest < largest:
        for row in panels[0]:
            row.set_yscale("log")
    return _png(figure)


def gradients_by_layer(study: Study, cells: Sequence[Cell]) -> bytes:
    """Return a PNG of the root mean square of each layer's weight gradient, as its geometric mean over the seeds.

    Dashed lines are after the first step, solid lines at the end. Each network has a row of panels.
    """
    from matplotlib.ticker import MaxNLocator

    networks = list(cells[0].results[0].start["network_norms"])
    figure, panels = _panels(study, cells, rows=len(networks))
    for network, row in zip(networks, panels, strict=True):
        for panel, together in zip(row, _by_panel(study, cells), strict=True):
            for colour, cell in together:
                names = [name for name in cell.results[0].start["gradient_norms"] if name.startswith(f"{network}.")]
                for when, style, label in (("start", "--", None), ("end", "-", _first(study, cell))):
                    means = [_geometric_mean(cell, when, name) for name in names]
                    panel.plot(
                        range(1, len(names) + 1), means, style, color=colour, marker="o", markersize=3, label=label
                    )
            panel.set_yscale("log")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.set_xlabel(f"layer of the {network}")
        row[0].set_ylabel("gradient, root mean square")
    return _png(figure)


def unused_by_layer(study: Study, cells: Sequence[Cell]) -> bytes | None:
    """Return a PNG of the shares of dead (ReLU), negative (LeakyReLU) and saturated (tanh, sigmoid) units of each
    hidden layer at the end, averaged over the seeds. None if no hidden layer has any of these activations.
    """
    if not any(_unused(result.end) for cell in cells for result in cell.results):
        return None
    figure, panels = _panels(study, cells, rows=1)
    for panel, together in zip(panels[0], _by_panel(study, cells), strict=True):
        layers = _in_order(name for _, cell in together for name in _unused(cell.results[0].end))
        for colour, cell in together:
            shares = [_unused(result.end) for result in cell.results if is_finite(result.end)]
            names = list(shares[0]) if shares else []
            means = [np.mean([share[name] for share in shares]) for name in names]
            places = [layers.index(name) for name in names]
            panel.plot(places, means, color=colour, marker="o", markersize=4, label=_first(study, cell))
        panel.set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize=7)
        panel.set_ylim(-0.03, 1.03)
    panels[0][0].set_ylabel("share of units")
    return _png(figure)


def _unused(look: dict[str, Any]) -> dict[str, float]:
    shares: dict[str, float] = look["dead"] | look["saturated"] | look["negative"]
    return shares


def _in_order(layers: Iterable[str]) -> list[str]:
    """Return the layers without duplicates, network by network, each sorted by the numbers in its layers' names."""
    names = list(dict.fromkeys(layers))
    networks = list(dict.fromkeys(map(_network, names)))
    return sorted(names, key=lambda name: (networks.index(_network(name)), [*map(int, re.findall(r"\d+", name))]))


def _network(layer: str) -> str:
    """Return a layer's network, as `vae.encoder` of `vae.encoder.3`."""
    return re.split(r"\.\d", layer)[0]


def _panels(study: Study, cells: Sequence[Cell], rows: int) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a titled column of panels for each combination of the other axes that has results."""
    from matplotlib.figure import Figure  # takes most of a second: not at start-up

    titles = list(dict.fromkeys(_others(study, cell) for cell in cells))
    figure = Figure(figsize=(max(7.0, 3.1 * len(titles)), 0.8 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, len(titles), sharey="row", squeeze=False)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize="medium")
    for panel in panels.flat:
        panel.grid(alpha=0.3)
    return figure, panels.tolist()


def _by_panel(study: Study, cells: Sequence[Cell]) -> Iterator[list[tuple[str, Cell]]]:
    """Give for each panel its cells with their colours."""
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(next(iter(study.axes.values())))}
    for title in dict.fromkeys(_others(study, cell) for cell in cells):
        yield [(colours[_first(study, cell)], cell) for cell in cells if _others(study, cell) == title]


def _first(study: Study, cell: Cell) -> str:
    return cell.settings[next(iter(study.axes))]


def _others(study: Study, cell: Cell) -> str:
    return ", ".join(f"{axis} {cell.settings[axis]}" for axis in list(study.axes)[1:])


def _finite(curve: Sequence[tuple[float, float]]) -> list[float]:
    return [value for _, value in curve if math.isfinite(value)]


def _mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Return the steps that all curves have, and the mean at each."""
    tables = [dict(curve) for curve in curves]
    steps = [step for step in (tables[0] if tables else ()) if all(step in table for table in tables)]
    return steps, [float(np.mean([table[step] for table in tables])) for step in steps]


def _geometric_mean(cell: Cell, when: str, layer: str) -> float:
    norms = np.array([getattr(result, when)["gradient_norms"].get(layer, math.nan) for result in cell.results])
    finite = norms[np.isfinite(norms)]
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(finite).mean())) if len(finite) else math.nan


def _png(figure: Figure) -> bytes:
    lines: dict[str, Artist] = {}
    for panel in figure.axes:
        handles, labels = panel.get_legend_handles_labels()
        lines |= dict(zip(labels, handles, strict=True))
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=len(lines), fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
