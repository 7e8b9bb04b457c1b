"""Checkpoints: one safetensors file with the weights, all other state and the configuration. Nothing is unpickled.

The file is plain safetensors, so other tools read the weights out of it (`generator/0.weight`, …). Its metadata holds
    format   FORMAT
    config   JSON: what the run was configured with
    state    JSON: the nesting of the saved state, in which tensors are referred to by name
    sha256   of all of these and all tensors
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from fused_gan import tensor_file
from fused_gan.errors import UserError
from fused_gan.files import atomic_write

FORMAT = "fused_gan checkpoint 1"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, cut short or not ours; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """What `load_checkpoint` returns.

    Attributes:
        config: what was given to `save_checkpoint`.
        state: the same, every tensor on the CPU.
    """

    config: dict[str, Any]
    state: dict[str, Any]


def save_checkpoint(path: Path, config: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint; a failure at any moment leaves the previous one at `path` as it was.

    Args:
        path: the file to write.
        config: anything that JSON holds.
        state: dicts (keys str or int), lists and tuples of tensors, numbers, strings, bools and None, nested at will.

    Raises:
        TypeError: naming the entry of `state` that is none of these.
        ValueError: `config` holds a number that is not finite, which JSON has no word for.
        OSError: from the file system.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors), allow_nan=False)
    metadata = {"format": FORMAT, "config": json.dumps(config, allow_nan=False), "state": structure}
    metadata["sha256"] = _digest(metadata, tensors)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote, checking every byte of it. No code in the file is run.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged, cut short, or not such a checkpoint.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    other_version = "another version of fused_gan reads what it wrote"
    metadata, tensors = tensor_file.parse(path, content, FORMAT, other_version, CheckpointError)
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
        return {"float": str(value)}  # JSON has no such number
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
    return tensor_file.digest(tensors, {key: metadata[key] for key in ("format", "config", "state")})
