"""Describes a study in words. Each sentence is made from the numbers, and claims no more than they show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fused_gan.base.scores import SCORES
from fused_gan.study.grid import Study
from fused_gan.study.result import Result, is_finite, weakest_shares, worst_shares
from fused_gan.study.statistics import FEWEST, LEVEL, Cell, Difference
from fused_gan.systems.presets import to_json


def summarise(study: Study, cells: Sequence[Cell], differences: Sequence[Difference]) -> list[str]:
    """Return the sentences that describe a study.

    Args:
        study: the study.
        cells: its results, at least one cell.
        differences: the differences of the success metric, on every axis.
    """
    return [
        *_successes(study, cells),
        *_best(study, cells),
        *_recipes(study),
        *_compared(study, differences),
        *_gradients(study, cells),
        *_units(study, cells),
        *_verdicts(study, cells),
    ]


def describe_differences(differences: Sequence[Difference]) -> str:
    """Return the differences in words, as `FD is lower with relu than with tanh by 12.3 (95% interval 4.5 to 20.1, 5
    seeds), than with sigmoid by …`.

    Args:
        differences: differences of one metric with intervals, in all of which the same setting has the lower value.
    """
    than = []
    for one in differences:
        assert one.interval is not None
        low, high = one.interval
        other, ends = (one.first, (low, high)) if one.mean > 0 else (one.second, (-high, -low))
        than.append(f"than with {other} by {format_number(abs(one.mean))} ({_interval(ends, one.pairs)})")
    return f"{SCORES[differences[0].metric].title} is lower with {_lower(differences[0])} {', '.join(than)}"


def format_number(value: float) -> str:
    """Return three digits of a number, or a dash if it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_score(cell: Cell, metric: str) -> str:
    """Return a score as `12.3 ± 1.4 (3 of 5 runs)`. The number of runs is left out if all have a finite score."""
    return plus_minus(cell.mean(metric), cell.deviation(metric)) + _of(cell.count(metric), len(cell.results))


def plus_minus(mean: float, deviation: float) -> str:
    """Return `12.3 ± 1.4`, with two digits of the deviation and as many decimals of the mean."""
    if not math.isfinite(deviation) or not deviation:
        return f"{format_number(mean)} ± {format_number(deviation)}"
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
        (cell for cell in cells if cell.count(metric)),
        key=lambda cell: cell.mean(metric) if lower else -cell.mean(metric),
    )
    if len(ranked) > 1:
        best, last = (
            f"{format_score(cell, metric)} with {_in_words(cell.settings)}" for cell in (ranked[0], ranked[-1])
        )
        yield f"Mean {SCORES[metric].title} goes from {best} to {last} (mean ± standard deviation over seeds)."
    without = [cell for cell in cells if not cell.count(metric)]
    if without:
        settings = "; ".join(", ".join(cell.settings.values()) for cell in without)
        yield f"No run has a finite {SCORES[metric].title} with: {settings}."


def _recipes(study: Study) -> Iterator[str]:
    for axis in study.axes:
        found = recipes(study, axis)
        if any(len(fields) > 1 for fields in found.values()):
            meanings = "; ".join(f"{label} stands for {_assigned(fields)}" for label, fields in found.items())
            yield f"{axis.capitalize()}: {meanings}. A difference between them may come from any of these fields."


def _assigned(fields: dict[str, list[Any]]) -> str:
    return ", ".join(f"{name}={' or '.join(map(str, values))}" for name, values in fields.items())


def _compared(study: Study, differences: Sequence[Difference]) -> Iterator[str]:
    for axis in study.axes:
        own = [difference for difference in differences if difference.axis == axis]
        several = any(difference.others for difference in own)
        together = [difference for difference in own if not difference.others]
        over = f" on average over {_list([other for other in study.axes if other != axis])}" if several else ""
        shown = [difference for difference in together if difference.shown]
        for lower in study.axes[axis]:
            beaten = [difference for difference in shown if _lower(difference) == lower]
            if beaten:
                yield f"{axis.capitalize()}{over}: {describe_differences(beaten)}."
        open_ = [difference for difference in together if difference.interval and not difference.shown]
        if open_:
            pairs = "; ".join(_undecided(difference) for difference in open_)
            yield f"{axis.capitalize()}{over}: no difference is shown between {pairs}."
        if any(difference.pairs < FEWEST for difference in together):
            yield f"{axis.capitalize()}: with fewer than {FEWEST} pairs of seeds, nothing is said about differences."
        alike = [difference for difference in together if difference.pairs >= FEWEST and not difference.interval]
        if alike:
            pairs = "; ".join(f"{one.first} and {one.second} (mean {format_number(one.mean)})" for one in alike)
            yield f"{axis.capitalize()}{over}: so many seeds differ equally that there is no interval for {pairs}."
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
                yield f"But with {_in_words(other.others)}, {describe_differences([other])}."


def _gradients(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    axis = next(iter(study.axes))
    for when, words in (("start", "After the first step"), ("end", "At the end")):
        found = []
        for label, results in _by_label(axis, cells):
            shares = weakest_shares(results, when)
            if shares:
                spread = f"({min(shares):.2g} to {max(shares):.2g}){_of(len(shares), len(results))}"
                found.append(f"{np.median(shares):.2g} with {label} {spread}")
        if found:
            yield (
                f"{words}, the gradient of the weakest layer over that of the strongest, in the network where this "
                f"ratio is smallest, in the median run: {'; '.join(found)}."
            )
        looks = [getattr(result, when) for result in _results(cells)]
        not_finite = sum(not is_finite(look) for look in looks)
        if not_finite:
            yield (
                f"{words}, gradients or outputs were not finite in {not_finite} of {len(looks)} runs, which are left "
                "out of the sentences about layers at that time."
            )


def _units(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    axis = next(iter(study.axes))
    meanings = {
        "dead": "units that are 0 on all of 128 images",
        "saturated": "outputs where the activation is flat",
        "negative": "units that are negative on all of 128 images (dead under ReLU, but here they still learn)",
    }
    for kind, meaning in meanings.items():
        found = []
        for label, results in _by_label(axis, cells):
            shares = worst_shares(results, kind)
            if shares:
                spread = f"({min(shares):.0%} to {max(shares):.0%}){_of(len(shares), len(results))}"
                found.append(f"{np.mean(shares):.1%} with {label} {spread}")
        if found:
            yield f"At the end, share of {meaning}, in the hidden layer where it is largest: {'; '.join(found)}."


def _verdicts(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    axis = next(iter(study.axes))
    for label, results in _by_label(axis, cells):
        counts = Counter(name for result in results for name in result.verdicts)
        if counts:
            names = "; ".join(f"{name} in {count}" for name, count in counts.most_common())
            yield f"Verdicts at the end of the {len(results)} runs with {label}: {names}."


def _by_label(axis: str, cells: Sequence[Cell]) -> Iterator[tuple[str, list[Result]]]:
    for label in dict.fromkeys(cell.settings[axis] for cell in cells):
        yield label, _results([cell for cell in cells if cell.settings[axis] == label])


def _results(cells: Sequence[Cell]) -> list[Result]:
    return [result for cell in cells for result in cell.results]


def _of(some: int, runs: int) -> str:
    return "" if some == runs else f" ({some} of {runs} runs)"


def _lower(difference: Difference) -> str:
    return difference.second if difference.mean > 0 else difference.first


def _undecided(difference: Difference) -> str:
    assert difference.interval is not None
    return f"{difference.first} and {difference.second} ({_interval(difference.interval, difference.pairs)})"


def _interval(ends: tuple[float, float], pairs: int) -> str:
    return f"{LEVEL:.0%} interval {format_number(ends[0])} to {format_number(ends[1])}, {pairs} seeds"


def _in_words(settings: dict[str, str]) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in settings.items())


def _list(words: Sequence[str]) -> str:
    return " and ".join(words)


def recipes(study: Study, axis: str) -> dict[str, dict[str, list[Any]]]:
    """Return, for each label of an axis, the fields in which its settings differ, with all values that they take."""
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
