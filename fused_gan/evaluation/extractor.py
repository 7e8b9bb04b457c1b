"""Feature extractors and their files. A file holds a trained classifier, and how the classifier was trained.

A file is plain safetensors. Its tensors are the classifier's weights and statistics in float16; its metadata holds
    format   FORMAT
    about    JSON: the fields of `About`
    sha256   of the tensors, which is the extractor's hash
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fused_gan.base import tensor_files
from fused_gan.base.errors import UserError, require
from fused_gan.base.files import atomic_write
from fused_gan.base.torch_state import measuring
from fused_gan.evaluation.classifier import Classifier

FORMAT = "fused_gan extractor 1"
SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "extractors").glob("*.safetensors"))}
PREPROCESSING = "uint8 0…255 mapped to [-1, 1], not resized"
CLASSES, IN_POSITIONS = "classes", "positions"
CHUNK = 500  # images in the network at once


class ExtractorError(UserError):
    """The file of an extractor is missing or damaged, or holds something else; the message names the file."""


@dataclass(frozen=True)
class About:
    """Describes an extractor, and how it was trained."""

    data: str
    """The images that it was trained on: a data set's name, or the last part of a path."""

    image_shape: tuple[int, int, int]
    """(C, H, W) of the images that it takes; images of another shape are refused."""

    classes: int
    widths: tuple[int, ...]
    """Channels of its convolutions."""

    num_features: int
    preprocessing: str
    seed: int
    steps: int
    trained_on: int
    """Number of images that it was trained on."""

    held_out: int
    """Number of images that it was not trained on."""

    accuracy: float
    """Share of the held-out images that it classifies correctly, with the weights as they are stored."""

    told_apart: str = CLASSES
    """What it was trained to tell apart: classes or, for data without labels, positions of an image."""


class Extractor:
    """A trained classifier that turns images into features and logits.

    Args:
        about: describes the extractor.
        weights: the tensors of its file.

    Raises:
        RuntimeError: the weights do not fit the description.
    """

    @measuring()
    def __init__(self, about: About, weights: dict[str, Tensor]) -> None:
        self.about = about
        self.hash = tensor_files.digest(weights)
        with torch.random.fork_rng(devices=[]):
            self._network = Classifier(about.image_shape, about.classes, about.widths, about.num_features)
        self._network.load_state_dict(weights)  # converts float16 to float32
        self._network.eval().requires_grad_(False)

    @property
    def name(self) -> str:
        """The name that people see, as "mnist-5k classifier 3fa2c0de"."""
        return f"{self.about.data} classifier {self.hash[:8]}"

    @property
    def knows_classes(self) -> bool:
        """Whether it was trained to tell classes apart."""
        return self.about.told_apart == CLASSES

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self._network.head.weight.device

    def to(self, device: torch.device) -> Extractor:
        """Move the extractor to a device, and return the extractor."""
        self._network.to(device)
        return self

    @measuring()
    def features(self, images: Tensor) -> Tensor:
        """Return the features of images.

        Args:
            images: uint8 (N, C, H, W), on any device.

        Returns:
            (N, num_features) float32 on the extractor's device, at least 0.

        Raises:
            UserError: the images have another shape than the extractor takes.
        """
        shape = tuple(images.shape[1:])
        require(
            shape == self.about.image_shape,
            f"extractor: the {self.name} takes images of {shape_text(self.about.image_shape)}, got "
            f"{shape_text(shape)}; train one for them with: "
            f"fused-gan extractor --data DATA{shape_options(shape)} --out FILE",
        )
        with torch.no_grad():
            return torch.cat([self._network.features(chunk) for chunk in torch.split(images, CHUNK)])

    def logits_of(self, features: Tensor) -> Tensor:
        """Return class logits (N, classes) of features (N, num_features)."""
        with torch.no_grad():
            logits: Tensor = self._network.head(features)
        return logits

    @measuring()
    def logits(self, images: Tensor) -> Tensor:
        """Return class logits (N, classes) of images, which are as for `features`."""
        return self.logits_of(self.features(images))


def save_extractor(path: Path, about: About, network: Classifier) -> Extractor:
    """Write a trained classifier and return the extractor that the file holds."""
    weights = stored(network)
    metadata = {
        "format": FORMAT,
        "about": json.dumps(dataclasses.asdict(about), allow_nan=False),
        "sha256": tensor_files.digest(weights),
    }
    with atomic_write(path) as temporary:
        tensor_files.save(temporary, weights, metadata)
    return Extractor(about, weights)


def load_extractor(source: str | Path) -> Extractor:
    """Return the extractor that ships for a data set, by its name, or the extractor in a file.

    Reading a file does not run any code in it.

    Raises:
        ExtractorError: the name or file does not exist, or the file is damaged, cut short or not an extractor.
    """
    path = SHIPPED.get(str(source), Path(os.path.expanduser(source)))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExtractorError(
            f"extractor: {source} is none of {', '.join(SHIPPED)} and cannot be read as a file: {error.strerror}"
        ) from error
    metadata, weights = tensor_files.parse(path, content, FORMAT, "fused-gan extractor makes one", ExtractorError)
    if metadata.get("sha256") != tensor_files.digest(weights):
        raise ExtractorError(f"{path}: damaged, its weights do not match their checksum")
    try:
        return Extractor(_about_from_json(json.loads(metadata["about"])), weights)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ExtractorError(f"{path}: its weights and its description do not fit: {error!r}") from error


def stored(network: Classifier) -> dict[str, Tensor]:
    """Return a classifier's weights and statistics as a file holds them."""
    return {
        name: tensor.detach().cpu().to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as text: "1×28×28" for (1, 28, 28)."""
    return "×".join(map(str, shape))


def shape_options(shape: tuple[int, ...]) -> str:
    """Return the options of `fused-gan extractor` for images of (C, H, W)."""
    channels, height, width = shape
    return f" --channels {channels}" + (f" --image-size {height}" if height == width else "")


def _about_from_json(fields: dict[str, Any]) -> About:
    channels, height, width = fields["image_shape"]
    return About(**fields | {"image_shape": (channels, height, width), "widths": tuple(fields["widths"])})
