"""Times variants of one computation on a GPU, in turn, so that clocks and heat affect all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

Calls = Sequence[Callable[[], object]]  # the same computation on different memory


class Run(NamedTuple):
    """A number of calls of a variant that are timed together."""

    start: Callable[[], object]
    calls: int


ROUNDS = 15
GRAPH_CALLS = 24  # calls per replay, which share the time of its start
STREAM_SECONDS = 4e-3  # duration of a round of ordinary calls, about


def cache_bytes() -> int:
    """Return the size of the device's second-level cache in bytes."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def copies(bytes_touched: int) -> int:
    """Return how many sets of operands are needed so that each has left the cache before its next turn."""
    return max(2, min(GRAPH_CALLS, 3 * cache_bytes() // max(bytes_touched, 1) + 1))


def _elapsed(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e-3


def captured(calls: Calls) -> Run:
    """Capture a graph of GRAPH_CALLS calls in turn: the time of the GPU, without that of Python and launches."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for index in range(3 * len(calls)):
            calls[index % len(calls)]()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for index in range(GRAPH_CALLS):
            calls[index % len(calls)]()
    return Run(graph.replay, GRAPH_CALLS)


def as_called(calls: Calls) -> Run:
    """Return ordinary calls that last about STREAM_SECONDS."""

    def run(count: int) -> None:
        for index in range(count):
            calls[index % len(calls)]()

    run(3 * len(calls))
    torch.cuda.synchronize()
    count = max(8, int(STREAM_SECONDS / (_elapsed(lambda: run(8)) / 8)))
    return Run(lambda: run(count), count)


WAYS: dict[str, Callable[[Calls], Run]] = {"graph": captured, "called": as_called}


def seconds(runs: dict[str, Run], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds per call of each variant, round by round."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            elapsed = _elapsed(run.start) / run.calls
            if index:  # the first round warms up
                found[name].append(elapsed)
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return their time over ours, the median of the ratios of all rounds."""
    return statistics.median(other / own for own, other in zip(ours, theirs, strict=True))


def peak(dtype: torch.dtype, size: int = 8192) -> float:
    """Return the FLOP/s of torch's product of two large random matrices, which counts as the peak."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.float32).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * size**3 / statistics.median(_elapsed(lambda: a @ b) for _ in range(7))
