"""Checkpoints: safetensors files with the weights, all other state and the configuration. Nothing is unpickled.

The file is plain safetensors, so other tools read the weights out of it (`generator/0.weight`, …). Its metadata holds
    format   FORMAT
    config   the configuration, as JSON
    state    the nesting of the saved state, as JSON that refers to tensors by name
    sha256   the checksum of these three entries and all tensors
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fused_gan.base import tensor_files
from fused_gan.base.errors import UserError
from fused_gan.base.files import as_path, atomic_write
from fused_gan.ops.library import VERSION

FORMAT = "fused_gan checkpoint 1"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, cut short or of another format; the message names the file."""


def unreadable(where: Path, content: object, says: str, error: Exception) -> CheckpointError:
    """Return the error for a configuration or a state that this version cannot use.

    Args:
        where: the file or folder.
        content: the configuration, which may name the version that wrote it.
        says: what does not work, unless a newer version wrote it.
        error: what happened.
    """
    if (version := newer_version(content)) is not None:
        says = f"written by fused_gan {version}, which is newer than this {VERSION}; take that version for it"
    return CheckpointError(f"{where}: {says}: {error!r}")


def newer_version(content: object) -> str | None:
    """Return the version of this package that wrote a configuration, if it is newer than this one."""
    version = writing_version(content)
    return version if isinstance(version, str) and _numbers(version) > _numbers(VERSION) else None


def writing_version(content: object) -> object:
    """Return what a configuration names as the version of this package that wrote it; None if it names none."""
    versions = content.get("versions") if isinstance(content, dict) else None
    return versions.get("fused_gan") if isinstance(versions, dict) else None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        config: the `config` given to `save_checkpoint`.
        state: the `state` given to `save_checkpoint`, with every tensor on the CPU.
    """

    config: dict[str, Any]
    state: dict[str, Any]


def save_checkpoint(path: Path | str, config: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint. A failure at any moment leaves the previous file at `path` as it was.

    Args:
        path: the file to write.
        config: anything that JSON can express.
        state: dicts (keys str or int), lists and tuples of tensors, numbers, strings, bools and None, in any nesting.

    Raises:
        TypeError: an entry of `state` has another type; the message names it.
        ValueError: `config` holds a number that is not finite, which JSON cannot express.
        OSError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors), allow_nan=False)
    metadata = {"format": FORMAT, "config": json.dumps(config, allow_nan=False), "state": structure}
    metadata["sha256"] = _digest(metadata, tensors)
    with atomic_write(as_path(path)) as temporary:
        tensor_files.save(temporary, tensors, metadata)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Return the content of a checkpoint file, after checking every byte of it. No code in the file is run.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged, cut short, or of another format.
    """
    path = as_path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    other_version = "another version of fused_gan reads what it wrote"
    metadata, tensors = tensor_files.parse(path, content, FORMAT, other_version, CheckpointError)
    if metadata.keys() != {"format", "config", "state", "sha256"} or metadata["sha256"] != _digest(metadata, tensors):
        raise CheckpointError(f"{path}: damaged, its content does not match its checksum")
    try:
        return Checkpoint(json.loads(metadata["config"]), _unflatten(json.loads(metadata["state"]), tensors))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is not of format {FORMAT!r}: {error!r}") from error


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors in `value` into `tensors`; return JSON that says where each goes back."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        if not all(type(key) in (str, int) for key in value):
            raise TypeError(f"checkpoint: {name or 'the state'} has keys that are neither str nor int")
        # A list of pairs, as JSON would turn the optimizers' integer keys into strings.
        return {"dict": [[key, _flatten(item, _join(name, key), tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flatten(item, _join(name, index), tensors) for index, item in enumerate(value)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # JSON cannot express it
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"checkpoint: {name} is a {type(value).__name__}, which cannot be saved")


def _unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _join(name: str, key: object) -> str:
    return f"{name}/{key}" if name else str(key)


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    return tensor_files.digest(tensors, {key: metadata[key] for key in ("format", "config", "state")})


SUFFIX = ".safetensors"
BEST = f"best{SUFFIX}"
_NAME = re.compile(r"step-(\d+)\.safetensors")


class Checkpoints:
    """Files `step-0001000.safetensors` … and `best.safetensors` in one folder.

    Args:
        folder: the folder of the files.
        keep: how many of the latest files stay, besides the best.
    """

    def __init__(self, folder: Path | str, keep: int) -> None:
        self.folder, self.keep = as_path(folder), keep
        self.best = self.folder / BEST

    def path(self, step: int) -> Path:
        """Return the path of a step's file."""
        return self.folder / f"step-{step:07d}.safetensors"

    def step(self, path: Path) -> int:
        """Return the step of a file `step-*.safetensors`."""
        return int(path.stem.removeprefix("step-"))

    def all(self) -> list[Path]:
        """Return the files `step-*.safetensors`, sorted by step."""
        if not self.folder.is_dir():
            return []
        matches = {path: _NAME.fullmatch(path.name) for path in self.folder.iterdir()}
        steps = {path: int(match[1]) for path, match in matches.items() if match is not None}
        return sorted(steps, key=lambda path: steps[path])

    def save(self, step: int, config: dict[str, Any], state: dict[str, Any], is_best: bool) -> None:
        """Write a checkpoint, then remove the oldest so that `keep` stay."""
        path = self.path(step)
        if is_best:
            # The best comes first: if the process dies in between, the run resumes earlier and finds this best again.
            save_checkpoint(self.best, config, state)
            with atomic_write(path) as temporary:
                shutil.copyfile(self.best, temporary)
        else:
            save_checkpoint(path, config, state)
        for old in self.all()[: -self.keep]:
            old.unlink()

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, except the best: from `step` on the run takes another course."""
        for path in self.all():
            if self.step(path) > step:
                path.unlink()

    def last(self) -> Path:
        """Return the path of the latest checkpoint.

        Raises:
            CheckpointError: there is no checkpoint.
        """
        paths = self.all()
        if not paths:
            best = f" but {self.best.name}; take it with --checkpoint best" if self.best.is_file() else ""
            raise CheckpointError(f"{self.folder}: holds no checkpoint{best or '; the run saved none yet'}")
        return paths[-1]

    def newest(self) -> tuple[Path, int] | None:
        """Return path and mtime (ns) of the latest checkpoint. They change when any process trains the run further."""
        return next(((path, path.stat().st_mtime_ns) for path in reversed(self.all())), None)

    def load_last(self) -> Checkpoint:
        """Read the latest checkpoint.

        Raises:
            CheckpointError: there is no checkpoint, or the latest one is damaged. The message then names the latest
                undamaged checkpoint, if any.
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

    def file(self, name: str | None) -> Path:
        """Return the file that a person means by `name`.

        Args:
            name: "last" or None, "best", the name of a file in the folder, or its path. `SUFFIX` and the zeros before
                a step may be left out. A file in another folder may be another run's.

        Raises:
            CheckpointError: there is no such file in the folder.
        """
        if name is None or name == "last":
            return self.last()
        path = as_path(name)
        path = path if len(path.parts) > 1 else self.folder / path
        if path.suffix != SUFFIX and path.name and not path.is_file():
            path = path.with_name(path.name + SUFFIX)
        match = _NAME.fullmatch(path.name)
        if match is not None and not path.is_file():
            path = path.with_name(self.path(int(match[1])).name)
        if not path.is_file() or path.parent.resolve() != self.folder.resolve():
            there = [self.best, *self.all()] if self.best.is_file() else self.all()
            names = ", ".join(file.stem for file in there) or "it has none"
            raise CheckpointError(f"checkpoint: expected a file in {self.folder} ({names}), got {name}")
        return path

    def load(self, name: str | None) -> Checkpoint:
        """Read the checkpoint that a person means by `name`, as `file` does.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        return self.load_last() if name is None or name == "last" else load_checkpoint(self.file(name))

    def _last_sound(self, paths: list[Path]) -> Path | None:
        for path in [*reversed(paths), self.best]:
            try:
                load_checkpoint(path)
            except CheckpointError:
                continue  # with the next older file
            return path
        return None
