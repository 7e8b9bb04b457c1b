"""The commands `fused-gan train` and `fused-gan resume`."""

from __future__ import annotations

import dataclasses
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import tyro
from accelerate import PartialState

from fused_gan.base.files import NotWritten
from fused_gan.cli.options import RunArgument, optional_fields
from fused_gan.models import GANModel, VAEModel
from fused_gan.systems.config import RUNTIME
from fused_gan.training import RunResult, TrainingConfig, resume, train

STOPPED_BY_VERDICT = 1
Runtime = optional_fields(
    TrainingConfig, RUNTIME, "Where to compute, and how often to write what. None keeps the run's value."
)


@dataclass(frozen=True)
class Train:
    """The command `fused-gan train PRESET` with its options."""

    preset: str
    model: GANModel | VAEModel
    training: TrainingConfig

    def run(self) -> int:
        return _print_end(train(self.preset, self.model, self.training))


@dataclass(frozen=True)
class Resume:
    """Continue a run that ended early or was killed, as if it had never stopped.

    Only these fields of the training can change: steps, where to compute, and how often to write what."""

    folder: RunArgument
    """Run folder of the training."""

    steps: int | None = None
    """Train to this step. None keeps the run's value."""

    checkpoint: str | None = None
    """Checkpoint to continue from: last, best, or a file in the run's folder checkpoints. None takes the last."""

    data: str | None = None
    """New place of the data, if it has moved. The images have to be those that the run was begun with."""

    runtime: Annotated[Any, tyro.conf.arg(constructor=Runtime)] = dataclasses.field(default_factory=Runtime)

    def run(self) -> int:
        return _print_end(resume(self.folder, self.steps, self.checkpoint, data=self.data, **vars(self.runtime)))


def _print_end(result: RunResult) -> int:
    """Print how a run ended; return the exit status.

    Raises:
        NotWritten: standard output could not be written, and so ended the run.
    """
    if result.lost_output:
        saved = f"everything is saved after step {result.steps_done}, fused-gan resume {result.folder.path} goes on"
        raise NotWritten(None, f"{result.lost_output}; {saved}")
    unread = result.stopped_by == signal.SIGPIPE
    say = partial(PartialState().print, file=sys.stderr if unread else sys.stdout)  # once, from one of the processes
    status = 0
    if result.stopped_by is not None:
        say(f"stopped by {result.stopped_by.name} after step {result.steps_done}; everything is saved")
        say(f"go on with: fused-gan resume {result.folder.path}")
        status = 128 + result.stopped_by
    if result.stopped_by_verdict:
        say(f"stopped by the health monitor after step {result.steps_done}; everything is saved")
        status = STOPPED_BY_VERDICT
    say(f"samples: {result.folder.picture}")
    return status
