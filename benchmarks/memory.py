"""Measures the peak memory of a call, from the allocations of torch's allocator."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Thread

import torch
from torch.profiler import ProfilerActivity, profile


def peak_memory(call: Callable[[], object]) -> int:
    """Return the most bytes that `call`, its result included, holds at a time beyond what was allocated before.

    They are summed from the allocations that torch's profiler records. The sum is exact and the same on every run, but
    the resident size would depend on pages, heaps and what ran before. Buffers inside of MKL and oneDNN, which only
    stock PyTorch's products use, are not counted. The call runs in a new thread, which does not yet own scratch memory
    from earlier calls, so that scratch memory is counted too.
    """
    events = []

    def record() -> None:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            result = call()
        events.extend(event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
        del result

    gc.collect()  # older garbage, freed during the measurement, would make the peak look lower
    thread = Thread(target=record)
    thread.start()
    thread.join()
    if not events:
        raise RuntimeError(f"torch {torch.__version__}'s profiler recorded no allocation of the call")
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
