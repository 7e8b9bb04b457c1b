"""Makes pictures with a network: samples, interpolations and reconstructions, and the noise for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fused_gan.base.errors import UserError, require
from fused_gan.base.seeds import stream_seed
from fused_gan.base.torch_state import torch_defaults
from fused_gan.data.image_data import same_class
from fused_gan.data.images import Pixels, from_uint8, to_uint8
from fused_gan.models.inference import evaluating

CHUNK = 1024  # rows of noise, and images, that are made at once


def noise_chunks(seed: int, count: int, z_dim: int, truncation: float | None = None) -> Iterator[Tensor]:
    """Yield noise for samples from N(0, 1): float32 (n, z_dim) on the CPU, `count` rows together.

    Row i depends on `seed` and i alone, not on `count` or the device. More samples, or samples on another machine,
    therefore begin with the same rows.

    Args:
        seed: seed of the noise.
        count: number of rows.
        z_dim: length of a row.
        truncation: draw from N(0, 1) cut off at ±truncation, which makes samples more typical and less diverse.
    """
    random = torch.Generator().manual_seed(stream_seed(seed, "samples"))
    for start in range(0, count, CHUNK):
        # torch.randn's numbers depend on how many are drawn at once, so each draw is a whole chunk.
        chunk = torch.randn(CHUNK, z_dim, generator=random, dtype=torch.float32, device="cpu")[: count - start]
        yield chunk if truncation is None else truncated(chunk, truncation)


def draw_noise(seed: int, count: int, z_dim: int) -> Tensor:
    """Return the noise of `noise_chunks` in one tensor, (count, z_dim)."""
    return torch.cat(list(noise_chunks(seed, count, z_dim)))


def truncated(noise: Tensor, bound: float) -> Tensor:
    """Map numbers from N(0, 1) to numbers from N(0, 1) cut off at ±bound, by their quantiles; same shape and dtype."""
    low, high = (torch.special.ndtr(torch.tensor(end, dtype=torch.float64)) for end in (-bound, bound))
    quantiles = torch.special.ndtr(noise.double())
    cut: Tensor = torch.special.ndtri(low + quantiles * (high - low))
    return cut.to(noise.dtype)


def between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Return latents on the great circle from `first` to `last`, both included: (N, z_dim) each to (N, steps, z_dim).

    Normal noise lies near a sphere. The middle of a straight line between two points would be untypically short. Points
    in the same direction, or in opposite ones, have no great circle of their own. They are joined by a straight line,
    as all points with one latent dimension are.
    """
    norms = first.norm(dim=-1), last.norm(dim=-1)
    angle = torch.acos(((first * last).sum(-1) / (norms[0] * norms[1])).clamp(-1, 1))[:, None, None]
    way = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device)[None, :, None]
    first, last, sine = first[:, None], last[:, None], torch.sin(angle)
    on_circle = (torch.sin((1 - way) * angle) * first + torch.sin(way * angle) * last) / sine
    # acos is too coarse for smaller sines. There the circle's middle and the line's differ by 1e-7, or lie at 0 anyway.
    return torch.where(sine > 1e-3, on_circle, torch.lerp(first, last, way))


@torch_defaults()
def make_images(network: nn.Module, noise: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return images (B, C, H, W) made by a network from noise (B, z_dim) and, for a conditional network, labels (B,).

    A network with a method `images`, as a VAE, makes images by this method; other networks are called. No gradients are
    computed. Noise and labels may be on any device.
    """
    weight = next(network.parameters())
    given = [] if labels is None else [labels.to(weight.device)]
    # Of the class, as a network may have a child of this name.
    make: Any = network.images if hasattr(type(network), "images") else network
    with evaluating(network):
        images: Tensor = make(noise.to(weight), *given)
    return images


@dataclass(frozen=True)
class Sampler:
    """Makes pictures with a network.

    Attributes:
        network: makes images from noise (B, z_dim), and labels (B,) if there are classes, through `make_images`.
        z_dim: length of the noise.
        value_range: (low, high) of the images.
        classes: number of classes; 0 if the network is not conditional.
        image_shape: (C, H, W).
        class_names: the names of the classes; by default their numbers.
    """

    network: nn.Module
    z_dim: int
    value_range: tuple[float, float]
    classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.classes))))

    @torch_defaults()
    def images(self, noise: Tensor, labels: Tensor | None = None) -> Pixels:
        """Return uint8 (B, C, H, W) from noise (B, z_dim) and, if there are classes, labels (B,), on any device."""
        return to_uint8(make_images(self.network, noise, labels), self.value_range)

    def chunks(
        self, count: int, seed: int, labels: Tensor | None = None, truncation: float | None = None
    ) -> Iterator[Pixels]:
        """Yield `count` images, uint8 (n, C, H, W) at a time; image i depends on `seed`, i and its label alone.

        Args:
            count: number of images.
            seed: seed of the noise.
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
        """Return the images of `chunks` in one array, uint8 (count, C, H, W)."""
        images = np.empty((count, *self.image_shape), np.uint8)  # all of it now: too much of it is refused at once
        done = 0
        for chunk in self.chunks(count, seed, labels, truncation):
            images[done : done + len(chunk)] = chunk
            done += len(chunk)
        return images

    @torch_defaults()
    def check_labels(self, labels: Tensor | None, count: int) -> Tensor | None:
        """Return the labels of `count` images; None if there are no classes.

        Without `labels`, the images have all classes in turn.

        Raises:
            UserError: labels are given without classes, or out of range.
        """
        if not self.classes:
            require(labels is None, "labels: this system is not conditional, it takes none")
            return None
        if labels is None:
            return torch.arange(count) % self.classes
        in_range = len(labels) == count and int(labels.min()) >= 0 and int(labels.max()) < self.classes
        require(in_range, f"labels: expected {count} of 0 … {self.classes - 1}, got {labels.tolist()[:10]}")
        return labels

    @torch_defaults()
    def labels_named(self, names: Sequence[str], count: int) -> Tensor | None:
        """Return the labels (count,) of images that take the named classes in turn; all classes without names.

        Raises:
            UserError: the system is not conditional, or has no class of such a name.
        """
        if not names or not self.classes:
            return self.check_labels(torch.arange(count) if names else None, count)
        places = {same_class(name): index for index, name in enumerate(self.class_names)}
        unknown = [name for name in names if same_class(name) not in places]
        known = ", ".join(self.class_names)
        require(not unknown, f"labels: expected classes of the run ({known}), got {', '.join(unknown)}")
        return torch.tensor([places[same_class(names[index % len(names)])] for index in range(count)])

    @torch_defaults()
    def interpolate(self, rows: int, columns: int, seed: int) -> Pixels:
        """Return `rows` interpolations between two samples, uint8 (rows · columns, C, H, W), row by row."""
        ends = draw_noise(seed, 2 * rows, self.z_dim)
        latents = between(ends[:rows], ends[rows:], columns).flatten(0, 1)
        labels = torch.arange(rows).repeat_interleave(columns) % self.classes if self.classes else None
        return self.images(latents, labels)

    @property
    def reconstructs(self) -> bool:
        """Whether the network can encode images."""
        return hasattr(type(self.network), "reconstruct")

    @torch_defaults()
    def reconstruct(self, images: Tensor) -> Pixels:
        """Encode and decode images through the mean of q(z | x): uint8 (N, C, H, W) to uint8 (N, C, H, W).

        Raises:
            UserError: the network has no encoder, or the images are of another shape.
        """
        if not self.reconstructs:
            raise UserError("reconstruct: it needs a VAE; a GAN has no encoder")
        require(
            tuple(images.shape[1:]) == self.image_shape,
            f"data: expected images of {self.image_shape}, got {tuple(images.shape[1:])}",
        )
        reconstruct: Any = self.network.reconstruct
        weight = next(self.network.parameters())
        with evaluating(self.network):
            values = from_uint8(images.to(weight.device), self.value_range, weight.dtype)
            return to_uint8(reconstruct(values), self.value_range)
