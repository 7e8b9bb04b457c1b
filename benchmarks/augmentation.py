"""Measures whether generated digits help a classifier that has few real digits: `python -m benchmarks.augmentation`.

Each seed draws 500 digits from mnist-5k, 50 per class. A conditional GAN is trained on these digits alone, and makes
labelled digits. A classifier is trained on the 500 digits alone, and again on the 500 and generated digits. Both times
the initial weights and the number of steps are the same, and every image is moved, paled, blurred and made noisy a
little. The classifier is tested on the other 4,500 digits.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from fused_gan.base.errors import require
from fused_gan.base.files import atomic_write
from fused_gan.data import ImageData, load
from fused_gan.evaluation.classifier import Classifier
from fused_gan.evaluation.train_extractor import accuracy, fit_classifier
from fused_gan.study.statistics import FEWEST, studentised_interval
from fused_gan.training import configure, load_sampler, train
from fused_gan.training.export import export_dataset

REAL = 50  # real digits per class
GENERATED = (0, 500, 2000)  # generated digits beside the real ones
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Options:
    """The options of `main`."""

    out: Path = Path("runs/augmentation")
    """Folder for all results. Seeds that are done in it are not run again; a seed that was cut short begins anew."""

    seeds: int = 8
    """Number of choices of 500 digits. Each has its own GAN and classifiers."""

    gan_steps: int = 4000
    """Training steps of the conditional GAN."""

    classifier_steps: int = 600
    """Training steps of each classifier, on batches of 128 images."""

    threads: int = 1
    """CPU threads of torch."""

    @property
    def told(self) -> dict[str, int]:
        """The options that a seed's accuracies depend on, which are written beside the accuracies."""
        return {"gan_steps": self.gan_steps, "classifier_steps": self.classifier_steps}


def main(options: Options) -> None:
    """Run the seeds that are not done, and print a table of all seeds."""
    require(options.seeds >= FEWEST, f"seeds: expected {FEWEST} or more, which an interval needs, got {options.seeds}")
    torch.set_num_threads(options.threads)
    folders = [options.out / f"seed{seed}" for seed in range(options.seeds)]
    for seed, folder in enumerate(folders):
        if not (folder / "accuracies.json").is_file():
            content = {"options": options.told, "accuracies": experiment(folder, seed, options)}
            with atomic_write(folder / "accuracies.json") as temporary:
                temporary.write_text(json.dumps(content) + "\n")
    results = [read_accuracies(folder / "accuracies.json", options) for folder in folders]
    print(table(np.array([[result[str(count)] for count in GENERATED] for result in results])))


def read_accuracies(path: Path, options: Options) -> dict[str, float]:
    """Return the accuracies in a file.

    Raises:
        UserError: the accuracies were measured with other options.
    """
    content: dict[str, Any] = json.loads(path.read_text())
    require(
        content.get("options") == options.told,
        f"out: {path} is of options {content.get('options')}, expected {options.told}; name a new folder",
    )
    found: dict[str, float] = content["accuracies"]
    return found


def experiment(folder: Path, seed: int, options: Options) -> dict[str, float]:
    """Return the accuracy on the other digits, by the number of generated digits."""
    kept, others = split(load("mnist-5k"), seed)
    if folder.exists():
        shutil.rmtree(folder)  # what a killed process left of this seed
    folder.mkdir(parents=True)
    np.savez(folder / "real.npz", images=kept.images[:, 0].numpy(), labels=labels_of(kept).numpy())
    preset = configure(
        "cgan", data=str(folder / "real.npz"), out=folder / "cgan", steps=options.gan_steps, seed=seed, batch_size=32,
        lr=1e-3, z_dim=64, generator_widths=(64, 128, 256), discriminator_widths=(256, 128, 64), tensorboard=False,
        device="cpu", threads=options.threads,
    )  # fmt: skip
    train("cgan", preset.model, preset.training, Console(quiet=True))
    export_dataset(folder / "generated", load_sampler(folder / "cgan", CPU), max(GENERATED), seed)
    made = load(str(folder / "generated"))
    accuracies = {}
    for count in GENERATED:
        chosen = torch.arange(count) * max(GENERATED) // max(count, 1)  # the generated digits are sorted by class
        images = torch.cat((kept.images, made.images[chosen]))
        labels = torch.cat((labels_of(kept), labels_of(made)[chosen]))
        torch.manual_seed(seed)
        classifier = Classifier(kept.images.shape[1:], classes=10)
        fit_classifier(classifier, images, labels, options.classifier_steps, torch.Generator().manual_seed(seed))
        accuracies[str(count)] = accuracy(classifier, others.images, labels_of(others))
    return accuracies


def split(data: ImageData, seed: int) -> tuple[ImageData, ImageData]:
    """Return `REAL` images of each class, and all other images."""
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(seed))
    labels = labels_of(data)[order]
    ranks = torch.stack([(labels == label).cumsum(0) for label in range(10)], 1).gather(1, labels[:, None])[:, 0]
    kept, others = order[ranks <= REAL], order[ranks > REAL]
    return (
        ImageData(data.images[kept], labels_of(data)[kept]),
        ImageData(data.images[others], labels_of(data)[others]),
    )


def labels_of(data: ImageData) -> Tensor:
    """Return the labels of data, which all data here has."""
    assert data.labels is not None
    return data.labels


def table(accuracies: NDArray[np.float64]) -> str:
    """Return a Markdown table of accuracies (seeds, len(GENERATED))."""
    lines = [
        "| real | generated | accuracy | difference to real alone, 95 % interval |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for column, count in enumerate(GENERATED):
        percent = 100 * accuracies[:, column]
        gain = percent - 100 * accuracies[:, 0]
        interval = studentised_interval(gain)
        ends = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "too many equal differences"
        difference = f"{gain.mean():+.2f} ({ends})" if count else ""
        lines.append(f"| {10 * REAL} | {count:,} | {percent.mean():.2f} ± {percent.std(ddof=1):.2f} % | {difference} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
