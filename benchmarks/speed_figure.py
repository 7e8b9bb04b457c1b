"""Draws docs/gallery/speed.svg, the README's figure of speed, from the committed results.

python -m benchmarks.speed_figure
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "gallery" / "speed.svg"
PROCESSORS = {  # folder of results: name in the figure, colour
    "zen4-2-cores": ("AMD EPYC (Zen 4)", "#4477aa"),
    "xeon-amx-2-cores": ("Intel Xeon with AMX, shared with others", "#ee8866"),
    "zen3-2-cores": ("AMD EPYC without AVX-512 (Zen 3), shared", "#44aa77"),
}
BAR = 0.26  # of the distance between two groups
TITLE = "Time of stock PyTorch ÷ time of fused_gan, two cores (above 1: fused_gan is faster)"
GROUPS = {  # benchmark function: label in the figure
    "chain": "networks, float32",
    "chain_bfloat16": "networks, bfloat16",
    "chain_float16": "networks, float16",
    "forward_backward": "layers, float32",
    "forward": "layers, float32, forward alone",
    "trainer_step": "whole training step of a GAN",
}


@dataclass(frozen=True)
class Summary:
    """The time of stock PyTorch in eager mode over ours, for the cases of one benchmark function.

    Attributes:
        cases: number of cases.
        mean: geometric mean of the ratios.
        worst: smallest ratio.
        worst_case: name of the case with the smallest ratio, as "generator-64".
    """

    cases: int
    mean: float
    worst: float
    worst_case: str

    def __str__(self) -> str:
        return f"{self.mean:.2f}, worst {self.worst:.2f}"


def read(name: str) -> list[dict[str, Any]]:
    """Return the records of the committed results in benchmarks/results/NAME."""
    content = json.loads((HERE / "results" / name / "results.json").read_text(encoding="utf-8"))
    records: list[dict[str, Any]] = content["results"]
    return records


def summaries(records: list[dict[str, Any]]) -> dict[str, Summary]:
    """Return a summary for each benchmark function. The keys are the functions' names without "bench_"."""
    ratios: dict[str, dict[str, float]] = {}
    for record in records:
        function, _, case = record["name"].removeprefix("bench_").partition("[")
        ratios.setdefault(function, {})[case.rstrip("]")] = record["ratio"]["eager"]
    return {function: _summary(cases) for function, cases in ratios.items()}


def _summary(ratios: dict[str, float]) -> Summary:
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    worst_case = min(ratios, key=ratios.__getitem__)
    return Summary(len(ratios), mean, ratios[worst_case], worst_case)


def draw(path: Path) -> None:
    """Write the figure: a bar for each group and processor, its geometric mean, and a mark at its worst case."""
    # Text stays text, so that a test can read the numbers. Without a date, and with a fixed salt for the ids, equal
    # results give equal files.
    with rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "speed"}):
        figure = Figure((8, 5.6), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, (title, colour)) in enumerate(PROCESSORS.items()):
            _bars(axes, summaries(read(name)), (index - (len(PROCESSORS) - 1) / 2) * BAR, title, colour)
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks(range(len(GROUPS)), GROUPS.values())
        axes.invert_yaxis()
        axes.set_xlim(0, 1.9)
        figure.suptitle(TITLE, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.plot([], [], "k|", markersize=9, markeredgewidth=2, label="worst case of the group")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _bars(axes: Axes, found: dict[str, Summary], offset: float, title: str, colour: str) -> None:
    places = [place + offset for place in range(len(GROUPS))]
    means = [found[group].mean if group in found else 0.0 for group in GROUPS]
    axes.barh(places, means, 0.95 * BAR, color=colour, label=title)
    for place, group in zip(places, GROUPS, strict=True):
        if group not in found:
            axes.text(0.02, place, "not measured", va="center", fontsize=8, color="dimgray")
            continue
        axes.plot([found[group].worst], [place], "k|", markersize=9, markeredgewidth=2)
        axes.text(max(found[group].mean, 1) + 0.02, place, str(found[group]), va="center", fontsize=8)


if __name__ == "__main__":
    draw(FIGURE)
    print(f"written: {FIGURE}")
