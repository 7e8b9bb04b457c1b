"""Measures which CUDA kernel is the fastest for a product, and keeps what it finds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fused_gan import cuda_plan, tuning
from fused_gan._library import FACTS, native
from fused_gan.tuning import Findings, Record

SPLITS = (1, 2, 4, 8, 16)
CALLS, ROUNDS = 20, 7  # calls in a graph, replays of it that are timed
CLOCK_MS = 5e-4  # the resolution of a device's events; two close together may read 0
GRAPH_MS = 20  # a graph that would take longer has fewer calls
WARM_MS = 2  # of replays before those that are timed
CLOCK_SECONDS = 1  # after so long of warming up the clocks are taken as they are
CACHE_BYTES = 128 << 20  # more than any device's second-level cache: operands are rotated through so many bytes
BETTER = 0.98  # a kernel replaces the library's product where it takes less than this share of its time

Product = tuple[str, str, int, int, int, bool, bool]


class Operands(NamedTuple):
    """One set of tensors for a product: a (rows, depth), b (columns, depth) or (depth, columns), bias or y below."""

    a: Tensor
    b: Tensor
    bias: Tensor
    below: Tensor

    def run(self, direction: str) -> None:
        """The operator around the product, with nothing else in it."""
        if direction == "forward":
            torch.ops.fused_gan.linear_act(self.a, self.b, self.bias, "leaky_relu", 0.2)
            return
        # The upper layer's step of a chain of two, whose lower layer has its bias gradient asked for and no more.
        rows, columns = self.below.shape
        torch.ops.fused_gan.mlp_backward(
            self.a,
            [self.below],
            self.below.new_empty(rows, 1),
            [self.below.new_empty(columns, 1), self.b],
            ["leaky_relu", "identity"],
            0.2,
            False,
            [False, False],
            [True, False],
        )


def autotune(
    shapes: Iterable[tuple[int, int, int]],
    dtypes: Iterable[torch.dtype] = (torch.bfloat16, torch.float16, torch.float32),
    device: torch.device | str = "cuda",
    path: Path | str | None = None,
) -> list[Record]:
    """Measure every kernel on the products of some layers, forward and backward, and follow the fastest from now on.

    The findings are kept in a file for this kind of device, which `import fused_gan` reads, each as soon as it is
    known. float32 is measured as PyTorch's precision settings want it when this is called.

    Args:
        shapes: of layers: (samples, in_features, out_features).
        dtypes: to measure in.
        device: a CUDA device.
        path: of the file; one in FUSED_GAN_PLANS or in the user's cache, named after the device, if None.

    Returns:
        One record a product: the fastest kernel, its time and that of torch's product with one kernel after it.

    Raises:
        RuntimeError: there is no CUDA device, or this build has no CUDA kernels.
        ValueError: the file exists, but holds something else, or what was measured on another kind of device.
    """
    if FACTS["cuda"] is None:
        raise RuntimeError("fused_gan.autotune: this build of fused_gan has no CUDA kernels")
    if not torch.cuda.is_available():
        raise RuntimeError("fused_gan.autotune: there is no CUDA device to measure on")
    where = torch.device(device)
    facts, name = cuda_plan.capability(where), torch.cuda.get_device_name(where)
    file = Path(path) if path is not None else tuning.path_for(name)
    findings = tuning.read_for(file, name, facts)  # a file of something else is refused before anything is measured
    records = []
    try:
        with torch.cuda.device(where), torch.no_grad():
            warm_up()
            for product, dtype in products(shapes, tuple(dtypes)):
                records.append(fastest(product, dtype, facts))
                findings = tuning.add(file, Findings(name, *facts, (records[-1],)))
    finally:  # measuring has left its candidates in the plan
        native.cuda_forget()
        tuning.install_kept()
        tuning.install(findings)
    return records


def products(
    shapes: Iterable[tuple[int, int, int]], dtypes: tuple[torch.dtype, ...]
) -> Iterator[tuple[Product, torch.dtype]]:
    """The products of layers, forward and down to the layer below."""
    for samples, inputs, outputs in shapes:
        for dtype in dtypes:
            short = str(dtype).removeprefix("torch.")
            aligned = cuda_plan.is_aligned(short, inputs, outputs)
            for direction, columns, depth in (("forward", outputs, inputs), ("backward", inputs, outputs)):
                yield cuda_plan.product(short, direction, samples, columns, depth, aligned), dtype


def fastest(product: Product, dtype: torch.dtype, device: tuple[int, int]) -> Record:
    """Measure every kernel that can run a product; the library's stays where none is clearly faster."""
    operands = rotation(product, dtype)
    times: dict[tuple[str, int], float] = {}
    for kernel, estimated, _, obstacle in native.cuda_candidates(product, device):
        if obstacle:
            continue
        for parts in sorted({*SPLITS, estimated}) if kernel.startswith("mma") else (1,):
            native.cuda_keep(product, device, kernel, parts)
            chosen = native.cuda_decision(product, device)[:2]  # fewer parts where the depth has no more
            if chosen not in times:
                times[chosen] = microseconds([partial(one.run, product[1]) for one in operands])
    library = times["library", 1]
    kernel, splits = min(times, key=times.__getitem__)
    if times[kernel, splits] > BETTER * library:
        kernel, splits = "library", 1
    return Record(*product, kernel, splits, round(times[kernel, splits], 3), round(library, 3))


def rotation(product: Product, dtype: torch.dtype) -> list[Operands]:
    """Sets of operands, so many that each finds the cache full of the others."""
    _, direction, rows, columns, depth, _, _ = product

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, device="cuda").mul_(sizes[-1] ** -0.5).to(dtype)

    def operands() -> Operands:
        b = random(columns, depth) if direction == "forward" else random(depth, columns)
        return Operands(random(rows, depth), b, random(columns), random(rows, columns))

    first = operands()
    size = sum(tensor.nbytes for tensor in first)
    return [first, *(operands() for _ in range(min(CALLS, CACHE_BYTES // max(size, 1) + 1) - 1))]


def warm_up() -> None:
    """Let the device compute until it gets no faster: the clocks of an idle one are low."""
    a = torch.randn(4096, 4096, device="cuda")
    best, unchanged, end = math.inf, 0, time.monotonic() + CLOCK_SECONDS
    while unchanged < 3 and time.monotonic() < end:
        took = milliseconds(lambda: [a @ a for _ in range(8)])
        unchanged = 0 if took < 0.99 * best else unchanged + 1
        best = min(best, took)


def microseconds(calls: list[Callable[[], None]]) -> float:
    """Of one call, the median over replays of a graph that holds some calls in turn."""
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
    """From the beginning of some work on the current stream to its end."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
