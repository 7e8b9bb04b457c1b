"""What this machine can do at the moment: the roofs that a case is held against, and how far its cores are apart."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

import fused_gan

# A virtual machine's cores may share a last-level cache, or be moved to where they do not: about 100 and 500 ns, both
# measured on one machine within an hour; others stay at 350. It changes a small case on two threads up to fourfold.
FAR = 2.5  # times the round trip that a run has at its best


@cache
def _round_trip() -> Callable[[int, int, int], float]:
    """round_trip.cpp, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "round_trip.so")
        source = Path(__file__).with_name("round_trip.cpp")
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-pthread", source, "-o", library], check=True)
        function = ctypes.CDLL(str(library)).round_trip
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long]
    function.restype = ctypes.c_double
    return function


def round_trip() -> float:
    """Seconds that a cache line takes between the first two processors of this process and back; 0 if it has one.

    The median of a few short runs: a thread that is put off its core for a moment is not a far core.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        return 0.0
    return statistics.median(_round_trip()(*processors[:2], 1000) for _ in range(7))


def _shortest(call: Callable[[], object], times: int) -> float:
    """Seconds of the quickest of so many calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the micro-kernel: a bare product that fits into the second cache, on one thread, times the threads."""
    samples, depth, outputs = 128, 512, 384
    x, weight = torch.randn(samples, depth).to(dtype), torch.randn(outputs, depth).to(dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _shortest(lambda: fused_gan.linear_act(x, weight), 30)
    finally:
        torch.set_num_threads(threads)
    return threads * 2 * samples * depth * outputs / seconds


@cache
def memory_rate() -> float:
    """Bytes a second, read and written, that all threads together copy."""
    source = torch.ones(64 << 20)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _shortest(lambda: target.copy_(source), 5)
