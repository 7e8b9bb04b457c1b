"""The subcommands, each a dataclass: its fields are the options, their docstrings the help, `run()` the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fused_gan import doctor
from fused_gan.errors import require
from fused_gan.images import save_grid, save_samples
from fused_gan.models import MLPGANConfig
from fused_gan.training import TrainingConfig, load_sampler, train
from fused_gan.training.config import resolve_device


@dataclass(frozen=True)
class TrainMLPGAN:
    """Train a GAN of fully connected layers.

    Leaves in its run folder: config.json, metrics.jsonl, checkpoint.safetensors, samples/ and samples.png.
    Ctrl-C ends it early with everything saved.
    """

    model: MLPGANConfig = field(default_factory=MLPGANConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def run(self) -> int:
        result = train("mlp-gan", self.model, self.training)
        status = 0
        if result.stopped_by is not None:
            print(f"stopped by {result.stopped_by.name} after step {result.steps_done}; everything is saved")
            status = 128 + result.stopped_by
        print(f"samples: {result.folder.picture}")
        return status


@dataclass(frozen=True)
class Sample:
    """Generate images with a trained generator: a PNG grid and an NPZ."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Run folder of the training."""

    count: int = 64
    """How many images the NPZ gets."""

    grid: int = 64
    """How many of them, at most, the PNG shows."""

    seed: int = 0
    """Image i depends on the seed and on i alone. The seed of the training gives the images of its own grids."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """Folder for both files; by default the run folder. Existing files of the same name are replaced."""

    def __post_init__(self) -> None:
        require(self.count > 0, f"count: expected a positive integer, got {self.count}")
        require(self.grid > 0, f"grid: expected a positive integer, got {self.grid}")
        require(self.seed >= 0, f"seed: expected 0 or a positive integer, got {self.seed}")

    def run(self) -> int:
        images = load_sampler(self.folder, resolve_device(self.device)).sample(self.count, self.seed)
        out = self.folder if self.out is None else self.out
        require(not out.exists() or out.is_dir(), f"out: {out} is a file, expected a folder")
        out.mkdir(parents=True, exist_ok=True)
        stem = f"samples-seed{self.seed}-count{self.count}"
        save_samples(out / f"{stem}.npz", images, self.seed)
        save_grid(out / f"{stem}.png", images[: self.grid])
        print(f"images: {out / f'{stem}.npz'}")
        print(f"samples: {out / f'{stem}.png'}")
        return 0


@dataclass(frozen=True)
class Doctor:
    """Show versions, build facts and devices, and what is missing and how to get it."""

    def run(self) -> int:
        return doctor.report()


def parse(arguments: Sequence[str]) -> TrainMLPGAN | Sample | Doctor:
    """The command that `arguments` name.

    Raises:
        UserError: an option's value is out of range.
        SystemExit: 2 on words that cannot be parsed, 0 after --help; the text is printed.
    """
    systems = tyro.extras.SubcommandApp()
    systems.command(name="mlp-gan")(TrainMLPGAN)
    app = tyro.extras.SubcommandApp()
    app.command(systems, name="train", help="Train a system.")
    app.command(name="sample")(Sample)
    app.command(name="doctor")(Doctor)
    command: TrainMLPGAN | Sample | Doctor = app.cli(
        prog="fused-gan",
        description="Train GANs on fused layers, and sample from them.",
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    return command
