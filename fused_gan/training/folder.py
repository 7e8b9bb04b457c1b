"""The run folder: what lies where, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import atomic_write, remove_leftovers
from fused_gan.base.json_files import read_json, restore_non_finite, to_json_text, write_json
from fused_gan.training.description import RunDescription


class RunFolder:
    """Paths in the folder of one run.

    config.json             what was run, in full
    metrics.jsonl           losses and speed, one JSON object a line, added as the run goes
    health.jsonl            what the health monitor saw, one JSON object a look
    checkpoints/            the last few, step-*.safetensors, and best.safetensors
    samples/step-*.png      grids of always the same noise; samples.png is the last of them
    reconstructions/        for VAEs: real images, each beside its reconstruction; reconstructions.png is the last
    interpolation.png       the way from one latent to another, a row each
    losses.png              the losses over the steps
    evaluation.json         what fused-gan evaluate found, once it was called
    tensorboard/            the same for TensorBoard
    .lock                   held by the process that trains; .evaluation.json.lock by one that adds an evaluation
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.health = path / "health.jsonl"
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.picture = path / "samples.png"
        self.reconstructions = path / "reconstructions"
        self.reconstruction = path / "reconstructions.png"
        self.interpolation = path / "interpolation.png"
        self.losses = path / "losses.png"
        self.evaluation = path / "evaluation.json"
        self.tensorboard = path / "tensorboard"
        self.report = path / "report.html"
        self.lock = path / ".lock"

    def require_new(self) -> None:
        """Raise `UserError` unless the folder is missing or empty but for the lock: a run never overwrites another."""
        require(
            not self.path.exists() or self.path.is_dir(), f"out: {self.path} is a file, expected a new or empty folder"
        )
        require(
            not self.path.exists() or all(path == self.lock for path in self.path.iterdir()),
            f"out: {self.path} is not empty; name a new folder or empty it",
        )

    def require_run(self) -> None:
        """Raise `UserError` unless this is the folder of a run."""
        require(self.path.is_dir(), f"run: {self.path} is no folder")
        require(self.config.is_file(), f"run: {self.path} is no run folder, it has no {self.config.name}")

    def create(self, description: RunDescription) -> None:
        """Make the folder and write what is about to be run."""
        self.samples.mkdir(parents=True)
        self.checkpoints.mkdir()
        self.write_config(description)

    def write_config(self, description: RunDescription) -> None:
        """Write what was run."""
        write_json(self.config, description.to_json())

    def read_config(self) -> RunDescription:
        """Return what was run.

        Raises:
            UserError: the file is broken.
        """
        self.require_run()
        config = read_json(self.config)
        missing = [name for name in ("preset", "image_shape", "images", "classes") if name not in config]
        missing += [name for name in ("model", "training") if not isinstance(config.get(name), dict)]
        require(not missing, f"{self.config}: not the configuration of a run, it lacks {', '.join(missing)}")
        try:
            return RunDescription.from_json(config)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.config}: not the configuration of a run: {error!r}") from error

    def add_line(self, file: Path, values: Mapping[str, Any]) -> None:
        """Append one line; opened and closed each time, so that a reader, or a crash, finds whole lines."""
        with file.open("a", encoding="utf-8") as opened:
            opened.write(to_json_text(values) + "\n")

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`, and what a killed process left half done."""
        for file in (self.metrics, self.health):
            if file.is_file():
                kept = [line for line in read_lines(file) if line["step"] <= step]
                with atomic_write(file) as temporary:
                    temporary.write_text("".join(to_json_text(line) + "\n" for line in kept), encoding="utf-8")
        for folder in (self.path, self.checkpoints, self.samples, self.reconstructions):
            remove_leftovers(folder)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; a last line that a killed process left unfinished is dropped.

    Raises:
        UserError: naming the file and the line that is no JSON object with a step.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        value = _parsed(line)
        if value is not None:
            found.append(value)
        elif number < len(lines):
            raise UserError(f"{file}: line {number} is no JSON object with a step")
    return found


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return restore_non_finite(value) if isinstance(value, dict) and "step" in value else None
