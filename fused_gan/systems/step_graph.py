"""A training step as a CUDA graph: one launch, and nothing of Python's, where there were some hundred of each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fused_gan.systems.batches import Batches
from fused_gan.systems.config import TrainingConfig

ORDINARY = 3  # calls before the recording


class StepGraph:
    """Calls a step; first as it is, then by replaying a recording of it.

    The first calls are steps like all others, in which libraries and optimizers set up what they need, and recording
    executes nothing. So there is no state to save before it and to put back after it, and a resumed run, which begins
    with ordinary steps again, ends in the same bits.

    Args:
        step: reads and writes the same memory at each call, waits for nothing, draws no random numbers, and takes no
            value from the host that changes from call to call.
        device: where it runs.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self._step, self._device = step, device
        # Autograd remembers the stream of a weight's first use: all calls, the recorded one too, are made on one.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._ordinary_left = ORDINARY

    @property
    def recorded(self) -> bool:
        """Whether the next call replays."""
        return self._graph is not None

    def __call__(self) -> None:
        """Take one step, behind what the current stream has been given, and before what it will be."""
        with torch.cuda.device(self._device):
            if self._ordinary_left:
                self._ordinary_left -= 1
                self._call()
                return
            if self._graph is None:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=self._stream):
                    self._step()
                self._graph = graph
            self._graph.replay()

    def _call(self) -> None:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._step()
        current.wait_stream(self._stream)


def graph_obstacle(config: TrainingConfig, data: Batches, processes: int) -> str | None:
    """Why the step of such a run cannot be replayed, or None if it can."""
    if data.device.type != "cuda":
        return f"it needs a CUDA device, not {data.device}"
    if processes > 1:
        return f"{processes} processes exchange gradients within the step"
    if data.on_host:
        return "the images are kept on the host, which copies them within the step"
    if config.mixed_precision == "fp16":
        return "fp16's loss scale is kept by the host; bf16 needs none"
    return None
