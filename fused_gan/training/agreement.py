"""Lets several processes act as one: they take the same folder, fail together and stop at the same step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from fused_gan.base.errors import UserError
from fused_gan.base.lock import locked
from fused_gan.training.folder import RunFolder

SECONDS = 2.0  # between two questions. A launcher ends the processes some 30 s after it asked them to stop


class Agreement:
    """Asks all processes now and then whether one of them was asked to stop.

    The question costs as much as a small reduction. It is asked at steps that all processes know: after 1, 2, 4 … steps
    at first, and then as many steps apart as take about `SECONDS`.

    Args:
        accelerator: this process's.
        device: the device of its tensors.
    """

    def __init__(self, accelerator: Accelerator, device: torch.device) -> None:
        self._accelerator, self._device = accelerator, device
        self._next, self._interval = 0, 1
        self._asked_at = time.monotonic()

    def reached(self, asked: bool, step: int) -> bool:
        """Return whether all processes stop behind this step. Every process has to call this behind every step.

        Args:
            asked: whether this process was asked to stop.
            step: the number of the step.
        """
        if step < self._next:
            return False
        seconds = time.monotonic() - self._asked_at
        mine = torch.tensor([float(asked), seconds], dtype=torch.float64, device=self._device)
        total, seconds_of_all = self._accelerator.reduce(mine, "sum").tolist()
        # All compute the same interval, from a sum that all have.
        each = seconds_of_all / self._accelerator.num_processes / self._interval
        self._interval = max(1, min(2 * self._interval, int(SECONDS / max(each, 1e-9))))
        self._next = step + self._interval
        self._asked_at = time.monotonic()
        return bool(total > 0)


def in_all(attempt: Callable[[], None]) -> None:
    """Call `attempt` in every process. If one raises `UserError`, raise it in all, because they would wait for it."""
    refusal = None
    try:
        attempt()
    except UserError as error:
        refusal = str(error)
    refusals = [text for text in gather_object([refusal]) if text is not None]
    if refusals:
        raise UserError(refusals[0])


def agreed(accelerator: Accelerator, path: Path | None) -> Path:
    """Return the main process's path, which alone names a folder where nobody did."""
    [agreed] = broadcast_object_list([path])
    return Path(agreed)


@contextlib.contextmanager
def alone_in(folder: RunFolder, accelerator: Accelerator, check: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock within the context, because two writers would cut back each other's logs and checkpoints.

    Args:
        folder: the run folder.
        accelerator: this process's.
        check: raises `UserError` if another process wrote to the folder before this one got the lock.
    """
    refusal = f"run: another process is training in {folder.path}; wait for it, or end it"
    with contextlib.ExitStack() as held:

        def lock() -> None:
            if accelerator.is_main_process:
                folder.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(folder.lock, refusal))

        in_all(lock)
        in_all(check)
        yield
