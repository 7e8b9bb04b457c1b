"""Measures this machine: the peak rates that a case is compared with, and the distance between its cores."""

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

# A virtual machine's cores may share a last-level cache, or be moved to cores that do not: about 100 and 500 ns, both
# measured on one machine within an hour. Other machines stay at 350 ns. The time of a small case on two threads changes
# up to fourfold.
FAR = 2.5  # times the shortest round trip of a run


@cache
def _round_trip() -> Callable[[int, int, int], float]:
    """Compile round_trip.cpp and return its function."""
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
    """Return the seconds of a cache line from the first to the second processor of this process and back.

    With one processor it is 0. It is the median of a few short runs, so that a thread which leaves its core for a
    moment does not look like a far core.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        return 0.0
    return statistics.median(_round_trip()(*processors[:2], 1000) for _ in range(7))


def _shortest(call: Callable[[], object], times: int) -> float:
    """Return the seconds of the quickest of `times` calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def product_rate(dtype: torch.dtype) -> float:
    """Return the micro-kernel's FLOP/s: of a product in the second-level cache, on one thread, times the threads."""
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
    """Return the bytes per second, read and written, that all threads together copy."""
    source = torch.ones(64 << 20)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _shortest(lambda: target.copy_(source), 5)
