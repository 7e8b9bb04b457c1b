"""What a run has saved, in a form that == compares exactly; and a file that shows whether somebody unpickled it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fused_gan.training import Checkpoints, load_checkpoint
from fused_gan.training.folder import read_lines


def flat(state: Any) -> Any:
    """`state` with each tensor as its dtype, shape and bytes, so that == compares everything exactly."""
    if isinstance(state, Tensor):
        return state.dtype, tuple(state.shape), state.contiguous().reshape(-1).view(torch.uint8).tolist()
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    return type(state)(map(flat, state)) if isinstance(state, (list, tuple)) else state


def last_state(out: Path) -> Any:
    """All that the last checkpoint holds, but for the clock."""
    state = load_checkpoint(Checkpoints(out / "checkpoints", keep=1).all()[-1]).state
    state["run"].pop("seconds")
    return flat(state)


def numbers(out: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """What was logged, but for the clock."""
    clock = ("seconds", "images_per_second")
    return [{key: line[key] for key in line if key not in clock} for line in read_lines(out / name)]


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.target),))
