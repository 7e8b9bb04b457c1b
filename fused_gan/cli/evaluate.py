"""The commands `fused-gan evaluate`, `extractor` and `report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from fused_gan.base.seeds import require_seed
from fused_gan.cli.options import RunArgument, checked_file, tell_shadowed
from fused_gan.systems.devices import resolve_device
from fused_gan.training import RunFolder
from fused_gan.training.report import write_report


@dataclass(frozen=True)
class Evaluate:
    """Score a trained system against real images, print a table and keep it in the run folder.

    Generated and real images are compared in the features of a small classifier, without a download. For VAEs, ELBO,
    IWAE bound, reconstruction error and active units are computed as well."""

    folder: RunArgument
    """Run folder of the training."""

    checkpoint: str = "last"
    """last or best of a finished run, the name of a file in its folder checkpoints, or its path."""

    samples: int = 2000
    """Generated images, compared with as many real images.
    As many other real images in their place give the baseline, called real against real."""

    seed: int = 0
    """Seed of the noise and of the choice of real images."""

    extractor: str | None = None
    """The classifier: mnist-5k or fashion-mnist, which come with the package, or a file that fused-gan extractor wrote.
    None takes the classifier of the training, or the package's own for the data.
    none leaves its scores out, for FID and Inception Score alone, or for those that a VAE has without it."""

    data: str | None = None
    """Source of the real images, as for training, for example images that were held out.
    None takes the data of the training."""

    inception: Path | None = None
    """File with Inception's weights (torch-fidelity's weights-inception-2015-12-05-6726825d.pth).
    It adds true FID and Inception Score.
    It takes minutes, and needs 2,049 samples or more and pip install 'fused_gan[inception]'."""

    iwae_k: int = 50
    """For VAEs, latents drawn per image in the IWAE bound."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """File for the result, as of a run that may only be read. None takes evaluation.json in the run folder."""

    def __post_init__(self) -> None:
        require_seed(self.seed)

    def run(self) -> int:
        from fused_gan.evaluation.table import print_evaluation
        from fused_gan.training.evaluate import evaluate  # torchmetrics takes a second: not at start-up

        out = None if self.out is None else checked_file(self.out)
        tell_shadowed(self.data)
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
            out=out,
        )
        print_evaluation(evaluation, Console())
        print(f"evaluation: {out or RunFolder(self.folder).evaluation}")
        return 0


@dataclass(frozen=True)
class Extractor:
    """Train a classifier in whose features fused-gan evaluate compares images, for data without one in the package."""

    data: str
    """Source of the images, as for training. Without class labels, the classifier learns to tell in which of four
    positions an image is."""

    image_size: int | None = None
    """Resize the images to this many pixels per side, as the training does."""

    channels: Literal[1, 3] | None = None
    """1 for grey images, 3 for RGB."""

    steps: int = 3000
    """Training steps, each with 128 images."""

    seed: int = 0
    """Seed of the weights, of the batches and of the choice of the images that measure accuracy."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """File to write. An existing file is replaced. None takes extractor-DATA.safetensors."""

    def __post_init__(self) -> None:
        require_seed(self.seed)

    def run(self) -> int:
        from fused_gan.evaluation import train_extractor

        path = checked_file(self.out or Path(f"extractor-{Path(self.data).stem}.safetensors"))
        device = resolve_device(self.device)
        tell_shadowed(self.data)
        extractor = train_extractor(self.data, path, self.image_size, self.channels, self.steps, self.seed, device)
        about = extractor.about
        print(f"{extractor.name}: accuracy {about.accuracy:.2%} on {about.held_out:,} images held out of {self.data}")
        print(f"extractor: {path}")
        return 0


@dataclass(frozen=True)
class Report:
    """Write a run's curves, pictures and verdicts as one HTML page that needs no other file."""

    folder: RunArgument
    """Run folder of the training."""

    out: Path | None = None
    """File to write. None takes report.html in the run folder."""

    def run(self) -> int:
        out = None if self.out is None else checked_file(self.out)
        print(f"report: {write_report(RunFolder(self.folder), out)}")
        return 0
