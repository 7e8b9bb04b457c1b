"""The definition of a study: a grid of settings, and the jobs that it stands for."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import as_path
from fused_gan.base.json_files import to_json_text
from fused_gan.base.scores import INCEPTION_SCORES, NO_EXTRACTOR, SAMPLE_SCORES, SCORES, SSIM_WINDOW, VAE_SCORES
from fused_gan.systems.config import TrainingConfig, VAETraining
from fused_gan.systems.presets import Preset, from_json, to_json

SHIPPED = Path(__file__).parent / "shipped"
GIVEN = ("out", "seed", "device", "threads", "tensorboard")  # fields that only the study sets
# Fields that change no result. A study is stricter here than a resumed run (`RUNTIME`), because its results are more
# than the last weights: the intervals decide where the curve has points and which checkpoint is the best.
PLACED = ("cuda_graph", "data_place")
_LABEL = re.compile(r"[A-Za-z0-9_.-]+")  # a label becomes part of a file's name


@dataclass(frozen=True)
class Job:
    """One training, and its evaluation.

    Attributes:
        preset: the system's name.
        settings: for each axis the label of this job's setting.
        seed: seed of the training.
        fields: fields of the system's model and training, except those in `GIVEN`.
        evaluation: arguments of `fused_gan.evaluation.evaluate`, except run and device.
    """

    preset: str
    settings: dict[str, str]
    seed: int
    fields: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def name(self) -> str:
        """The job's name, as `job_name` makes it."""
        return job_name(self.settings, self.seed)

    def configured(self, **given: Any) -> Preset:
        """Return the system with this job's fields and the fields that are `given`."""
        return from_json(self.preset, self.fields | {"seed": self.seed, "tensorboard": False} | given)

    def configuration(self) -> dict[str, Any]:
        """Return every field except those in `GIVEN`, with today's defaults, as JSON holds them."""
        preset = to_json(self.configured())
        fields = preset["model"] | preset["training"]
        result: dict[str, Any] = json.loads(to_json_text({name: fields[name] for name in fields if name not in GIVEN}))
        return result


@dataclass(frozen=True)
class Success:
    """The condition of success: a run's score passes the bar, and its last look of the health monitor has no verdict.

    Attributes:
        metric: the score, one of the study's metrics.
        at_most, at_least: the bar, as one of the two.
    """

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        require(
            (self.at_most is None) != (self.at_least is None),
            f"success: expected at_most or at_least, one of them, got {self.at_most!r} and {self.at_least!r}",
        )
        for bar in (self.at_most, self.at_least):
            fine = bar is None or (isinstance(bar, (int, float)) and math.isfinite(bar))
            require(fine, f"success: expected a finite number as the bar, got {bar!r}")

    def passed(self, value: float) -> bool:
        """Whether a score passes the bar; NaN never does."""
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0.0)

    def __str__(self) -> str:
        bar = f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"
        return f"{SCORES[self.metric].title} {bar}"


@dataclass(frozen=True)
class Study:
    """A grid of jobs: every combination of the axes' settings, trained from every seed.

    Attributes:
        name: the study's name, which is that of its file.
        about: the question, in a sentence.
        preset: the system's name.
        fields: fields of model and training that all jobs share.
        axes: for each axis its settings by label. A setting is a dict of the fields that it sets, possibly `preset`.
        seeds: each setting is trained from seeds 0 … seeds − 1.
        metrics: the scores of the evaluation that are tabulated and compared.
        success: the condition of success.
        evaluation: arguments of `fused_gan.evaluation.evaluate`, except run and device.

    Raises:
        UserError: the definition is wrong; the message names the part.
    """

    name: str
    about: str
    preset: str
    fields: dict[str, Any]
    axes: dict[str, dict[str, dict[str, Any]]]
    seeds: int
    metrics: tuple[str, ...]
    success: Success
    evaluation: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.seeds > 0, f"seeds: expected a positive integer, got {self.seeds!r}")
        require(bool(self.axes), "axes: expected at least one, got none")
        for axis, settings in self.axes.items():
            require(bool(settings), f"axes: {axis} has no settings")
            for label in settings:
                fine = _LABEL.fullmatch(label) is not None
                require(fine, f"axes: {axis}: expected letters, digits and _ . - in a label, got {label!r}")
        require(bool(self.metrics), "metrics: expected at least one, got none")
        unknown = [metric for metric in self.metrics if metric not in SCORES]
        require(not unknown, f"metrics: expected some of {', '.join(SCORES)}, got {', '.join(unknown)}")
        require(
            self.success.metric in self.metrics,
            f"success: expected one of the metrics {', '.join(self.metrics)}, got {self.success.metric!r}",
        )
        self._check_evaluation()
        for job in self.jobs():
            given = [name for name in GIVEN if name in job.fields]
            require(not given, f"fields: {', '.join(given)} cannot be set here, the study sets it")
            training = job.configured().training  # an error here if the system cannot be trained
            interval = training.health_interval
            require(interval > 0, f"health_interval: expected a positive integer, got {interval}")
            policy = training.on_collapse
            require(
                policy == "warn", f"on_collapse: expected warn, got {policy}: it may end a run early, without a score"
            )
            missing = sorted(set(self.metrics) - _available_metrics(training, self.evaluation))
            require(not missing, f"metrics: no evaluation of {job.name} gives {', '.join(missing)}")

    def _check_evaluation(self) -> None:
        given = self.evaluation
        require(isinstance(given, Mapping), f"evaluation: expected an object, got {given!r}")
        if not given:
            return
        from fused_gan.training.evaluate import evaluate  # takes a second

        options = inspect.signature(evaluate).parameters.keys() - {"run", "device"}  # the training sets the device
        wrong = sorted(given.keys() - options)
        require(not wrong, f"evaluation: expected some of {', '.join(sorted(options))}, got {', '.join(wrong)}")

    def jobs(self) -> list[Job]:
        """Return all jobs, seed by seed, so that a study cut short has compared all settings on fewer seeds."""
        return [job for seed in range(self.seeds) for job in self._of_seed(seed)]

    def _of_seed(self, seed: int) -> Iterator[Job]:
        for labels in itertools.product(*self.axes.values()):
            settings = dict(zip(self.axes, labels, strict=True))
            fields = dict(self.fields)
            for axis, label in settings.items():
                fields |= self.axes[axis][label]
            preset = fields.pop("preset", self.preset)
            yield Job(preset, settings, seed, fields, self.evaluation)


def _available_metrics(training: TrainingConfig, evaluation: Mapping[str, Any]) -> set[str]:
    """Return the scores that the evaluation of a run gives, as far as they are known without its data."""
    found = set(SCORES)
    if evaluation.get("inception") is None:
        found -= INCEPTION_SCORES.keys()
    if (evaluation.get("extractor") or training.extractor) == NO_EXTRACTOR:
        found -= SAMPLE_SCORES.keys()
    if not isinstance(training, VAETraining):
        found -= VAE_SCORES.keys()
    elif training.image_size is not None and training.image_size < SSIM_WINDOW:
        found.remove("ssim")
    return found


def job_name(settings: Mapping[str, str], seed: int) -> str:
    """Return a job's name, as `relu+tanh+wgan-gp+seed0`."""
    return "+".join([*settings.values(), f"seed{seed}"])


def shipped_studies() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def load_study(source: str | Path, seeds: int | None = None) -> Study:
    """Read a study.

    Args:
        source: the name of a study that comes with the package, or a JSON file with the fields of `Study` except the
            name. An axis may be a list of values of the field that it is named after.
        seeds: the number of seeds; by default the file's.

    Raises:
        UserError: the file is missing or wrong; the message names it.
    """
    path = SHIPPED / f"{source}.json" if source in shipped_studies() else as_path(source)
    require(path.is_file(), f"study: {str(source)!r} is neither a file nor one of {', '.join(shipped_studies())}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"study: {path} cannot be read as JSON: {error}") from error
    require(isinstance(content, dict), f"study: {path}: expected a JSON object, got {type(content).__name__}")
    try:
        return _study_from_json(path.stem, content | ({} if seeds is None else {"seeds": seeds}))
    except UserError as error:
        raise UserError(f"study: {path}: {error}") from error


def _study_from_json(name: str, content: Mapping[str, Any]) -> Study:
    fields = {field.name: field for field in dataclasses.fields(Study)}
    unknown = sorted(content.keys() - (fields.keys() - {"name"}))
    require(not unknown, f"unknown: {', '.join(unknown)}; there are {', '.join(list(fields)[1:])}")
    needed = [name for name, field in fields.items() if field.default_factory is dataclasses.MISSING and name != "name"]
    missing = [name for name in needed if name not in content]
    require(not missing, f"missing: {', '.join(missing)}")
    for key, value in content.items():
        kind = _KINDS[key]
        require(isinstance(value, kind), f"{key}: expected {_JSON[kind]}, got {value!r}")
    try:
        success = Success(**content["success"])
    except TypeError as error:
        raise UserError(f"success: expected metric and at_most or at_least, got {content['success']!r}") from error
    axes = {axis: _settings(axis, settings) for axis, settings in content["axes"].items()}
    given = {"name": name, "axes": axes, "metrics": tuple(content["metrics"]), "success": success}
    return Study(**{**content, **given})


_KINDS: dict[str, type] = {
    "about": str, "preset": str, "fields": dict, "axes": dict, "seeds": int, "metrics": list, "success": dict,
    "evaluation": dict,
}  # fmt: skip
_JSON: dict[type, str] = {str: "text", dict: "an object", int: "an integer", list: "a list"}


def _settings(axis: str, settings: Any) -> dict[str, dict[str, Any]]:
    if isinstance(settings, list):
        return {str(value): {axis: value} for value in settings}
    fine = isinstance(settings, dict) and all(isinstance(fields, dict) for fields in settings.values())
    require(fine, f"axes: {axis}: expected a list of values, or an object of labels with their fields")
    result: dict[str, dict[str, Any]] = settings
    return result
