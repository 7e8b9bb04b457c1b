"""A study in plain words. Each sentence is made from the numbers, and says no more than they show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fused_gan.scores import SCORES
from fused_gan.study.grid import Study
from fused_gan.study.result import Result
from fused_gan.study.statistics import FEWEST, LEVEL, Cell, Difference


def summarise(study: Study, cells: Sequence[Cell], differences: Sequence[Difference]) -> list[str]:
    """The sentences.

    Args:
        study: what was asked.
        cells: what came out, at least one.
        differences: of the score, on every axis.
    """
    return [
        *_successes(study, cells),
        *_best(study, cells),
        *_compared(study, differences),
        *_gradients(study, cells),
        *_units(study, cells),
        *_verdicts(study, cells),
    ]


def described(difference: Difference) -> str:
    """As `FD is lower with relu than with tanh by 12.3 (95 % interval 4.5 to 20.1, 5 seeds)`."""
    low, high = difference.interval or (math.nan, math.nan)
    if difference.mean > 0:
        more, fewer, ends = difference.second, difference.first, (low, high)
    else:
        more, fewer, ends = difference.first, difference.second, (-high, -low)
    by = f"{number(abs(difference.mean))} ({_interval(ends, difference.pairs)})"
    return f"{SCORES[difference.metric].title} is lower with {more} than with {fewer} by {by}"


def number(value: float) -> str:
    """Three digits; a dash where there is no number."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def moments(mean: float, deviation: float) -> str:
    """As `12.3 ± 1.4`: two digits of the deviation, and as many decimals of the mean."""
    if not math.isfinite(deviation) or not deviation:
        return f"{number(mean)} ± {number(deviation)}"
    decimals = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{mean:,.{decimals}f} ± {deviation:,.{decimals}f}"


def _successes(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    results = _results(cells)
    succeeded = sum(cell.successes(study) for cell in cells)
    diverged = sum(bool(result.diverged) for result in results)
    yield (
        f"{len(results)} of {len(study.jobs())} runs are done. {succeeded} succeeded: {study.success}, and no verdict "
        f"of the health monitor at the end. {diverged} diverged."
    )
    always = [cell for cell in cells if cell.successes(study) == len(cell.results)]
    never = [cell for cell in cells if not cell.successes(study)]
    for word, found in (("Every run", always), ("No run", never)):
        if found:
            yield f"{word} succeeded with: {'; '.join(', '.join(cell.settings.values()) for cell in found)}."


def _best(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    metric, lower = study.success.metric, study.success.at_most is not None
    ranked = sorted(
        (cell for cell in cells if math.isfinite(cell.mean(metric))),
        key=lambda cell: cell.mean(metric) if lower else -cell.mean(metric),
    )
    if len(ranked) > 1:
        best, last = ranked[0], ranked[-1]
        yield (
            f"Mean {SCORES[metric].title} goes from {_moments(best, metric)} with {_named(best.settings)} to "
            f"{_moments(last, metric)} with {_named(last.settings)} (mean ± standard deviation over seeds)."
        )


def _compared(study: Study, differences: Sequence[Difference]) -> Iterator[str]:
    for axis in study.axes:
        own = [difference for difference in differences if difference.axis == axis]
        several = any(difference.others for difference in own)
        together = [difference for difference in own if not difference.others]
        over = f" on average over {_list([other for other in study.axes if other != axis])}" if several else ""
        shown = [difference for difference in together if difference.shown]
        if shown:
            yield f"{axis.capitalize()}{over}: {'; '.join(map(described, shown))}."
        open_ = [difference for difference in together if difference.interval and not difference.shown]
        if open_:
            pairs = "; ".join(_undecided(difference) for difference in open_)
            yield f"{axis.capitalize()}{over}: no difference is shown between {pairs}."
        if any(difference.interval is None for difference in together):
            yield f"{axis.capitalize()}: with fewer than {FEWEST} pairs of seeds, nothing is said about differences."
        for difference in shown:
            against = [
                other
                for other in own
                if other.others
                and (other.first, other.second) == (difference.first, difference.second)
                and other.shown
                and (other.mean > 0) != (difference.mean > 0)
            ]
            for other in against:
                yield f"But with {_named(other.others)}, {described(other)}."


def _gradients(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    axis = next(iter(study.axes))
    for moment, words in (("start", "After the first step"), ("end", "At the end")):
        found = []
        for label, results in _by_label(axis, cells):
            ratios = [weakest_share(getattr(result, moment)) for result in results]
            middle = float(np.median(ratios))
            found.append(f"{middle:.2g} with {label} ({min(ratios):.2g} to {max(ratios):.2g})")
        yield (
            f"{words}, the gradient of the weakest layer as a share of the strongest one's, in the network where that "
            f"is smallest, in the median run: {'; '.join(found)}."
        )


def weakest_share(look: dict[str, Any]) -> float:
    """Gradient of a network's weakest layer over that of its strongest, root mean squares; the smallest of networks."""
    shares = []
    for network in look["network_norms"]:
        norms = [norm for name, norm in look["gradient_norms"].items() if name.startswith(f"{network}.")]
        shares.append(min(norms) / max(norms) if max(norms) > 0 else 0.0)
    return min(shares, default=math.nan)


def worst_share(look: dict[str, Any], kind: str) -> float | None:
    """The largest share of dead, saturated or negative units in a hidden layer; None if no layer can have such."""
    return max(look[kind].values(), default=None)


def _units(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    axis = next(iter(study.axes))
    told = {
        "dead": "is 0 on all of 128 images",
        "saturated": "is where the activation is flat",
        "negative": "is negative on all of 128 images (under ReLU it would be dead; here it still learns)",
    }
    for kind, meaning in told.items():
        found = []
        for label, results in _by_label(axis, cells):
            shares = [share for result in results if (share := worst_share(result.end, kind)) is not None]
            if shares:
                found.append(f"{np.mean(shares):.1%} with {label} ({min(shares):.0%} to {max(shares):.0%})")
        if found:
            yield f"At the end, of the hidden layer where it is most, this share {meaning}: {'; '.join(found)}."


def _verdicts(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    axis = next(iter(study.axes))
    for label, results in _by_label(axis, cells):
        counts = Counter(name for result in results for name in result.verdicts)
        if counts:
            told = "; ".join(f"{name} in {count}" for name, count in counts.most_common())
            yield f"Verdicts at the end of the {len(results)} runs with {label}: {told}."


def _by_label(axis: str, cells: Sequence[Cell]) -> Iterator[tuple[str, list[Result]]]:
    for label in dict.fromkeys(cell.settings[axis] for cell in cells):
        yield label, _results([cell for cell in cells if cell.settings[axis] == label])


def _results(cells: Sequence[Cell]) -> list[Result]:
    return [result for cell in cells for result in cell.results]


def _moments(cell: Cell, metric: str) -> str:
    return moments(cell.mean(metric), cell.deviation(metric))


def _undecided(difference: Difference) -> str:
    assert difference.interval is not None
    return f"{difference.first} and {difference.second} ({_interval(difference.interval, difference.pairs)})"


def _interval(ends: tuple[float, float], pairs: int) -> str:
    return f"{LEVEL:.0%} interval {number(ends[0])} to {number(ends[1])}, {pairs} seeds"


def _named(settings: dict[str, str]) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in settings.items())


def _list(words: Sequence[str]) -> str:
    return " and ".join(words)
