"""What a run has saved, in a form that == compares exactly; and a file that shows whether somebody unpickled it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fused_gan.systems.system import System
from fused_gan.training import Checkpoints, load_checkpoint
from fused_gan.training.description import RunDescription
from fused_gan.training.folder import read_lines
from fused_gan.training.state import RunState


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


def described(**facts: Any) -> RunDescription:
    """Return the description of a run of an untrained system, with some facts changed."""
    usual = {"preset": "mlp-gan", "model": {}, "training": {}, "image_shape": (1, 8, 8), "images": 5, "classes": 0}
    return RunDescription(**usual | {"plans": None, "versions": {}} | facts)


def state_of(system: System) -> dict[str, Any]:
    """Return the state of a run that has just begun, as a checkpoint holds it."""
    run = {"best": math.inf, "latest": {}, "monitor": {}, "rollbacks": 0, "logged_step": 0, "seconds": 0.0}
    return RunState(system.state_dict(), **run).to_dict()
