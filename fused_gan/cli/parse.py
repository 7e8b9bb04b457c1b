"""The subcommands, each a dataclass: its fields are the options, their docstrings the help, `run()` the work."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
import tyro
from accelerate import PartialState
from rich.console import Console

from fused_gan.base.errors import UserError, require
from fused_gan.cli import doctor
from fused_gan.cli.options import anew, explained
from fused_gan.cli.study import StudyCommand
from fused_gan.data import load
from fused_gan.data.datasets import spread
from fused_gan.data.images import save_grid, save_pngs, save_samples
from fused_gan.models import GANModel, VAEModel
from fused_gan.systems.config import RUNTIME
from fused_gan.systems.devices import resolve_device
from fused_gan.systems.presets import from_json
from fused_gan.training import PRESETS, RunFolder, RunResult, Sampler, TrainingConfig, load_sampler, resume, train
from fused_gan.training.checkpoint import Checkpoints
from fused_gan.training.export import export_dataset
from fused_gan.training.report import write_report

STOPPED_BY_VERDICT = 1
OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
Run = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
Runtime = anew(TrainingConfig, RUNTIME, "Where it computes, and what it writes when; None leaves it as it was.")


class Command(Protocol):
    """What parsing gives."""

    def run(self) -> int:
        """Do it; return the exit status."""


@dataclass(frozen=True)
class Train:
    """How `fused-gan train PRESET` was called."""

    preset: str
    model: GANModel | VAEModel
    training: TrainingConfig

    def run(self) -> int:
        return _finished(train(self.preset, self.model, self.training))


@dataclass(frozen=True)
class Resume:
    """Go on with a run that ended early or was killed, as if it had never stopped.

    Where it computes and what it writes when can be given anew, and no other field of the training but steps."""

    folder: Run
    """Run folder of the training."""

    steps: int | None = None
    """Train to this step instead of the configured one."""

    checkpoint: str | None = None
    """File in the folder checkpoints to go on from; by default the last."""

    runtime: Annotated[Any, tyro.conf.arg(constructor=Runtime)] = dataclasses.field(default_factory=Runtime)

    def run(self) -> int:
        return _finished(resume(self.folder, self.steps, self.checkpoint, **vars(self.runtime)))


@dataclass(frozen=True)
class Sample:
    """Generate images with a trained system: a PNG grid and an NPZ."""

    folder: Run
    """Run folder of the training."""

    count: int = 64
    """How many images the NPZ gets. Memory does not grow with it."""

    grid: int = 64
    """How many of them, at most, the PNG shows."""

    seed: int = 0
    """Image i depends on the seed, its label and i alone. The training's seed gives the images of its own grids."""

    labels: tuple[int, ...] = ()
    """For a conditional system: classes, dealt out in turn. By default all of them."""

    truncation: float | None = None
    """Draw the noise from N(0, 1) cut off at this size: below 1, images get more typical and less diverse."""

    pngs: bool = False
    """Also write each image as a PNG of its own."""

    checkpoint: str | None = None
    """File in the folder checkpoints, as best.safetensors; by default the last."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """Folder for the files; by default the run folder. Existing files of the same name are replaced."""

    as_dataset: Path | None = None
    """Instead, write a labelled data set into this new folder: a folder for each class, a PNG for each image, and
    dataset.json, which says how they were made. For a conditional system."""

    def __post_init__(self) -> None:
        for name in ("count", "grid"):
            value = getattr(self, name)
            require(value > 0, f"{name}: expected a positive integer, got {value}")
        require(self.seed >= 0, f"seed: expected 0 or a positive integer, got {self.seed}")
        require(
            self.truncation is None or self.truncation > 0,
            f"truncation: expected a number above 0, got {self.truncation}",
        )

    def run(self) -> int:
        sampler = load_sampler(self.folder, resolve_device(self.device), self.checkpoint)
        labels = torch.tensor(list(itertools.islice(itertools.cycle(self.labels), self.count))) if self.labels else None
        if self.as_dataset is not None:
            return self._export(sampler, labels, self.as_dataset)
        labels = sampler.check_labels(labels, self.count)
        stem = _made(self.out or self.folder) / f"samples-seed{self.seed}-count{self.count}"
        shown = min(self.grid, self.count)
        first = sampler.sample(shown, self.seed, None if labels is None else labels[:shown], self.truncation)
        save_grid(stem.with_suffix(".png"), first)
        chunks = sampler.chunks(self.count, self.seed, labels, self.truncation)
        numbers = None if labels is None else labels.numpy()
        save_samples(stem.with_suffix(".npz"), chunks, self.count, self.seed, numbers)
        if self.pngs:
            _made(stem)
            done = 0
            for chunk in sampler.chunks(self.count, self.seed, labels, self.truncation):
                save_pngs(stem, chunk, done)
                done += len(chunk)
            print(f"pictures: {stem}")
        print(f"images: {stem.with_suffix('.npz')}")
        print(f"samples: {stem.with_suffix('.png')}")
        return 0

    def _export(self, sampler: Sampler, labels: torch.Tensor | None, folder: Path) -> int:
        require(
            self.out is None and not self.pngs,
            "as_dataset: it takes the place of --out and --pngs, give it without them",
        )
        run = RunFolder(self.folder)
        config = run.read_config()
        about = {
            "system": config["preset"],
            "trained_on": config["training"]["data"],
            "checkpoint": self.checkpoint or Checkpoints(run.checkpoints, keep=1).last().name,
        }
        counts = export_dataset(folder, sampler, self.count, self.seed, labels, self.truncation, about)
        print(f"{self.count:,} images of {len(counts)} classes")
        print(f"data set: {folder}")
        return 0


@dataclass(frozen=True)
class Interpolate:
    """Go from one sample to another, a row of a PNG grid each."""

    folder: Run
    """Run folder of the training."""

    rows: int = 8
    """Pairs of samples."""

    columns: int = 10
    """Images from one to the other, both included."""

    seed: int = 0
    """Of the noise."""

    checkpoint: str | None = None
    """File in the folder checkpoints; by default the last."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """The PNG; by default interpolation-seedN.png in the run folder."""

    def __post_init__(self) -> None:
        require(self.rows > 0, f"rows: expected a positive integer, got {self.rows}")
        require(self.columns > 1, f"columns: expected an integer above 1, got {self.columns}")

    def run(self) -> int:
        sampler = load_sampler(self.folder, resolve_device(self.device), self.checkpoint)
        path = _writable(self.out or self.folder / f"interpolation-seed{self.seed}.png")
        save_grid(path, sampler.interpolate(self.rows, self.columns, self.seed), self.columns)
        print(f"interpolation: {path}")
        return 0


@dataclass(frozen=True)
class Reconstruct:
    """Encode and decode images with a trained VAE: a PNG grid, each image beside its reconstruction."""

    folder: Run
    """Run folder of the training."""

    data: str | None = None
    """Where the images come from; by default the data of the training."""

    count: int = 32
    """How many images, spread evenly over the data."""

    checkpoint: str | None = None
    """File in the folder checkpoints; by default the last."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    out: Path | None = None
    """The PNG; by default reconstructions-countN.png in the run folder."""

    def __post_init__(self) -> None:
        require(self.count > 0, f"count: expected a positive integer, got {self.count}")

    def run(self) -> int:
        sampler = load_sampler(self.folder, resolve_device(self.device), self.checkpoint)
        training = RunFolder(self.folder).read_config()["training"]
        images = load(self.data or training["data"], training["image_size"], training["channels"]).images
        images = images[spread(self.count, len(images))]
        path = _writable(self.out or self.folder / f"reconstructions-count{self.count}.png")
        pairs = torch.stack((images, torch.from_numpy(sampler.reconstruct(images))), 1).flatten(0, 1)
        save_grid(path, pairs.numpy(), columns=8)
        print(f"reconstructions: {path}")
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Score a trained system against real images, print a table and keep it in the run folder.

    Generated and real images are compared in the features of a small classifier: no download. For VAEs also ELBO,
    IWAE bound, reconstruction error and active units."""

    folder: Run
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

        path = _writable(self.out or Path(f"extractor-{Path(self.data).stem}.safetensors"))
        device = resolve_device(self.device)
        made = train_extractor(self.data, path, self.image_size, self.channels, self.steps, self.seed, device)
        about = made.about
        print(f"{made.name}: accuracy {about.accuracy:.2%} on {about.held_out:,} images held out of {self.data}")
        print(f"extractor: {path}")
        return 0


@dataclass(frozen=True)
class Report:
    """Write a run's curves, pictures and verdicts as one HTML page that needs no other file."""

    folder: Run
    """Run folder of the training."""

    out: Path | None = None
    """The page; by default report.html in the run folder."""

    def run(self) -> int:
        out = None if self.out is None else _writable(self.out)
        print(f"report: {write_report(RunFolder(self.folder), out)}")
        return 0


@dataclass(frozen=True)
class Doctor:
    """Show versions, build facts and devices, and what is missing and how to get it."""

    def run(self) -> int:
        return doctor.report()


def parse(arguments: Sequence[str]) -> Command:
    """The command that `arguments` name.

    Raises:
        UserError: an option's value is out of range.
        SystemExit: 2 on words that cannot be parsed, 0 after --help; the text is printed.
    """
    arguments = list(arguments)
    if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1] in PRESETS:
        return _parse_training(arguments[1], arguments[2:])
    app = tyro.extras.SubcommandApp()
    app.command(_systems(), name="train", help="Train a system.")
    for command in (Resume, Sample, Interpolate, Reconstruct, Evaluate, Extractor, Report, Doctor):
        app.command(name=command.__name__.lower())(command)
    app.command(name="study")(StudyCommand)
    parsed: Command = app.cli(
        prog="fused-gan",
        description="Train GANs and VAEs on fused layers, and make pictures with them.",
        args=arguments,
        config=OPTIONS,
    )
    return parsed


def _systems() -> tyro.extras.SubcommandApp:
    """The presets for `fused-gan train --help`; `_parse_training` explains the fields of one."""
    systems = tyro.extras.SubcommandApp()
    for name, preset in PRESETS.items():

        def explain() -> None: ...

        explain.__doc__ = preset.about
        systems.command(name=name)(explain)
    return systems


def _parse_training(name: str, words: list[str]) -> Train:
    """`fused-gan train NAME [--config FILE] [--FIELD VALUE …]`; the words win over the file."""
    file, words = _config_file(words)
    preset = PRESETS[name]
    if file is not None:
        preset = from_json(name, _fields_in(file))
    parts = [("model", explained(preset.model)), ("training", explained(preset.training))]
    options = dataclasses.make_dataclass("Options", parts, frozen=True)
    parsed: Any = tyro.cli(
        options,
        prog=f"fused-gan train {name}",
        description=f"{preset.about}\n\nLeaves a run folder with configuration, metrics, pictures and checkpoints. "
        "Ctrl-C ends it early with everything saved; fused-gan resume goes on. --config FILE reads fields from a JSON "
        "file, as a run folder's config.json; options given beside it win.",
        args=words,
        config=OPTIONS,
    )
    model = dataclasses.replace(preset.model, **vars(parsed.model))
    return Train(name, model, dataclasses.replace(preset.training, **vars(parsed.training)))


def _config_file(words: list[str]) -> tuple[Path | None, list[str]]:
    """Take `--config FILE` or `--config=FILE` out of the words."""
    for index, word in enumerate(words):
        if word == "--config":
            require(index + 1 < len(words), "config: expected a file after --config, got nothing")
            return Path(words[index + 1]), words[:index] + words[index + 2 :]
        if word.startswith("--config="):
            return Path(word.removeprefix("--config=")), words[:index] + words[index + 1 :]
    return None, words


def _fields_in(file: Path) -> dict[str, Any]:
    """The fields in a JSON file: {"lr": 1e-4, …}, or nested under "model" and "training" as in config.json."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"config: {file} cannot be read as JSON: {error}") from error
    require(isinstance(content, dict), f"config: {file}: expected a JSON object, got {type(content).__name__}")
    if content.keys() >= {"model", "training"}:  # a run's; its folder is its own
        content = content["model"] | {name: value for name, value in content["training"].items() if name != "out"}
    fields: dict[str, Any] = content
    return fields


def _finished(result: RunResult) -> int:
    """Say how a run ended; return the exit status."""
    say = PartialState().print  # once, of several processes
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


def _writable(file: Path) -> Path:
    """A file to write, its folder made if need be; asked for before the work."""
    require(not file.is_dir(), f"out: {file} is a folder, expected a file")
    _made(file.parent)
    return file


def _made(folder: Path) -> Path:
    """The folder, made if need be."""
    require(not folder.exists() or folder.is_dir(), f"out: {folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
