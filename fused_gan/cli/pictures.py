"""The commands that make pictures with a trained system: `sample`, `interpolate`, `reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fused_gan.base.errors import require
from fused_gan.base.memory import memory_for
from fused_gan.base.seeds import require_seed
from fused_gan.cli.options import RunArgument, checked_file, made_folder, tell_shadowed
from fused_gan.data import load
from fused_gan.data.datasets import evenly_spaced, require_there
from fused_gan.data.images import save_grid, save_pngs, save_samples
from fused_gan.models.sampler import CHUNK
from fused_gan.systems.devices import resolve_device
from fused_gan.training import RunFolder, Sampler, load_sampler
from fused_gan.training.checkpoint import Checkpoints
from fused_gan.training.export import export_dataset


@dataclass(frozen=True)
class Sample:
    """Generate images with a trained system: a PNG grid and an NPZ."""

    folder: RunArgument
    """Run folder of the training."""

    count: int = 64
    """Images in the NPZ. Memory does not grow with their number."""

    grid: int = 64
    """Images in the PNG, at most."""

    seed: int = 0
    """Seed of the noise. Image i depends only on the seed, its label and i.
    The training's seed gives the images of its own grids."""

    labels: tuple[str, ...] = ()
    """For a conditional system, names of classes that the images take in turn: those of the data's folders, or the
    values of its labels. By default all classes."""

    truncation: float | None = None
    """Draw the noise from N(0, 1) cut off at plus and minus this value.
    Below 1, images get more typical and less diverse."""

    pngs: bool = False
    """Also write one PNG per image."""

    checkpoint: str | None = None
    """last, best, the name of a file in the run's folder checkpoints, or its path. None takes the last."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """Folder of the files. Existing files of the same name are replaced. None takes the run folder."""

    as_dataset: Path | None = None
    """For a conditional system: write a labelled data set into this new folder instead.
    It has one folder per class, one PNG per image, and dataset.json, which says how the images were made."""

    def __post_init__(self) -> None:
        for name in ("count", "grid"):
            value = getattr(self, name)
            require(value > 0, f"{name}: expected a positive integer, got {value}")
        require_seed(self.seed)
        require(
            self.truncation is None or self.truncation > 0,
            f"truncation: expected a number above 0, got {self.truncation}",
        )

    def run(self) -> int:
        sampler = load_sampler(self.folder, resolve_device(self.device), self.checkpoint)
        attempt = f"{_images(sampler, self.count)}, {CHUNK:,} at a time, and {self.grid:,} in a grid"
        with memory_for(attempt, "a smaller --count or --grid, or another --device, may help"):
            _make_room(sampler, min(self.grid, self.count))
            labels = sampler.labels_named(self.labels, self.count)
            return self._write(sampler, labels) if self.as_dataset is None else self._export(sampler, labels)

    def _write(self, sampler: Sampler, labels: torch.Tensor | None) -> int:
        stem = made_folder(self.out or self.folder) / f"samples-seed{self.seed}-count{self.count}"
        shown = min(self.grid, self.count)
        first = sampler.sample(shown, self.seed, None if labels is None else labels[:shown], self.truncation)
        save_grid(stem.with_suffix(".png"), first)
        chunks = sampler.chunks(self.count, self.seed, labels, self.truncation)
        label_array = None if labels is None else labels.numpy()
        save_samples(stem.with_suffix(".npz"), chunks, self.count, self.seed, label_array, sampler.class_names)
        if self.pngs:
            made_folder(stem)
            done = 0
            for chunk in sampler.chunks(self.count, self.seed, labels, self.truncation):
                save_pngs(stem, chunk, done)
                done += len(chunk)
            print(f"pictures: {stem}")
        print(f"images: {stem.with_suffix('.npz')}")
        print(f"samples: {stem.with_suffix('.png')}")
        return 0

    def _export(self, sampler: Sampler, labels: torch.Tensor | None) -> int:
        folder = self.as_dataset
        assert folder is not None
        require(
            self.out is None and not self.pngs,
            "as_dataset: it takes the place of --out and --pngs, give it without them",
        )
        run = RunFolder(self.folder)
        description = run.read_config()
        about = {
            "system": description.preset,
            "trained_on": description.training["data"],
            "checkpoint": Checkpoints(run.checkpoints, keep=1).file(self.checkpoint).name,
        }
        counts = export_dataset(folder, sampler, self.count, self.seed, labels, self.truncation, about)
        print(f"{self.count:,} images of {sum(map(bool, counts.values()))} classes")
        print(f"data set: {folder}")
        return 0


@dataclass(frozen=True)
class Interpolate:
    """Write a PNG grid of which each row goes from one sample to another."""

    folder: RunArgument
    """Run folder of the training."""

    rows: int = 8
    """Rows of the grid, each between two samples."""

    columns: int = 10
    """Images in a row, with both samples."""

    seed: int = 0
    """Seed of the noise."""

    checkpoint: str | None = None
    """last, best, the name of a file in the run's folder checkpoints, or its path. None takes the last."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """File to write. None takes interpolation-seedN.png in the run folder."""

    def __post_init__(self) -> None:
        require(self.rows > 0, f"rows: expected a positive integer, got {self.rows}")
        require(self.columns > 1, f"columns: expected an integer above 1, got {self.columns}")
        require_seed(self.seed)

    def run(self) -> int:
        sampler = load_sampler(self.folder, resolve_device(self.device), self.checkpoint)
        path = checked_file(self.out or self.folder / f"interpolation-seed{self.seed}.png")
        attempt = f"{_images(sampler, self.rows * self.columns)} at once"
        with memory_for(attempt, "fewer --rows or --columns take less"):
            _make_room(sampler, self.rows * self.columns)
            save_grid(path, sampler.interpolate(self.rows, self.columns, self.seed), self.columns)
        print(f"interpolation: {path}")
        return 0


@dataclass(frozen=True)
class Reconstruct:
    """Encode and decode images with a trained VAE, and write a PNG grid with each image beside its reconstruction."""

    folder: RunArgument
    """Run folder of the training."""

    data: str | None = None
    """Source of the images, as for training. None takes the data of the training."""

    count: int = 32
    """Images, spread evenly over the data."""

    checkpoint: str | None = None
    """last, best, the name of a file in the run's folder checkpoints, or its path. None takes the last."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """File to write. None takes reconstructions-countN.png in the run folder."""

    def __post_init__(self) -> None:
        require(self.count > 0, f"count: expected a positive integer, got {self.count}")

    def run(self) -> int:
        sampler = load_sampler(self.folder, resolve_device(self.device), self.checkpoint)
        training = RunFolder(self.folder).read_config().training
        if self.data is None:
            require_there(training["data"])
        tell_shadowed(self.data)
        images = load(self.data or training["data"], training["image_size"], training["channels"]).images
        images = images[evenly_spaced(self.count, len(images))]
        path = checked_file(self.out or self.folder / f"reconstructions-count{self.count}.png")
        with memory_for(f"{_images(sampler, len(images))} and their reconstructions", "a smaller --count takes less"):
            pairs = torch.stack((images, torch.from_numpy(sampler.reconstruct(images))), 1).flatten(0, 1)
            save_grid(path, pairs.numpy(), columns=8)
        print(f"reconstructions: {path}")
        return 0


def _images(sampler: Sampler, count: int) -> str:
    return f"{count:,} images of {'×'.join(map(str, sampler.image_shape))}"


def _make_room(sampler: Sampler, count: int) -> None:
    """Raise an error if memory cannot hold so many images. Linux would kill the process where they come one by one."""
    np.empty((count, *sampler.image_shape), np.uint8)
