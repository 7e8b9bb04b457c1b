"""Times variants of one computation in the same seconds, so that a drifting machine hits them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

ROUND_SECONDS = 2e-3  # a round repeats a call until it lasts about this long: far above the timer's resolution


def _timed(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def side_by_side(benchmark: Any, variants: dict[str, Callable[[], object]], flops: int, rounds: int = 25) -> None:
    """Let pytest-benchmark time the first variant, and time the others between its rounds.

    Args:
        benchmark: pytest-benchmark's fixture; its ``extra_info`` gets ``flops``, ``median`` (seconds a call, by
            variant) and ``ratio`` (a variant's time over the first one's: the median of the ratios round by round).
        variants: name to call; the first is ours.
        flops: floating point operations of one call.
        rounds: of each variant.
    """
    ours, *others = variants
    calls = {}
    for name, call in variants.items():
        for _ in range(3):  # compiles, warms caches
            call()
        calls[name] = max(1, round(ROUND_SECONDS / _timed(call, 3)))
    seconds: dict[str, list[float]] = {name: [] for name in variants}

    def time_others() -> None:
        for name in others:
            seconds[name].append(_timed(variants[name], calls[name]))

    def time_ours() -> None:
        seconds[ours].append(_timed(variants[ours], calls[ours]))

    benchmark.pedantic(time_ours, setup=time_others, rounds=rounds, warmup_rounds=0)
    benchmark.extra_info.update(
        flops=flops,
        median={name: statistics.median(times) for name, times in seconds.items()},
        ratio={
            name: statistics.median(b / a for a, b in zip(seconds[ours], seconds[name], strict=True)) for name in others
        },
    )
