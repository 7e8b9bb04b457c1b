"""The run folder: its files, and how they are written."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import as_path, atomic_write, remove_leftovers, writing
from fused_gan.base.json_files import read_json, restore_non_finite, to_json_text, write_json
from fused_gan.training.description import RunDescription


class RunFolder:
    """Paths in the folder of one run.

    config.json             the full configuration
    metrics.jsonl           losses and speed, one JSON object per line, added during training
    health.jsonl            the looks of the health monitor, one JSON object per line
    checkpoints/            the latest step-*.safetensors, and best.safetensors
    samples/step-*.png      sample grids, always from the same noise; samples.png is the last one
    reconstructions/        for VAEs: real images, each beside its reconstruction; reconstructions.png is the last one
    interpolation.png       one row for each way from one latent to another
    losses.png              the losses over the steps
    evaluation.json         the results of fused-gan evaluate
    tensorboard/            metrics, health and pictures for TensorBoard
    .lock                   the lock that a training process holds; an evaluation holds .evaluation.json.lock
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path = as_path(path)
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
        """Raise `UserError` unless the folder is missing, or empty but for the lock. Runs never overwrite runs."""
        require(
            not self.path.exists() or self.path.is_dir(), f"out: {self.path} is a file, expected a new or empty folder"
        )
        require(
            not self.path.exists() or all(path == self.lock for path in self.path.iterdir()),
            f"out: {self.path} is not empty; name a new folder or empty it",
        )

    def require_run(self) -> None:
        """Raise `UserError` unless this is the folder of a run."""
        require(self.path.is_dir(), f"run: {self.path} is not a folder")
        require(self.config.is_file(), f"run: {self.path} is not a run folder, it has no {self.config.name}")

    def create(self, description: RunDescription) -> None:
        """Make the folder and write config.json."""
        self.samples.mkdir(parents=True)
        self.checkpoints.mkdir()
        self.write_config(description)

    def write_config(self, description: RunDescription) -> None:
        """Write config.json."""
        write_json(self.config, description.to_json())

    def read_config(self) -> RunDescription:
        """Return the run's description.

        Raises:
            UserError: the folder does not hold a run, or config.json is broken.
        """
        self.require_run()
        config = read_json(self.config)
        missing = [name for name in ("preset", "image_shape", "images") if name not in config]
        missing += [name for name in ("model", "training") if not isinstance(config.get(name), dict)]
        require(not missing, f"{self.config}: not the configuration of a run, it lacks {', '.join(missing)}")
        try:
            return RunDescription.from_json(config)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.config}: not the configuration of a run: {error!r}") from error

    def add_line(self, file: Path, values: Mapping[str, Any]) -> None:
        """Append one line. The file is opened and closed each time, so that readers, and a crash, find whole lines."""
        with writing(file), file.open("a", encoding="utf-8") as opened:
            opened.write(to_json_text(values) + "\n")

    def rewind(self, step: int) -> None:
        """Remove the lines logged after `step`, and the temporary files of killed processes."""
        for file in (self.metrics, self.health):
            if file.is_file():
                kept = [line for line in read_lines(file) if line["step"] <= step]
                with atomic_write(file) as temporary:
                    temporary.write_text("".join(to_json_text(line) + "\n" for line in kept), encoding="utf-8")
        for folder in (self.path, self.checkpoints, self.samples, self.reconstructions):
            remove_leftovers(folder)


def claim_folder(preset: str) -> Path:
    """Make a folder in `runs` for a run whose folder nobody named. Its name tells preset and time.

    Runs that begin in the same second get folders of their own.
    """
    first = Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    first.parent.mkdir(exist_ok=True)
    for number in itertools.count(1):
        path = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("the numbers do not end")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines, without a last line that a killed process left unfinished.

    Raises:
        UserError: a line is not a JSON object with a step; the message names file and line.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    found: list[dict[str, Any]] = []
    for line_number, line in enumerate(lines, 1):
        value = _parse_line(line)
        if value is not None:
            found.append(value)
        elif line_number < len(lines):
            raise UserError(f"{file}: line {line_number} is not a JSON object with a step")
    return found


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return restore_non_finite(value) if isinstance(value, dict) and "step" in value else None
