"""Replays a training step as a CUDA graph: one launch instead of hundreds of launches and Python calls."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fused_gan.systems.batches import Batches
from fused_gan.systems.config import TrainingConfig

ORDINARY = 3  # calls before the recording


class StepGraph:
    """Calls a step: the first times as it is, later by replaying a recording of it.

    The first calls are ordinary steps, in which libraries and optimizers set up what they need. Recording executes
    nothing, so no state has to be saved before the recording and restored after it. A resumed run begins with ordinary
    steps again, and ends in the same bits.

    Args:
        step: the step. It reads and writes the same memory at each call, waits for nothing, draws no random numbers,
            and takes no value from the host that changes from call to call.
        device: where the step runs.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self._step, self._device = step, device
        # Autograd remembers the stream of a weight's first use, so all calls, the recorded one too, use one stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._ordinary_left = ORDINARY

    @property
    def recorded(self) -> bool:
        """Whether the next call replays the recording."""
        return self._graph is not None

    def __call__(self) -> None:
        """Take one step, after the work that the current stream has been given and before the work it will be given."""
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
    """Return why the step of a run cannot be replayed, or None if it can."""
    if data.device.type != "cuda":
        return f"it needs a CUDA device, not {data.device}"
    if processes > 1:
        return f"{processes} processes exchange gradients within the step"
    if data.on_host:
        return "the images are kept on the host, which copies them within the step"
    if config.mixed_precision == "fp16":
        return "fp16's loss scale is kept by the host; bf16 needs none"
    return None
