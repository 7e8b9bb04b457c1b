"""What a study says about a difference holds as often as it says, and is paired by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from fused_gan.study import cells, differences, studentised_interval
from helpers.studies import result, study

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
DRAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda random, count: random.normal(3, 2, count), 3.0),
    "skewed": (lambda random, count: random.exponential(1, count), 1.0),
    "difference of skewed": (lambda random, count: random.lognormal(0, 0.5, (2, count)).T @ [1, -1], 0.0),
}


def bootstrapped(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The interval of values that have one."""
    interval = studentised_interval(values, level)
    assert interval is not None
    return interval


def held(mean: float, intervals: Iterable[tuple[float, float]]) -> float:
    """The share of intervals that hold the mean."""
    return float(np.mean([low <= mean <= high for low, high in intervals]))


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The usual bootstrap interval: quantiles of the resampled means."""
    chosen = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[chosen].mean(1), [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("count", [5, 8])
@pytest.mark.parametrize("name", DRAWS)
def test_intervals_hold_the_true_mean_as_often_as_they_say(name: str, count: int) -> None:
    draw, mean = DRAWS[name]
    random = np.random.default_rng(0)
    samples = [draw(random, count) for _ in range(400)]
    # 95 % less three standard errors of 400 draws is 91.7 %.
    assert 0.917 <= held(mean, map(bootstrapped, samples)) <= 0.99
    assert held(mean, map(percentile_interval, samples)) < 0.917, "this is what the other interval is for"


def test_an_interval_is_the_same_every_time_and_moves_with_the_values() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    low, high = bootstrapped(values)
    assert (low, high) == bootstrapped(values)
    assert low < values.mean() < high
    assert bootstrapped(10 * values - 3) == pytest.approx((10 * low - 3, 10 * high - 3))
    wider = bootstrapped(values, level=0.99)
    assert wider[0] < low
    assert wider[1] > high
    # The values lean upwards: so does the interval, where a symmetric one would not.
    assert high - values.mean() > values.mean() - low


@pytest.mark.parametrize("values", [[0.1] * 5, [3.0] * 8, [0, 0, 0, 0, 1], [3, 3, 3, 3, 3, 3, 3, 4]], ids=str)
def test_values_of_which_most_are_equal_have_no_interval(values: list[float]) -> None:
    assert studentised_interval(np.array(values)) is None
    results = [result(("relu", "tanh"), seed, 7.0 + value) for seed, value in enumerate(values)]
    results += [result(("tanh", "tanh"), seed, 7.0) for seed in range(len(values))]
    within = differences(study(len(values)), results, "fd", "activation")[1]
    assert within.mean == pytest.approx(np.mean(values))
    assert within.interval is None
    assert within.silence == "too many equal differences"
    assert not within.shown


def test_intervals_of_counts_hold_the_true_mean_where_there_are_any() -> None:
    random = np.random.default_rng(0)
    samples = [random.integers(0, 4, 8) - random.integers(0, 4, 8) + 0.0 for _ in range(400)]
    intervals = [interval for sample in samples if (interval := studentised_interval(sample)) is not None]
    assert len(intervals) > 300
    assert 0.917 <= held(0.0, intervals) <= 0.99


def test_differences_are_taken_within_a_seed() -> None:
    # The seeds lie far apart, the settings close together: only pairs show it.
    random = np.random.default_rng(1)
    of_seed = 100 * random.random(6)
    results = [result(("relu", "tanh"), seed, of_seed[seed]) for seed in range(6)]
    results += [result(("tanh", "tanh"), seed, of_seed[seed] + 1 + 0.1 * random.random()) for seed in range(6)]
    [together, within, _] = differences(study(6), results, "fd", "activation")
    assert math.isnan(together.mean), "the other output's runs are missing: nothing to average"
    assert together.interval is None
    assert within.others == {"output": "tanh"}
    assert within.pairs == 6
    assert within.shown
    assert within.mean == pytest.approx(-1.05, abs=0.05)
    rest = np.concatenate([[run.value("fd") for run in results[:6]], [-run.value("fd") for run in results[6:]]])
    low, high = bootstrapped(rest)
    assert low < 0 < high, "unpaired, nothing would be seen"


def test_over_the_other_axes_a_seed_counts_once() -> None:
    results = [
        result((activation, output), seed, 10.0 * (activation == "relu") + (5.0 if output == "tanh" else 0.0) * seed)
        for activation in ("relu", "tanh")
        for output in ("tanh", "sigmoid")
        for seed in range(5)
    ]
    together = differences(study(5), results, "fd", "activation")[0]
    assert (together.first, together.second, together.others) == ("relu", "tanh", {})
    assert together.pairs == 5, "not 10: two runs of one seed are not two pairs"
    assert together.mean == pytest.approx(10)
    outputs = differences(study(5), results, "fd", "output")[0]
    assert outputs.mean == pytest.approx(5 * np.mean(range(5)))


def test_of_few_seeds_nothing_is_claimed() -> None:
    results = [
        result((activation, "tanh"), seed, seed + 100.0 * (activation == "relu"))
        for activation in ("relu", "tanh")
        for seed in range(4)
    ]
    within = differences(study(4), results, "fd", "activation")[1]
    assert within.mean == pytest.approx(100)
    assert within.interval is None
    assert within.silence == "too few seeds"
    assert not within.shown


def test_diverged_runs_have_no_score_and_no_success() -> None:
    results = [
        result(("relu", "tanh"), 0, 4.0),
        result(("relu", "tanh"), 1, 6.0, verdicts=["collapsed"]),
        result(("relu", "tanh"), 2, 11.0),
        result(("relu", "tanh"), 3, math.nan, diverged="step 7"),
    ]
    [cell] = cells(study(4), results)
    assert cell.mean("fd") == pytest.approx(7)
    assert cell.deviation("fd") == pytest.approx(np.std([4, 6, 11], ddof=1))
    assert cell.successes(study(4)) == 1, "one has a verdict, one misses the bar, one diverged"
    other = [result(("tanh", "tanh"), seed, 1.0) for seed in range(4)]
    within = differences(study(4), results + other, "fd", "activation")[1]
    assert within.pairs == 3
    assert within.mean == pytest.approx(6)
