"""The peak of a call's memory, byte by byte as torch's allocator hands it out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Thread

import torch
from torch.profiler import ProfilerActivity, profile


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes that `call`, its result included, holds at a time beyond what was there before.

    Summed from the allocations that torch's profiler records: exact and the same on every run, where the resident size
    depends on pages, heaps and what ran before. Buffers inside of MKL and oneDNN, which only stock's products use, are
    not seen. It runs in a thread of its own, which has kept no scratch memory from earlier calls: that is counted too.
    """
    events = []

    def record() -> None:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            result = call()
        events.extend(event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
        del result

    gc.collect()  # garbage from before, freed while it is measured, would make the peak look lower
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
