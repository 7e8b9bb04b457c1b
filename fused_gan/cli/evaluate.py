"""The commands `fused-gan evaluate`, `extractor` and `report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from fused_gan.cli.options import RunArgument, checked_file
from fused_gan.systems.devices import resolve_device
from fused_gan.training import RunFolder
from fused_gan.training.report import write_report


@dataclass(frozen=True)
class Evaluate:
    """Score a trained system against real images, print a table and keep it in the run folder.

    Generated and real images are compared in the features of a small classifier: no download. For VAEs also ELBO,
    IWAE bound, reconstruction error and active units."""

    folder: RunArgument
    """Run folder of the training."""

    checkpoint: str = "last"
    """last or best of a finished run, or a file in the folder checkpoints."""

    samples: int = 2000
    """Generated images; as many real ones are on the other side, and as many others give the floor."""

    seed: int = 0
    """Of the noise and of the choice of real images."""

    extractor: str | None = None
    """mnist-5k or fashion-mnist, which ship, or a file that fused-gan extractor wrote. By default that of the
    training, or the one that ships for the data."""

    data: str | None = None
    """Where the real images come from, as for training: images held out from it. By default the data of the
    training."""

    inception: Path | None = None
    """File with Inception's weights (torch-fidelity's weights-inception-2015-12-05-6726825d.pth): adds true FID and
    Inception Score. It needs pip install 'fused_gan[inception]', 2,049 samples or more, and minutes."""

    iwae_k: int = 50
    """For VAEs: latents drawn for each image in the IWAE bound."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def run(self) -> int:
        from fused_gan.evaluation.table import print_evaluation
        from fused_gan.training.evaluate import evaluate  # torchmetrics takes a second: not at start-up

        evaluation = evaluate(
            self.folder,
            checkpoint=self.checkpoint,
            samples=self.samples,
            seed=self.seed,
            extractor=self.extractor,
            data=self.data,
            inception=self.inception,
            iwae_k=self.iwae_k,
            device=self.device,
        )
        print_evaluation(evaluation, Console())
        print(f"evaluation: {RunFolder(self.folder).evaluation}")
        return 0


@dataclass(frozen=True)
class Extractor:
    """Train a classifier whose features fused-gan evaluate compares images in: for data none ships for."""

    data: str
    """Where the images come from, as for training. They need class labels."""

    image_size: int | None = None
    """Resize to this many pixels a side, as the training does."""

    channels: Literal[1, 3] | None = None
    """1 for grey images, 3 for RGB."""

    steps: int = 3000
    """Batches of 128 images."""

    seed: int = 0
    """Of weights, batches and the choice of the images that accuracy is measured on."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """The file; by default extractor-DATA.safetensors. An existing one is replaced."""

    def run(self) -> int:
        from fused_gan.evaluation import train_extractor

        path = checked_file(self.out or Path(f"extractor-{Path(self.data).stem}.safetensors"))
        device = resolve_device(self.device)
        made = train_extractor(self.data, path, self.image_size, self.channels, self.steps, self.seed, device)
        about = made.about
        print(f"{made.name}: accuracy {about.accuracy:.2%} on {about.held_out:,} images held out of {self.data}")
        print(f"extractor: {path}")
        return 0


@dataclass(frozen=True)
class Report:
    """Write a run's curves, pictures and verdicts as one HTML page that needs no other file."""

    folder: RunArgument
    """Run folder of the training."""

    out: Path | None = None
    """The page; by default report.html in the run folder."""

    def run(self) -> int:
        out = None if self.out is None else checked_file(self.out)
        print(f"report: {write_report(RunFolder(self.folder), out)}")
        return 0
