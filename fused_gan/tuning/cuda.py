"""Measures the kernels for a product on CUDA."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch

from fused_gan.ops import cuda_plan
from fused_gan.ops.cuda_plan import Product
from fused_gan.ops.library import FACTS, native
from fused_gan.tuning.operands import rotation
from fused_gan.tuning.plan_files import Facts, Record

SPLITS = (1, 2, 4, 8, 16)
CALLS, ROUNDS = 20, 7  # calls per graph, timed replays of the graph
CLOCK_MS = 5e-4  # the resolution of a device's events; the time between two events may read 0
GRAPH_MS = 20  # a graph that would take longer has fewer calls
WARM_MS = 2  # of replays before the timed replays
CLOCK_SECONDS = 1  # warming up ends after so long, whatever the clocks
CACHE_BYTES = 128 << 20  # more than any device's second-level cache: operands are rotated through so many bytes
BETTER = 0.98  # a kernel replaces the library's product where it takes less than this share of the product's time


class CudaTuner:
    """Measures on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        if FACTS["cuda"] is None:
            raise RuntimeError("fused_gan.autotune: this build of fused_gan has no CUDA kernels")
        if not torch.cuda.is_available():
            raise RuntimeError("fused_gan.autotune: there is no CUDA device to measure on")
        self._device, self._capability = device, cuda_plan.capability(device)
        self.name = self.file_name = torch.cuda.get_device_name(device)
        self.facts: Facts = self._capability

    def records(self, shapes: Iterable[tuple[int, int, int]], dtypes: tuple[torch.dtype, ...]) -> Iterator[Record]:
        """Yield the fastest kernel for each product, as soon as it is known. Measured candidates stay in the plan."""
        with torch.cuda.device(self._device):
            warm_up()
            for product, dtype in products(shapes, dtypes):
                yield fastest(product, dtype, self._capability)


def products(
    shapes: Iterable[tuple[int, int, int]], dtypes: tuple[torch.dtype, ...]
) -> Iterator[tuple[Product, torch.dtype]]:
    """Yield the products of layers: forward, and backward to the layer below."""
    for samples, inputs, outputs in shapes:
        for dtype in dtypes:
            short = str(dtype).removeprefix("torch.")
            aligned = cuda_plan.is_aligned(short, inputs, outputs)
            for direction, columns, depth in (("forward", outputs, inputs), ("backward", inputs, outputs)):
                yield cuda_plan.product(short, direction, samples, columns, depth, aligned), dtype


def fastest(product: Product, dtype: torch.dtype, device: tuple[int, int]) -> Record:
    """Measure every kernel that can run a product, and return the fastest.

    The library's product wins where no kernel is clearly faster (`BETTER`).
    """
    operands = rotation(product, dtype, "cuda", CACHE_BYTES, CALLS)
    times: dict[tuple[str, int], float] = {}
    for kernel, estimated, _, obstacle in native.cuda_candidates(product, device):
        if obstacle:
            continue
        for parts in sorted({*SPLITS, estimated}) if kernel.startswith("mma") else (1,):
            native.cuda_keep(product, device, kernel, parts)
            chosen = native.cuda_decision(product, device)[:2]  # fewer parts where the depth has no more
            if chosen not in times:
                times[chosen] = microseconds([partial(one.run, product.direction, False) for one in operands])
    library = times["library", 1]
    kernel, splits = min(times, key=times.__getitem__)
    if times[kernel, splits] > BETTER * library:
        kernel, splits = "library", 1
    return Record(*product, kernel, splits, round(times[kernel, splits], 3), round(library, 3))


def warm_up() -> None:
    """Let the device compute until it gets no faster, because the clocks of an idle device are low."""
    a = torch.randn(4096, 4096, device="cuda")
    best, unchanged, end = math.inf, 0, time.monotonic() + CLOCK_SECONDS
    while unchanged < 3 and time.monotonic() < end:
        took = milliseconds(lambda: [a @ a for _ in range(8)])
        unchanged = 0 if took < 0.99 * best else unchanged + 1
        best = min(best, took)


def microseconds(calls: list[Callable[[], None]]) -> float:
    """Return the microseconds per call: the median over replays of a graph that goes through `calls` in turn."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())  # which may still be filling the operands
    with torch.cuda.stream(stream):
        for call in calls[:3]:
            call()
        one = milliseconds(calls[0])
    count = max(2, min(CALLS, int(GRAPH_MS / max(one, CLOCK_MS))))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for index in range(count):
            calls[index % len(calls)]()
    warm = 0.0
    while warm < WARM_MS:
        warm += milliseconds(graph.replay)
    return statistics.median(milliseconds(graph.replay) for _ in range(ROUNDS)) * 1e3 / count


def milliseconds(work: Callable[[], object]) -> float:
    """Return the milliseconds from the beginning of some work on the current stream to its end."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
