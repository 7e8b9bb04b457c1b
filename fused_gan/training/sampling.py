"""Pictures from a finished or running training run: read its checkpoint, draw noise, generate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fused_gan.errors import UserError, require
from fused_gan.images import Pixels, to_uint8
from fused_gan.models import PRESETS
from fused_gan.training.checkpoint import CheckpointError, load_checkpoint
from fused_gan.training.config import stream_seed
from fused_gan.training.folder import RunFolder

CHUNK = 1024  # rows of noise drawn, and images made, at once


def draw_noise(seed: int, count: int, z_dim: int) -> Tensor:
    """Noise for samples, float32 (count, z_dim) on the CPU from N(0, 1).

    Row i depends on `seed` and i alone, not on `count` or the device, so that more samples, or samples on another
    machine, begin with the same ones.
    """
    random = torch.Generator().manual_seed(stream_seed(seed, "samples"))
    # torch.randn's numbers depend on how many are drawn at once, hence whole chunks always.
    chunks = [torch.randn(CHUNK, z_dim, generator=random) for _ in range(-(-count // CHUNK))]
    return torch.cat(chunks)[:count]


@dataclass(frozen=True)
class Sampler:
    """A trained generator.

    Attributes:
        generator: maps noise (B, z_dim) to images (B, C, H, W) in `value_range`.
        z_dim: length of the noise.
        value_range: (low, high) of the images.
    """

    generator: nn.Module
    z_dim: int
    value_range: tuple[float, float]

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Pixels:
        """`count` images, uint8 (count, C, H, W); image i depends on `seed` and i alone."""
        weight = next(self.generator.parameters())
        noise = draw_noise(seed, count, self.z_dim)
        images = [
            to_uint8(self.generator(noise[start : start + CHUNK].to(weight)), self.value_range)
            for start in range(0, count, CHUNK)
        ]
        return np.concatenate(images)


def load_sampler(run: Path, device: torch.device) -> Sampler:
    """The averaged generator of a run's last checkpoint, on `device`.

    Raises:
        UserError: naming the folder or file: no run folder, no checkpoint yet, or a damaged one.
    """
    folder = RunFolder(run)
    require(run.is_dir(), f"run: {run} is no folder")
    require(folder.config.is_file(), f"run: {run} is no run folder, it has no {folder.config.name}")
    require(folder.checkpoint.is_file(), f"run: {run} has no {folder.checkpoint.name}; its training saved none yet")
    checkpoint = load_checkpoint(folder.checkpoint)
    try:
        config = checkpoint.config
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in config["model"].items()
        }
        model = PRESETS[config["preset"]](**fields)
        # On the meta device the modules cost no memory, whatever sizes the file claims; `assign` puts its tensors in.
        with torch.device("meta"):
            generator = model.build_generator(config["image_shape"])
        generator.load_state_dict(checkpoint.state["averaged_generator"], assign=True)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError, UserError) as error:
        raise CheckpointError(
            f"{folder.checkpoint}: its weights and its configuration do not fit: {error!r}"
        ) from error
    return Sampler(generator.to(device).eval(), model.z_dim, model.value_range)
