"""The checkpoints of a run: the last few in rotation, and the best."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from fused_gan.files import atomic_write
from fused_gan.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint

BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d+)\.safetensors")


class Checkpoints:
    """Files `step-0001000.safetensors` … and `best.safetensors` in one folder.

    Args:
        folder: where they lie.
        keep: how many of the latest stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.best = folder / BEST

    def path(self, step: int) -> Path:
        """The file of one step."""
        return self.folder / f"step-{step:07d}.safetensors"

    def step(self, path: Path) -> int:
        """The step that a file in rotation is of."""
        return int(path.stem.removeprefix("step-"))

    def all(self) -> list[Path]:
        """The files in rotation, the oldest first."""
        if not self.folder.is_dir():
            return []
        named = {path: _NAME.fullmatch(path.name) for path in self.folder.iterdir()}
        steps = {path: int(match[1]) for path, match in named.items() if match is not None}
        return sorted(steps, key=lambda path: steps[path])

    def save(self, step: int, config: dict[str, Any], state: dict[str, Any], is_best: bool) -> None:
        """Write a checkpoint, then remove those that are too old."""
        path = self.path(step)
        if is_best:
            # First: a process killed in between resumes from an older step, and finds the same best again.
            save_checkpoint(self.best, config, state)
            with atomic_write(path) as temporary:
                shutil.copyfile(self.best, temporary)
        else:
            save_checkpoint(path, config, state)
        for old in self.all()[: -self.keep]:
            old.unlink()

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints in rotation that are newer: the run goes another way from here."""
        for path in self.all():
            if path.name > self.path(step).name:
                path.unlink()

    def last(self) -> Path:
        """The latest file in rotation.

        Raises:
            CheckpointError: there is none.
        """
        paths = self.all()
        if not paths:
            raise CheckpointError(f"{self.folder}: holds no checkpoint; the run saved none yet")
        return paths[-1]

    def newest(self) -> tuple[Path, int] | None:
        """The latest file in rotation and when it was written, in ns: another once the run was trained on."""
        return next(((path, path.stat().st_mtime_ns) for path in reversed(self.all())), None)

    def load_last(self) -> Checkpoint:
        """Read the latest checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged; then the message names the latest sound one, if any.
        """
        last = self.last()
        try:
            return load_checkpoint(last)
        except CheckpointError as error:
            sound = self._last_sound(self.all()[:-1])
            if sound is None:
                raise
            raise CheckpointError(
                f"{error}; the one before is sound, take it with: --checkpoint {sound.name}"
            ) from error

    def load(self, name: str | None) -> Checkpoint:
        """Read the checkpoint of this file name; None reads the latest.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        return self.load_last() if name is None else load_checkpoint(self.folder / name)

    def _last_sound(self, paths: list[Path]) -> Path | None:
        for path in [*reversed(paths), self.best]:
            try:
                load_checkpoint(path)
            except CheckpointError:
                continue  # the next one is asked
            return path
        return None
