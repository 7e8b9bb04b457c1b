"""Measures the kernels for a layer on the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator

import torch

from fused_gan.ops.cuda_plan import Product
from fused_gan.ops.library import native
from fused_gan.ops.processor import processor
from fused_gan.tuning.operands import Operands, rotation
from fused_gan.tuning.plan_files import Facts, Record, layer_product

ROUNDS = 15  # each round times every kernel, so that what disturbs the machine disturbs all kernels alike
ROUND_SECONDS = 2e-3  # per kernel and round
# Sets of operands, together larger than a core's caches, as between the layers of a network.
SETS, CACHE_BYTES = 8, 16 << 20
# A kernel replaces the table's kernel where the median of its time over the table's is below this. A smaller gain is
# noise, and a chain may lose it, because its layers hand over packed batches where they run on the same kernel.
BETTER = 0.95


class CpuTuner:
    """Measures on this processor, with the number of threads that torch runs now."""

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        self.name = processor()
        self.facts: Facts = native.cpu_capability(), threads
        self.file_name = f"{self.name} {native.cpu_capability()} {threads} threads"

    def records(self, shapes: Iterable[tuple[int, int, int]], dtypes: tuple[torch.dtype, ...]) -> Iterator[Record]:
        """Yield the fastest kernel for each product, as soon as it is known. Measured candidates stay in the plan."""
        for samples, inputs, outputs in shapes:
            for dtype in dtypes:
                precision = native.cpu_precision(str(dtype).removeprefix("torch."))
                for direction, columns, depth in (("forward", outputs, inputs), ("backward", inputs, outputs)):
                    yield fastest(Product(precision, direction, samples, columns, depth, True, True), dtype)


def fastest(product: Product, dtype: torch.dtype) -> Record:
    """Measure every kernel that can run a layer's forward or backward, and return the fastest.

    The table's kernel wins where no other is clearly faster (`BETTER`). Backward is the input gradient, with the end of
    the layer below, and the weight gradient.
    """
    layer, threads = layer_product(product), torch.get_num_threads()
    native.cpu_forget()
    usual, _ = native.cpu_decision(layer)
    kernels = [kernel for kernel, obstacle in native.cpu_candidates(layer) if not obstacle]
    operands = rotation(product, dtype, "cpu", CACHE_BYTES, SETS)
    calls = 1
    seconds: dict[str, list[float]] = {kernel: [] for kernel in kernels}
    for index in range(-2, ROUNDS):
        took = {}
        for kernel in kernels:
            native.cpu_keep(layer, threads, kernel)
            took[kernel] = _seconds(operands, product.direction, calls)
            if index >= 0:
                seconds[kernel].append(took[kernel])
        if index == -1:  # the round before has warmed everything up
            calls = max(1, round(ROUND_SECONDS / max(took[usual], 1e-7)))
    shares = {
        kernel: statistics.median(a / b for a, b in zip(seconds[kernel], seconds[usual], strict=True))
        for kernel in kernels
    }
    kernel = min(shares, key=shares.__getitem__)
    if shares[kernel] > BETTER:
        kernel = usual
    microseconds = {kernel: statistics.median(times) * 1e6 for kernel, times in seconds.items()}
    return Record(*product, kernel, 1, round(microseconds[kernel], 3), round(microseconds[usual], 3))


def _seconds(operands: list[Operands], direction: str, calls: int) -> float:
    """Return the mean seconds of one call, over `calls` calls that go through the sets in turn."""
    start = time.perf_counter()
    for index in range(calls):
        operands[index % len(operands)].run(direction, weight_gradient=True)
    return (time.perf_counter() - start) / calls
