"""Times variants of one computation on a GPU, in turn, so that clocks and heat hit them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

Calls = Sequence[Callable[[], object]]  # the same computation on different memory

ROUNDS = 15
GRAPH_CALLS = 24  # in one replay: its own start is spread over so many
STREAM_SECONDS = 4e-3  # a round of ordinary calls lasts about so long


def cache_bytes() -> int:
    """The device's second-level cache."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def copies(bytes_touched: int) -> int:
    """How many sets of operands it takes until each finds the cache full of the others'."""
    return max(2, min(GRAPH_CALLS, 3 * cache_bytes() // max(bytes_touched, 1) + 1))


def _elapsed(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e-3


def captured(calls: Calls) -> Callable[[], object]:
    """A graph of GRAPH_CALLS calls in turn: what the GPU needs, without what Python and launches cost."""
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
    return graph.replay


def as_called(calls: Calls) -> tuple[Callable[[], object], int]:
    """Ordinary calls for about STREAM_SECONDS, and how many they are."""

    def run(count: int) -> None:
        for index in range(count):
            calls[index % len(calls)]()

    run(3 * len(calls))
    torch.cuda.synchronize()
    count = max(8, int(STREAM_SECONDS / (_elapsed(lambda: run(8)) / 8)))
    return lambda: run(count), count


def graph_seconds(variants: dict[str, Calls], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds a call, round by round, of each variant captured in a graph."""
    graphs = {name: captured(calls) for name, calls in variants.items()}
    return _rounds(graphs, dict.fromkeys(graphs, GRAPH_CALLS), rounds)


def stream_seconds(variants: dict[str, Calls], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds a call, round by round, of each variant called as people call it."""
    prepared = {name: as_called(calls) for name, calls in variants.items()}
    return _rounds({name: run for name, (run, _) in prepared.items()}, {n: c for n, (_, c) in prepared.items()}, rounds)


def _rounds(runs: dict[str, Callable[[], object]], counts: dict[str, int], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            elapsed = _elapsed(run) / counts[name]
            if index:  # the first round warms up
                seconds[name].append(elapsed)
    return seconds


def summary(seconds: dict[str, list[float]], ours: str = "fused_gan") -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each variant, and its time over ours: the median of the ratios round by round."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {
        name: statistics.median(other / own for own, other in zip(seconds[ours], times, strict=True))
        for name, times in seconds.items()
        if name != ours
    }
    return medians, ratios


def peak(dtype: torch.dtype, size: int = 8192) -> float:
    """FLOP/s of torch's product of two large random matrices: what shares of the peak are shares of."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.float32).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * size**3 / statistics.median(_elapsed(lambda: a @ b) for _ in range(7))
