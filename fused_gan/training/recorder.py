"""Writes metrics, pictures and checkpoints of a run during training. Only one process writes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
import torch

from fused_gan.base.errors import Diverged
from fused_gan.base.files import writing
from fused_gan.base.memory import memory_for
from fused_gan.base.scores import SCORES, cost
from fused_gan.base.seeds import stream_seed
from fused_gan.data.datasets import evenly_spaced
from fused_gan.data.images import Pixels, make_grid, save_grid, to_uint8
from fused_gan.models.sampler import Sampler, draw_noise
from fused_gan.systems.config import TrainingConfig
from fused_gan.systems.gan import GAN
from fused_gan.systems.monitor import ACTIVE_KL, Look, Monitor, Verdict, as_json
from fused_gan.systems.vae import VAE
from fused_gan.training.checkpoint import Checkpoints
from fused_gan.training.description import RunDescription
from fused_gan.training.folder import RunFolder
from fused_gan.training.plots import draw_losses
from fused_gan.training.state import RunState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from fused_gan.evaluation import Evaluator

GRID_ROWS = 8
WIDEST = 16  # columns of a grid
INTERPOLATED = 10  # images from one latent to another
RECONSTRUCTED = 32  # real images, each shown beside its reconstruction


class Recorder:
    """Writes a run's files.

    All processes call its methods in the same places, because some numbers are means over all processes. Only the main
    process writes.

    Args:
        system: the system in training.
        sampler: the sampler of the system's pictures.
        folder: the run folder.
        description: the run's description, which goes into each checkpoint.
        monitor: the health monitor, whose memory goes into each checkpoint.
        evaluator: evaluates the run during training; None if it is not evaluated, and in all but the main process.
    """

    def __init__(
        self,
        system: GAN | VAE,
        sampler: Sampler,
        folder: RunFolder,
        description: RunDescription,
        monitor: Monitor,
        evaluator: Evaluator | None = None,
    ) -> None:
        self._system, self._sampler, self._folder, self._description = system, sampler, folder, description
        self._monitor, self._evaluator = monitor, evaluator
        self._evaluated_at = -1
        config = system.config
        self._writes = system.accelerator.is_main_process
        self._checkpoints = Checkpoints(folder.checkpoints, config.keep_checkpoints)
        self._columns = columns = grid_columns(sampler.classes)
        self._noise = draw_noise(config.seed, GRID_ROWS * columns, system.z_dim)
        self._labels = sampler.check_labels(None, len(self._noise))
        self._best = math.inf
        self._latest: dict[str, float] = {}
        self._start = self._logged_at = time.perf_counter()
        self._logged_step = system.steps_done
        self._tensorboard: SummaryWriter | None = None
        self.rollbacks = 0

    def open(self) -> None:
        """Open the TensorBoard files, to go on after the steps already done."""
        if self._writes and self._system.config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # takes a second: not at start-up

            with writing(self._folder.tensorboard):
                first = self._system.steps_done + 1
                self._tensorboard = SummaryWriter(str(self._folder.tensorboard), purge_step=first)

    def close(self) -> None:
        """Close the files that are still open."""
        if self._tensorboard is not None:
            with writing(self._folder.tensorboard):
                self._tensorboard.close()

    def log(self) -> tuple[dict[str, float], float]:
        """Write a line of metrics; return the mean losses and the images per second since the last line.

        Raises:
            Diverged: a loss is not finite.
        """
        losses = self._system.mean_losses()  # waits for the device, so the clock is read after it
        now, step = time.perf_counter(), self._system.steps_done
        images_per_second = (step - self._logged_step) * self._system.batch_size / (now - self._logged_at)
        self._logged_at, self._logged_step = now, step
        if not all(map(math.isfinite, losses.values())):
            raise Diverged(f"training diverged: by step {step} a loss is not finite ({losses}); try a smaller lr")
        self._latest.update(losses)
        self._write({"step": step} | losses | {"images_per_second": images_per_second, "seconds": now - self._start})
        return losses, images_per_second

    def look(self) -> list[Verdict]:
        """Let the health monitor look; write its findings and return its verdicts."""
        look, verdicts = self._monitor.look()
        if self._writes:
            self._folder.add_line(self._folder.health, as_json(look, verdicts))
            self._add_scalars(look.step, {f"health/{name}": value for name, value in curve_values(look).items()})
        return verdicts

    def evaluate(self) -> None:
        """Evaluate the system and write the scores, unless they were written for this step already."""
        system = self._system
        if self._evaluator is None or self._evaluated_at == system.steps_done:
            return
        self._evaluated_at = system.steps_done
        with memory_for_evaluation(system.config):
            scores = self._evaluator.scores(self._sampler, system.likelihood)
        self._latest.update(scores)
        self._write({"step": system.steps_done} | scores)

    def draw(self) -> None:
        """Write a grid of samples from the run's fixed noise, and for a VAE also a grid of reconstructions."""
        if not self._writes:
            return
        self._save_pictures("samples", self._sampler.images(self._noise, self._labels), self._columns)
        if self._sampler.reconstructs:
            self._save_pictures("reconstructions", self._reconstructions(), GRID_ROWS)

    def finish(self) -> None:
        """Write the pictures of the end of a run: the interpolation and the losses."""
        if self._writes:
            pictures = self._sampler.interpolate(GRID_ROWS, INTERPOLATED, self._system.config.seed)
            save_grid(self._folder.interpolation, pictures, INTERPOLATED)
            draw_losses(self._folder)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            Diverged: a weight is not finite. The previous checkpoint stays.
        """
        system = self._system
        if not system.is_finite():
            raise Diverged(f"training diverged: at step {system.steps_done} a weight is not finite; try a smaller lr")
        if not self._writes:
            return
        if system.config.best_metric in SCORES:
            self.evaluate()
        step, scores = system.steps_done, system.scores()
        self._latest.update(scores)
        self._write({"step": step} | scores)
        name = system.config.best_metric
        score = cost(name, self._latest[name]) if name in self._latest else math.inf
        is_best = score < self._best  # a score that is NaN never is
        if is_best:
            self._best = score
        self._checkpoints.save(step, self._description.to_json(), self._state().to_dict(), is_best)

    def restore(self, state: RunState) -> None:
        """Go back to a checkpoint's state, and remove what was logged after it."""
        self._system.load_state_dict(state.system)
        self._best, self._latest = state.best, dict(state.latest)
        self._monitor.load_state_dict(state.monitor)
        self._evaluated_at = -1
        self.rollbacks = max(self.rollbacks, state.rollbacks)
        self._logged_at, self._logged_step = time.perf_counter(), state.logged_step
        self._start = time.perf_counter() - state.seconds
        if self._writes:
            self._folder.rewind(self._system.steps_done)

    def roll_back(self, state: RunState) -> None:
        """Restore a state and go on with other noise. With the same noise, the run would fail in the same way."""
        self.restore(state)
        self.rollbacks += 1
        seed = stream_seed(self._system.config.seed, f"training after rollback {self.rollbacks}")
        self._system.random.manual_seed(seed)
        if self._writes:
            self._checkpoints.forget_after(self._system.steps_done)

    def _state(self) -> RunState:
        return RunState(
            system=self._system.state_dict(),
            best=self._best,
            latest=self._latest,
            monitor=self._monitor.state_dict(),
            rollbacks=self.rollbacks,
            logged_step=self._logged_step,
            seconds=time.perf_counter() - self._start,
        )

    def _write(self, values: Mapping[str, float]) -> None:
        if self._writes:
            self._folder.add_line(self._folder.metrics, values)
            self._add_scalars(int(values["step"]), {name: value for name, value in values.items() if name != "step"})

    def _add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            with writing(self._folder.tensorboard):
                for name, value in values.items():
                    self._tensorboard.add_scalar(name, value, step)

    def _save_pictures(self, name: str, images: Pixels, columns: int) -> None:
        step, folder = self._system.steps_done, self._folder.path / name
        folder.mkdir(exist_ok=True)
        for path in (folder / f"step-{step:07d}.png", self._folder.path / f"{name}.png"):
            save_grid(path, images, columns)
        if self._tensorboard is not None:
            with writing(self._folder.tensorboard):
                self._tensorboard.add_image(name, make_grid(images, columns), step, dataformats="HWC")

    def _reconstructions(self) -> Pixels:
        """Return real images and their reconstructions in turn: (2 N, C, H, W) uint8."""
        data = self._system.data
        images = data.take(evenly_spaced(RECONSTRUCTED, len(data)).to(data.device))
        real = to_uint8(images, self._sampler.value_range)
        decoded = self._sampler.reconstruct(torch.from_numpy(real))
        return np.stack((real, decoded), 1).reshape(-1, *real.shape[1:])


def grid_columns(classes: int) -> int:
    """Return how many columns a grid of samples has: one for each class, if there are classes and they fit."""
    return classes if 0 < classes <= WIDEST else GRID_ROWS


def memory_for_evaluation(config: TrainingConfig) -> AbstractContextManager[None]:
    """Return the context that says what an evaluation during training takes, and what takes less."""
    less = "fewer --evaluate-samples, or --evaluate-every 0, take less"
    return memory_for(f"an evaluation of {config.evaluate_samples:,} images during training", less)


def curve_values(look: Look) -> dict[str, float]:
    """Return the values of a look that TensorBoard shows as curves."""
    found = {f"gradient norm of {name}": value for name, value in look.network_norms.items()}
    for name in ("accuracy_real", "accuracy_fake", "diversity", "data_diversity"):
        value = getattr(look, name)
        if value is not None:
            found[name.replace("_", " ")] = value
    for name, shares in (("dead units", look.dead), ("saturated units", look.saturated)):
        if shares:
            found[f"{name}, worst layer"] = max(shares.values())
    if look.kl:
        found["active latent dimensions"] = float(sum(value > ACTIVE_KL for value in look.kl))
    return found
