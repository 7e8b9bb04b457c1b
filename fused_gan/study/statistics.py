"""Statistics of a few seeds: means, numbers of successes, and intervals of differences that are paired by seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fused_gan.study.grid import Study
from fused_gan.study.result import Result

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST = 5  # pairs that an interval needs, because fewer can be resampled in too few ways


@dataclass(frozen=True)
class Cell:
    """One combination of settings, over its seeds.

    Attributes:
        settings: the label of the setting on each axis.
        results: one result per seed.
    """

    settings: dict[str, str]
    results: tuple[Result, ...]

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return a metric (n,), one value per seed. It is NaN if the training diverged, and may be infinite."""
        return np.array([result.value(metric) for result in self.results])

    def count(self, metric: str) -> int:
        """Return the number of seeds whose score is finite."""
        return len(_finite(self.values(metric)))

    def mean(self, metric: str) -> float:
        """Return the mean over the seeds whose score is finite; NaN if there are none."""
        values = _finite(self.values(metric))
        return float(values.mean()) if len(values) else math.nan

    def deviation(self, metric: str) -> float:
        """Return the standard deviation over the seeds whose score is finite; NaN if they are fewer than two."""
        values = _finite(self.values(metric))
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def successes(self, study: Study) -> int:
        """Return the number of seeds whose run succeeded."""
        return sum(result.succeeded(study.success) for result in self.results)


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two settings, over the seeds that both have.

    Attributes:
        axis: the axis of the two settings.
        first, second: their labels.
        others: the settings of the other axes; empty if the difference is the mean over all of them.
        metric: the metric.
        pairs: the number of seeds.
        mean: mean of first minus second; NaN without pairs.
        interval: the 95 % confidence interval of the mean; None if there is none, and then `silence` says why.
    """

    axis: str
    first: str
    second: str
    others: dict[str, str]
    metric: str
    pairs: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0, so that the two settings differ."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def silence(self) -> str:
        """The reason why there is no interval; empty if there is one."""
        if self.interval is not None:
            return ""
        return "too few seeds" if self.pairs < FEWEST else "too many equal differences"


def cells(study: Study, results: Sequence[Result]) -> list[Cell]:
    """Return the results by setting, in the study's order. Settings without a result are left out."""
    found: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        found.setdefault(tuple(result.settings[axis] for axis in study.axes), []).append(result)
    labels = itertools.product(*study.axes.values())
    return [Cell(dict(zip(study.axes, key, strict=True)), tuple(found[key])) for key in labels if key in found]


def differences(study: Study, results: Sequence[Result], metric: str, axis: str) -> list[Difference]:
    """Return the differences of each pair of an axis's settings: over all settings of the other axes, then within each.

    Over all settings of the other axes, a seed counts once. Its differences are averaged, because runs from one seed
    are not independent of each other. Seeds without a finite score in both settings are left out.
    """
    values = {(tuple(sorted(result.settings.items())), result.seed): result.value(metric) for result in results}
    rest = {other: list(settings) for other, settings in study.axes.items() if other != axis}
    contexts = [dict(zip(rest, labels, strict=True)) for labels in itertools.product(*rest.values())]
    found: list[Difference] = []
    for first, second in itertools.combinations(study.axes[axis], 2):
        table = np.array(
            [
                [
                    values.get((_key(context, axis, first), seed), math.nan)
                    - values.get((_key(context, axis, second), seed), math.nan)
                    for seed in range(study.seeds)
                ]
                for context in contexts
            ]
        )
        if len(contexts) > 1:
            found.append(_difference(axis, first, second, {}, metric, table.mean(0)))
        for context, row in zip(contexts, table, strict=True):
            found.append(_difference(axis, first, second, context, metric, row))
    return found


def studentised_interval(
    values: NDArray[np.float64], level: float = LEVEL, seed: int = 0
) -> tuple[float, float] | None:
    """Return the bootstrap-t confidence interval of a mean, or None if too many values are equal, as counts may be.

    The method is that of Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), section 10.9. With few
    values its intervals hold the true mean about as often as `level` says, and percentile intervals do not:
    docs/design/study.md measures both.

    Args:
        values: (n,) independent values, n ≥ 2.
        level: the share of intervals that hold the true mean.
        seed: seed of the resampling.
    """
    count, mean, deviation = len(values), values.mean(), values.std(ddof=1)
    indices = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    resampled = values[indices]
    deviations = resampled.std(1, ddof=1)
    varied = deviations > 1e-12 * np.abs(values).max()  # n times the same value leaves only rounding
    # The t of a resample without deviation is infinite. If there are more of them than lie beyond a quantile, that
    # quantile may be infinite, too.
    if 1 - varied.mean() > (1 - level) / 2:
        return None
    t = (resampled.mean(1)[varied] - mean) / deviations[varied]
    low, high = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
    return float(mean - low * deviation), float(mean - high * deviation)


def _difference(
    axis: str, first: str, second: str, others: dict[str, str], metric: str, values: NDArray[np.float64]
) -> Difference:
    pairs = _finite(values)
    mean = float(pairs.mean()) if len(pairs) else math.nan
    interval = studentised_interval(pairs) if len(pairs) >= FEWEST else None
    return Difference(axis, first, second, others, metric, len(pairs), mean, interval)


def _key(context: dict[str, str], axis: str, label: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((context | {axis: label}).items()))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]
