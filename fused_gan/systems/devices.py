"""The device that a run computes on."""

from __future__ import annotations

import re

import torch

from fused_gan.base.errors import UserError, require
from fused_gan.ops.library import build_info


def cuda_obstacle() -> str | None:
    """Return why CUDA cannot be used here, or None if it can."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if build_info()["cuda"] is None:
        return "this build of fused_gan has no CUDA kernels"
    return None


def resolve_device(name: str) -> torch.device:
    """Return the device that `name` ("auto", "cpu", "cuda" or "cuda:N") stands for on this machine.

    Raises:
        UserError: the name is none of these, or names CUDA where it cannot be used.
    """
    if name == "auto":
        return torch.device("cpu" if cuda_obstacle() else "cuda")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise UserError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if name != "cpu":
        obstacle = cuda_obstacle()
        require(obstacle is None, f"device: {name} cannot be used: {obstacle} (see fused-gan doctor)")
        count = torch.cuda.device_count()
        require(int(match[1] or 0) < count, f"device: {name} asked for, but there are only {count} CUDA devices")
    return torch.device(name)
