"""Shows the progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fused_gan.base.files import cannot_write_output, discard


class _Outlet:
    """A file for a console. After the first error its text goes nowhere: the reader has gone, or the disk is full."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._attempt(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._file.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _attempt(self, write: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            write()
        except OSError as error:
            self.error = error
            discard(self._file)


class Output(Console):
    """Standard output. A run outlives it: where its reader has gone, as of ``| head``, or its disk is full, the run can
    still be saved.
    """

    def __init__(self) -> None:
        self._outlet = _Outlet(sys.stdout)
        super().__init__(file=cast(TextIO, self._outlet))

    @property
    def error(self) -> OSError | None:
        """The first error of writing, if there was one."""
        return self._outlet.error


def is_closed(console: Console) -> bool:
    """Whether nothing that is printed arrives any more."""
    return isinstance(console, Output) and console.error is not None


def lost_output(console: Console) -> str:
    """Return in words why nothing arrives, or "" where it does or where the reader has gone and wants no word."""
    error = console.error if isinstance(console, Output) else None
    return "" if error is None else cannot_write_output(error)


class ProgressView(Protocol):
    """A context manager that shows reports."""

    def __enter__(self) -> ProgressView: ...

    def __exit__(self, *exception: object) -> None: ...

    def report(self, step: int, losses: Mapping[str, float], images_per_second: float) -> None:
        """Show the steps done, and the mean losses and the images per second since the last report."""

    def tell(self, message: str) -> None:
        """Show a message, as a verdict of the health monitor, on a line that stays."""


def progress_view(console: Console, name: str, steps: int, batch_size: int) -> ProgressView:
    """Return a live bar if `console` is a terminal, otherwise lines of text, for a run of `steps` steps."""
    if console.is_terminal:
        return LiveBar(console, name, steps)
    return PlainLines(console, name, steps, batch_size)


def losses_and_speed(losses: Mapping[str, float], images_per_second: float) -> str:
    """Return losses and speed on one line, as `discriminator_loss 0.693  generator_loss 0.693  3,210 images/s`."""
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items()) + f"  {images_per_second:,.0f} images/s"


class LiveBar:
    """One line that redraws itself, with name, bar, step, losses, images/s and time left."""

    def __init__(self, console: Console, name: str, steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),  # the line fits into 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._task = self._progress.add_task(name, total=steps, losses="")

    def __enter__(self) -> LiveBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def report(self, step: int, losses: Mapping[str, float], images_per_second: float) -> None:
        short = {
            name.replace("discriminator", "D").replace("generator", "G").replace("_loss", ""): value
            for name, value in losses.items()
        }
        self._progress.update(self._task, completed=step, losses=losses_and_speed(short, images_per_second))

    def tell(self, message: str) -> None:
        self._progress.console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)


class PlainLines:
    """A line of text at most every `SECONDS`, and one for the last step."""

    SECONDS = 5.0

    def __init__(self, console: Console, name: str, steps: int, batch_size: int) -> None:
        self._console = console
        self._name = name
        self._steps = steps
        self._batch_size = batch_size
        self._next = 0.0

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def report(self, step: int, losses: Mapping[str, float], images_per_second: float) -> None:
        now = time.monotonic()
        if now < self._next and step < self._steps:
            return
        self._next = now + self.SECONDS
        left = (self._steps - step) * self._batch_size / images_per_second
        numbers = losses_and_speed(losses, images_per_second)
        self._console.print(
            f"{self._name}  step {step}/{self._steps}  {numbers}  {left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )

    def tell(self, message: str) -> None:
        self._console.print(f"{self._name}  {message}", markup=False, highlight=False, soft_wrap=True)
