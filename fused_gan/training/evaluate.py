"""Evaluates runs, and keeps the results in the file evaluation.json of the run folder."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import as_path
from fused_gan.base.json_files import restore_non_finite, write_json
from fused_gan.base.lock import locked
from fused_gan.base.memory import memory_for
from fused_gan.base.scores import NO_EXTRACTOR
from fused_gan.base.seeds import require_seed
from fused_gan.base.torch_state import measuring
from fused_gan.data import load
from fused_gan.data.datasets import require_there
from fused_gan.evaluation.evaluator import IWAE_K, SAMPLES, Evaluator, extractor_or_none
from fused_gan.evaluation.extractor import shape_text
from fused_gan.evaluation.inception import Inception
from fused_gan.evaluation.result import Evaluation, Settings
from fused_gan.models import VAENetwork
from fused_gan.ops.library import VERSION
from fused_gan.systems.config import VAETraining
from fused_gan.systems.devices import resolve_device
from fused_gan.systems.presets import Preset
from fused_gan.training.checkpoint import Checkpoints, load_checkpoint, writing_version
from fused_gan.training.description import RunDescription
from fused_gan.training.folder import RunFolder
from fused_gan.training.load import make_sampler

FORMAT = "fused_gan evaluation 1"


@measuring()
def evaluate(
    run: Path | str,
    *,
    checkpoint: str = "last",
    samples: int = SAMPLES,
    seed: int = 0,
    extractor: Path | str | None = None,
    data: str | None = None,
    inception: Path | str | None = None,
    iwae_k: int = IWAE_K,
    device: str = "auto",
    out: Path | str | None = None,
) -> Evaluation:
    """Evaluate a run, and keep the result in evaluation.json of its folder, beside results with other settings.

    Args:
        run: the run's folder.
        checkpoint: "last" or "best" of a finished run, the name of a file in its folder checkpoints, or its path.
        samples: the number of generated images, and of the real images to compare them with.
        seed: seed of the noise and of the choice of real images.
        extractor: the name of an extractor that comes with the package, or a file. None takes the training's extractor,
            or the package's own for the data. "none" leaves its scores out, as where Inception's or a VAE's own are
            enough.
        data: the source of the real images; None takes the data of the training. Other data is prepared as that was.
        inception: a file with Inception's weights, for true FID and Inception Score; it needs torch-fidelity, more than
            2,048 samples and much time.
        iwae_k: latents per image in the IWAE bound of a VAE.
        device: where to compute: auto, cpu, cuda or cuda:N.
        out: another file for the result, as of a run that may only be read.

    Raises:
        UserError: the folder does not hold a run, or the run is unfinished or of another version; no extractor fits; or
            there are too few images.
    """
    start = time.perf_counter()
    require_seed(seed)
    folder, where = RunFolder(run), resolve_device(device)
    network = None if inception is None else Inception(as_path(inception), samples, where)
    path, kept_in = _checkpoint(folder, checkpoint), folder.evaluation if out is None else as_path(out)
    _require_keepable(kept_in)
    loaded = load_checkpoint(path)
    preset = _preset(folder, loaded.config)
    sampler = make_sampler(loaded, path, where)
    training = preset.training
    if data is None:
        require_there(training.data)
    source = training.data if data is None else os.path.expanduser(data)
    wanted = training.extractor if extractor is None else str(extractor)
    found = extractor_or_none(wanted, source, sampler.image_shape)
    require(
        found is not None or network is not None or isinstance(training, VAETraining),
        "extractor: without one there has to be --inception, for a score of a GAN at all",
    )
    read = functools.partial(load, image_size=training.image_size, channels=training.channels)
    other = None if _same_source(source, training.data) else functools.partial(read, training.data)
    images = RunDescription.from_json(loaded.config).with_its_classes(read(source), source, other)
    if sampler.classes and images.labels is not None:  # a run that recorded no names has them from the data
        sampler = dataclasses.replace(sampler, class_names=images.class_names)
    shape = tuple(images.images.shape[1:])
    require(
        shape == sampler.image_shape,
        f"data: the run makes images of {shape_text(sampler.image_shape)}, {source} has {shape_text(shape)}",
    )
    likelihood = None
    if isinstance(training, VAETraining):
        assert isinstance(sampler.network, VAENetwork)
        likelihood = training.likelihood_of(sampler.network)
    latents = "" if likelihood is None else f", {iwae_k} latents each"
    attempt = f"scores of {samples:,} generated and {2 * samples:,} real images of {shape_text(shape)}{latents}"
    less = "fewer --samples take less" if likelihood is None else "fewer --samples or a smaller --iwae-k take less"
    with memory_for(attempt, less):
        evaluator = Evaluator.of(images, source, None if found is None else found.to(where), samples, seed, iwae_k)
        values = evaluator.scores(sampler, likelihood)
        baseline = {} if evaluator.reference is None else evaluator.reference.floor
        if network is not None:
            values |= network.scores(evaluator.images, evaluator.generated(sampler))
            baseline = baseline | network.scores(evaluator.images, evaluator.others)
    result = Evaluation(
        values=values,
        floor=baseline,
        settings=Settings(
            checkpoint=path.name,
            step=loaded.state["steps_done"],
            samples=samples,
            seed=seed,
            reals=source,
            trained_on=_same_source(source, training.data),
            extractor=NO_EXTRACTOR if found is None else found.name,
            extractor_sha256=None if found is None else found.hash,
            extractor_accuracy=None if found is None else found.about.accuracy,
            preprocessing=None if found is None else found.about.preprocessing,
            inception_sha256=None if network is None else network.sha256,
            iwae_k=None if likelihood is None else iwae_k,
            binarisation=None if likelihood is None else "none",
        ),
        seconds=time.perf_counter() - start,
        versions={"fused_gan": VERSION, "torch": torch.__version__},
    )
    _keep(kept_in, result)
    return result


def read_evaluations(file: Path | str) -> list[Evaluation]:
    """Return the evaluations in an evaluation.json, in the order in which they came; none if the file does not exist.

    Raises:
        UserError: the file is broken or of another format; the message names it.
    """
    file = as_path(file)
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        require(
            content.get("format") == FORMAT,
            f"{file}: expected a file of format {FORMAT!r}, got {content.get('format')!r}; move it away",
        )
        return [
            Evaluation(**restore_non_finite(one) | {"settings": Settings(**one["settings"])})
            for one in content["evaluations"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: broken, move it away to evaluate anew: {error!r}") from error


def _require_keepable(file: Path) -> None:
    """Raise, before the work, what would lose its result: a broken file, or a folder that cannot be written to."""
    with locked(_lock(file)):
        read_evaluations(file)


def _keep(file: Path, result: Evaluation) -> None:
    """Add a result to a file. It replaces an earlier result with the same settings."""
    with locked(_lock(file)):  # another evaluation may end at the same time, and neither may lose the other's result
        kept = [one for one in read_evaluations(file) if one.settings != result.settings]
        content = {"format": FORMAT, "evaluations": [dataclasses.asdict(one) for one in (*kept, result)]}
        write_json(file, content)


def _lock(file: Path) -> Path:
    return file.with_name(f".{file.name}.lock")


def _checkpoint(folder: RunFolder, name: str) -> Path:
    """Return the file that `evaluate` means by `checkpoint`."""
    description = folder.read_config()
    store = Checkpoints(folder.checkpoints, keep=1)
    if name not in ("last", "best"):
        return store.file(name)
    last = store.last()
    done, steps = store.step(last), description.training["steps"]
    require(
        done >= steps,
        f"run: {folder.path} is unfinished, its last checkpoint is of step {done:,} of {steps:,}: go on with "
        f"fused-gan resume {folder.path}, or evaluate it as it is with --checkpoint {last.name}",
    )
    return store.file(name)


def _preset(folder: RunFolder, config: dict[str, Any]) -> Preset:
    """Return the preset that a run was configured with, from its checkpoint's configuration."""
    try:
        return RunDescription.from_json(config).configured()
    except (KeyError, TypeError, AttributeError, ValueError, UserError) as error:
        raise UserError(
            f"run: {folder.path} was written by fused_gan {writing_version(config)}, this is {VERSION}, which does not "
            f"know its configuration ({error}); evaluate it with that version"
        ) from error


def _same_source(one: str, other: str) -> bool:
    """Whether two names of data, or two paths, mean the same data."""
    if one == other:
        return True
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
