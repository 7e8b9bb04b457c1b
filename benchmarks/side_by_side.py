"""Times variants of one computation in the same seconds, so that a drift of the machine affects all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import machine

ROUND_SECONDS = 2e-3  # a round repeats a call for about this long, far above the timer's resolution
CASE_SECONDS = 1.0  # as many rounds as fit into this, within the range of ROUNDS
ROUNDS = range(5, 26)


def _timed(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def side_by_side(
    benchmark: Any,
    variants: dict[str, Callable[[], object]],
    flops: int,
    traffic: int | None = None,
    dtype: torch.dtype = torch.float32,
    **facts: object,
) -> None:
    """Let pytest-benchmark time the first variant, and time the others between its rounds.

    Args:
        benchmark: pytest-benchmark's fixture. Its ``extra_info`` gets all that report.py reads: ``median`` (seconds per
            call, by variant), ``ratio`` (a variant's time over the first variant's, the median over the rounds),
            ``peak_flops`` and ``bandwidth`` (the roofs, by machine.py), ``round_trip`` (seconds, the longer of the
            round trips before and after), and the arguments below.
        variants: calls by name; the first is ours.
        flops: floating point operations of one call.
        traffic: bytes that one call moves at least; None keeps the case out of the roofline picture.
        dtype: dtype in which the micro-kernel's rate is measured.
        **facts: further entries for the report.
    """
    ours, *others = variants
    calls, once = {}, 0.0
    for name, call in variants.items():
        for _ in range(3):  # compiles, warms caches
            call()
        seconds_a_call = _timed(call, 3)
        calls[name] = max(1, round(ROUND_SECONDS / seconds_a_call))
        once += calls[name] * seconds_a_call
    seconds: dict[str, list[float]] = {name: [] for name in variants}

    def time_others() -> None:
        for name in others:
            seconds[name].append(_timed(variants[name], calls[name]))

    def time_ours() -> None:
        seconds[ours].append(_timed(variants[ours], calls[ours]))

    before, rate = machine.round_trip(), machine.product_rate(dtype)
    rounds = min(max(round(CASE_SECONDS / once), ROUNDS[0]), ROUNDS[-1])
    benchmark.pedantic(time_ours, setup=time_others, rounds=rounds, warmup_rounds=0)
    benchmark.extra_info.update(
        facts,
        flops=flops,
        traffic=traffic,
        dtype=str(dtype).removeprefix("torch."),
        median={name: statistics.median(times) for name, times in seconds.items()},
        ratio={
            name: statistics.median(b / a for a, b in zip(seconds[ours], seconds[name], strict=True)) for name in others
        },
        peak_flops=max(rate, machine.product_rate(dtype)),
        bandwidth=machine.memory_rate(),
        round_trip=max(before, machine.round_trip()),
    )
