"""Pictures from a running or finished training: noise, samples, interpolations, reconstructions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fused_gan.errors import UserError, require
from fused_gan.images import Pixels, from_uint8, to_uint8
from fused_gan.models import VAENetwork
from fused_gan.training.build import build_maker
from fused_gan.training.checkpoint import Checkpoint, CheckpointError
from fused_gan.training.checkpoints import Checkpoints
from fused_gan.training.config import stream_seed
from fused_gan.training.folder import RunFolder
from fused_gan.training.presets import from_json
from fused_gan.training.system import evaluating

CHUNK = 1024  # rows of noise drawn, and images made, at once


def noise_chunks(seed: int, count: int, z_dim: int, truncation: float | None = None) -> Iterator[Tensor]:
    """Noise for samples, float32 (n, z_dim) on the CPU, `count` rows together, from N(0, 1).

    Row i depends on `seed` and i alone, not on `count` or the device, so that more samples, or samples on another
    machine, begin with the same ones.

    Args:
        seed: of the run of numbers.
        count: rows.
        z_dim: length of a row.
        truncation: take N(0, 1) cut off at ±truncation, which makes samples more typical and less diverse.
    """
    random = torch.Generator().manual_seed(stream_seed(seed, "samples"))
    for start in range(0, count, CHUNK):
        # torch.randn's numbers depend on how many are drawn at once, hence whole chunks always.
        chunk = torch.randn(CHUNK, z_dim, generator=random)[: count - start]
        yield chunk if truncation is None else truncated(chunk, truncation)


def draw_noise(seed: int, count: int, z_dim: int) -> Tensor:
    """`noise_chunks` in one piece: (count, z_dim)."""
    return torch.cat(list(noise_chunks(seed, count, z_dim)))


def truncated(noise: Tensor, bound: float) -> Tensor:
    """Map numbers from N(0, 1) to numbers from N(0, 1) cut off at ±bound, by their quantiles; same shape and dtype."""
    low, high = (torch.special.ndtr(torch.tensor(end, dtype=torch.float64)) for end in (-bound, bound))
    quantiles = torch.special.ndtr(noise.double())
    cut: Tensor = torch.special.ndtri(low + quantiles * (high - low))
    return cut.to(noise.dtype)


def between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Latents on the great circle from `first` to `last`, both included: (N, z_dim) each to (N, steps, z_dim).

    Normal noise lies near a sphere; on the straight line between two points the middle would be untypically short.
    """
    norms = first.norm(dim=-1), last.norm(dim=-1)
    angle = torch.acos(((first * last).sum(-1) / (norms[0] * norms[1])).clamp(-1, 1))[:, None, None]
    way = torch.linspace(0, 1, steps).to(first)[None, :, None]
    return (torch.sin((1 - way) * angle) * first[:, None] + torch.sin(way * angle) * last[:, None]) / torch.sin(angle)


@dataclass(frozen=True)
class Sampler:
    """A network that makes pictures.

    Attributes:
        network: a generator of (B, z_dim), and labels (B,) if there are classes, to images; or a VAE's network.
        z_dim: length of the noise.
        value_range: (low, high) of the images.
        classes: how many it can be asked for; 0 if it is not conditional.
        image_shape: (C, H, W).
    """

    network: nn.Module
    z_dim: int
    value_range: tuple[float, float]
    classes: int
    image_shape: tuple[int, int, int]

    def images(self, noise: Tensor, labels: Tensor | None = None) -> Pixels:
        """uint8 (B, C, H, W) from noise (B, z_dim) and, if there are classes, labels (B,), on any device."""
        weight = next(self.network.parameters())
        given = [] if labels is None else [labels.to(weight.device)]
        with evaluating(self.network):
            make = self.network.decode if isinstance(self.network, VAENetwork) else self.network
            return to_uint8(make(noise.to(weight), *given), self.value_range)

    def chunks(
        self, count: int, seed: int, labels: Tensor | None = None, truncation: float | None = None
    ) -> Iterator[Pixels]:
        """`count` images, uint8 (n, C, H, W) at a time; image i depends on `seed`, i and its label alone.

        Args:
            count: how many.
            seed: of the noise.
            labels: (count,), if there are classes; by default all classes in turn.
            truncation: as for `noise_chunks`.

        Raises:
            UserError: labels are given without classes, or out of range.
        """
        labels = self.check_labels(labels, count)
        start = 0
        for noise in noise_chunks(seed, count, self.z_dim, truncation):
            stop = start + len(noise)
            yield self.images(noise, None if labels is None else labels[start:stop])
            start = stop

    def sample(self, count: int, seed: int, labels: Tensor | None = None, truncation: float | None = None) -> Pixels:
        """`chunks` in one piece: uint8 (count, C, H, W)."""
        return np.concatenate(list(self.chunks(count, seed, labels, truncation)))

    def check_labels(self, labels: Tensor | None, count: int) -> Tensor | None:
        """The labels of `count` images, all classes in turn where None is given; None if there are no classes."""
        if not self.classes:
            require(labels is None, "labels: this system is not conditional, it takes none")
            return None
        if labels is None:
            return torch.arange(count) % self.classes
        in_range = len(labels) == count and int(labels.min()) >= 0 and int(labels.max()) < self.classes
        require(in_range, f"labels: expected {count} of 0 … {self.classes - 1}, got {labels.tolist()[:10]}")
        return labels

    def interpolate(self, rows: int, columns: int, seed: int) -> Pixels:
        """From one sample to another in each of `rows` rows: uint8 (rows · columns, C, H, W), row by row."""
        ends = draw_noise(seed, 2 * rows, self.z_dim)
        latents = between(ends[:rows], ends[rows:], columns).flatten(0, 1)
        labels = torch.arange(rows).repeat_interleave(columns) % self.classes if self.classes else None
        return self.images(latents, labels)

    def reconstruct(self, images: Tensor) -> Pixels:
        """Encode and decode images, through the mean of q(z | x): uint8 (N, C, H, W) to the same.

        Raises:
            UserError: this system is no VAE, or the images are of another shape.
        """
        network = self.network
        if not isinstance(network, VAENetwork):
            raise UserError("reconstruct: it needs a VAE; a GAN has no encoder")
        require(
            tuple(images.shape[1:]) == self.image_shape,
            f"data: expected images of {self.image_shape}, got {tuple(images.shape[1:])}",
        )
        weight = next(network.parameters())
        with evaluating(network):
            values = from_uint8(images.to(weight.device), self.value_range, weight.dtype)
            return to_uint8(network.decode(network.encode(values)[0]), self.value_range)


def load_sampler(run: Path, device: torch.device, checkpoint: str | None = None) -> Sampler:
    """The network of a run's checkpoint that makes pictures, on `device`.

    Args:
        run: the run's folder.
        device: where it is to be.
        checkpoint: file name in the folder `checkpoints`, as "best.safetensors"; None takes the last.

    Raises:
        UserError: naming the folder or file: no run folder, no checkpoint yet, or a damaged one.
    """
    folder = RunFolder(run)
    folder.require_run()
    store = Checkpoints(folder.checkpoints, keep=1)
    loaded = store.load(checkpoint)
    return make_sampler(loaded, store.all()[-1] if checkpoint is None else folder.checkpoints / checkpoint, device)


def make_sampler(loaded: Checkpoint, path: Path, device: torch.device) -> Sampler:
    """The network that makes pictures from a checkpoint that is loaded; `path` is for the message of the UserError that
    is raised when it does not fit."""
    try:
        config = loaded.config
        preset = from_json(config["preset"], config["model"])
        channels, height, width = config["image_shape"]
        classes: int = config["classes"]
        # On the meta device the modules cost no memory, whatever sizes the file claims; `assign` puts its tensors in.
        with torch.device("meta"):
            network = build_maker(preset.model, (channels, height, width), classes)
        state: dict[str, Any] = loaded.state
        kind = "vae" if isinstance(network, VAENetwork) else "generator"
        network.load_state_dict(state.get(f"averaged_{kind}", state[kind]), assign=True)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError, UserError) as error:
        raise CheckpointError(f"{path}: its weights and its configuration do not fit: {error!r}") from error
    network = network.to(device).requires_grad_(False).eval()
    return Sampler(network, preset.model.z_dim, preset.model.value_range, classes, (channels, height, width))
