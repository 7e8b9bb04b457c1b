"""A training run: from two configurations to a run folder with weights, metrics and pictures."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import fused_gan
from fused_gan.data import load
from fused_gan.errors import Diverged
from fused_gan.images import from_uint8, save_grid, to_uint8
from fused_gan.models import MLPGANConfig
from fused_gan.training.checkpoint import save_checkpoint
from fused_gan.training.config import TrainingConfig, cuda_obstacle, resolve_device, stream_seed
from fused_gan.training.folder import RunFolder
from fused_gan.training.gan import GAN
from fused_gan.training.interrupt import StopSignal
from fused_gan.training.progress import ProgressView, progress_view
from fused_gan.training.sampling import draw_noise

GRID_COUNT = 64


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its folder, the steps done, and the signal that stopped it early, if one did."""

    folder: RunFolder
    steps_done: int
    stopped_by: signal.Signals | None


def train(preset: str, model: MLPGANConfig, config: TrainingConfig, console: Console | None = None) -> RunResult:
    """Train a system and leave its run folder, as `RunFolder` describes it.

    Each line of `metrics.jsonl` has `step`, the mean losses since the line before, `images_per_second` and `seconds`
    since the start. SIGINT (Ctrl-C) and SIGTERM end the run after the step at hand, with everything saved.

    Args:
        preset: the system's name in `fused_gan.models.PRESETS`.
        model: its configuration.
        config: data, optimisation, intervals and the folder.
        console: where progress goes; standard output by default.

    Raises:
        UserError: the data, the device or the folder cannot be used; nothing was written.
        Diverged: a loss or a weight became infinite or NaN; the last checkpoint is from before.
        OSError: from the file system.
    """
    console = console or Console()
    device = resolve_device(config.device)
    folder = RunFolder(config.out or Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}")
    folder.require_new()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    images = load(config.data).images
    gan = build_gan(model, config, images, device)
    if config.device == "auto" and device.type == "cpu":
        console.print(f"device auto: cpu, as {cuda_obstacle()}", highlight=False)
    channels, height, width = images.shape[1:]
    description = {
        "preset": preset,
        "model": dataclasses.asdict(model),
        "training": dataclasses.asdict(config) | {"device": str(device), "out": str(folder.path)},
        "image_shape": [channels, height, width],
        "versions": {"fused_gan": fused_gan.__version__, "torch": torch.__version__},
    }
    folder.create(description)
    console.print(
        f"{preset} on {device}, {len(images):,} images of {channels}×{height}×{width} from {config.data}, "
        f"run folder {folder.path}",
        highlight=False,
        soft_wrap=True,
    )
    noise = draw_noise(config.seed, GRID_COUNT, model.z_dim)
    recorder = _Recorder(gan, folder, description, noise, model.value_range)
    with StopSignal() as stop, progress_view(console, preset, config.steps, config.batch_size) as view:
        _loop(gan, config, recorder, view, stop)
    return RunResult(folder, gan.steps_done, stop.received)


def build_gan(model: MLPGANConfig, config: TrainingConfig, images: Tensor, device: torch.device) -> GAN:
    """Both networks with weights from `config.seed`, and the data, on `device`.

    The weights are drawn on the CPU, so that a run starts from the same ones on any device; torch's default random
    stream is left as it was.

    Args:
        model: which networks.
        config: seed, dtype and what `GAN` takes.
        images: uint8 (N, C, H, W).
        device: where to train.
    """
    shape = images.shape[1:]
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed every CUDA device as well.
        torch.default_generator.manual_seed(stream_seed(config.seed, "weights"))
        generator, discriminator = model.build_generator(shape), model.build_discriminator(shape)
    # Small data lives on the device whole: at ten thousand steps a second no worker process would keep up.
    real = from_uint8(images.to(device), model.value_range, config.torch_dtype)
    return GAN(generator.to(real), discriminator.to(real), real, model.z_dim, config)


def _loop(gan: GAN, config: TrainingConfig, recorder: _Recorder, view: ProgressView, stop: StopSignal) -> None:
    for step in range(1, config.steps + 1):
        gan.step()
        last = step == config.steps or stop.received is not None
        if last or step % config.log_interval == 0:
            view.report(step, *recorder.log())
        if last or (config.sample_interval and step % config.sample_interval == 0):
            recorder.draw()
        if last or (config.checkpoint_interval and step % config.checkpoint_interval == 0):
            recorder.save()
        if last:
            return


class _Recorder:
    """Writes a run's metrics, pictures and checkpoints."""

    def __init__(
        self,
        gan: GAN,
        folder: RunFolder,
        description: dict[str, Any],
        noise: Tensor,
        value_range: tuple[float, float],
    ) -> None:
        self._gan = gan
        self._folder = folder
        self._description = description
        self._noise = noise
        self._value_range = value_range
        self._start = self._logged_at = time.perf_counter()
        self._logged_step = gan.steps_done

    def log(self) -> tuple[dict[str, float], float]:
        """Write a line of metrics; return the mean losses and the images a second since the last one."""
        losses = self._gan.mean_losses()  # waits for the device, so the clock is read after it
        now, step = time.perf_counter(), self._gan.steps_done
        images_per_second = (step - self._logged_step) * self._gan.batch_size / (now - self._logged_at)
        self._logged_at, self._logged_step = now, step
        if not all(map(math.isfinite, losses.values())):
            raise Diverged(f"training diverged: by step {step} a loss is not finite ({losses}); try a smaller lr")
        self._folder.add_metrics(
            {"step": step} | losses | {"images_per_second": images_per_second, "seconds": now - self._start}
        )
        return losses, images_per_second

    def draw(self) -> None:
        """Write a grid of samples from the run's fixed noise."""
        images = to_uint8(self._gan.generate(self._noise), self._value_range)
        for path in (self._folder.samples / f"step-{self._gan.steps_done:07d}.png", self._folder.picture):
            save_grid(path, images)

    def save(self) -> None:
        """Write the checkpoint, unless a weight is no longer finite: the one before stays."""
        if not self._gan.is_finite():
            raise Diverged(
                f"training diverged: at step {self._gan.steps_done} a weight is not finite; try a smaller lr"
            )
        save_checkpoint(self._folder.checkpoint, self._description, self._gan.state_dict())
