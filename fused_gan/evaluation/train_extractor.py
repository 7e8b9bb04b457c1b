"""Trains a feature extractor, a classifier of a data set's classes or, without labels, of the positions of its images,
and tests it on held-out images."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fused_gan.base.errors import require
from fused_gan.base.files import as_path
from fused_gan.base.memory import memory_for
from fused_gan.base.seeds import require_seed, stream_seed
from fused_gan.base.torch_state import measuring
from fused_gan.data import ImageData, load
from fused_gan.data.image_data import require_no_negative_class
from fused_gan.evaluation.classifier import FEATURES, VALUE_RANGE, WIDTHS, Classifier
from fused_gan.evaluation.extractor import (
    CLASSES,
    IN_POSITIONS,
    PREPROCESSING,
    About,
    Extractor,
    save_extractor,
    shape_text,
    stored,
)

BATCH = 128
LR = 2e-3
SHIFT = 2  # pixels, at most, that a batch is moved by; digits and clothes keep their class
PALING = 0.3  # share, at most, of an image's contrast that is removed
BLUR = 0.5  # largest weight of the mean of the nine pixels around a pixel
NOISE = 0.2  # largest standard deviation of the noise added to an image in [-1, 1]
HELD_OUT = 0.2  # share of the data that accuracy is measured on
FEWEST = 5  # images per class
POSITIONS = 4  # of an image, which a classifier without labels tells apart


@measuring()
def train_extractor(
    data: str,
    out: Path | str,
    image_size: int | None = None,
    channels: int | None = None,
    steps: int = 3000,
    seed: int = 0,
    device: torch.device | None = None,
) -> Extractor:
    """Train a classifier, measure it on held-out images, write its file and return the extractor in the file.

    Adam minimises the cross-entropy on `disturbed` images, with a step size that falls linearly to 0. If the data has
    no labels, the classifier tells in which of four positions an image is, as `in_positions` makes them.

    Args:
        data: as for `load`.
        out: the file, whose name ends in .safetensors.
        image_size, channels: as for `load`.
        steps: number of steps, each on a batch of 128 images.
        seed: seed of weights, batches and the choice of held-out images.
        device: trains the classifier; None takes the CPU.

    Raises:
        UserError: the data cannot be read, has one class, or has too few images, of a class or at all.
    """
    require_seed(seed)
    out = as_path(out)
    require(out.suffix == ".safetensors", f"out: expected a name ending in .safetensors, got {out.name}")
    require(steps > 0, f"steps: expected a positive integer, got {steps}")
    device = device or torch.device("cpu")
    images = load(data, image_size, channels)
    has_labels = images.labels is not None
    classes = len(images.class_names) if has_labels else POSITIONS
    _require_enough(data, images)
    _, depth, height, width = images.images.shape
    attempt = (
        f"an extractor for {len(images.images):,} images of {shape_text((depth, height, width))}, {BATCH} at a time"
    )
    memory = partial(memory_for, attempt, "a smaller --image-size takes less")
    # All random numbers are drawn on the CPU, so that every device gets the same weights and batches.
    random = torch.Generator().manual_seed(stream_seed(seed, "extractor"))
    with memory(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "weights"))
        network = Classifier((depth, height, width), classes).to(device)
    order = torch.randperm(len(images.images), generator=random)
    held_out, kept = order.tensor_split([math.ceil(HELD_OUT * len(order))])

    def shown(chosen: Tensor) -> tuple[Tensor, Tensor]:
        if images.labels is None:
            return in_positions(images.images[chosen])
        return images.images[chosen], images.labels[chosen]

    with memory():
        fit_classifier(network, *shown(kept), steps, random)
        _normalise(network, images.images[kept])
        network.load_state_dict(stored(network))  # measures the rounded weights that the file holds
        measured = accuracy(network, *shown(held_out))
    about = About(
        data=Path(data).name,
        image_shape=(depth, height, width),
        classes=classes,
        widths=WIDTHS,
        num_features=FEATURES,
        preprocessing=PREPROCESSING,
        seed=seed,
        steps=steps,
        trained_on=len(kept),
        held_out=len(held_out),
        accuracy=measured,
        told_apart=CLASSES if has_labels else IN_POSITIONS,
    )
    return save_extractor(out, about, network)


def in_positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images (N, C, H, W) in four positions each, (4 N, C, H, W), and the number of each one's position, (4 N,).

    Square images are turned by 0, 90, 180 and 270 degrees, others mirrored upside down, left to right, and both. Who
    tells the positions apart has to know what the images show.

    Source: Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations, 2018.
    """
    if images.shape[2] == images.shape[3]:
        positions = [torch.rot90(images, quarters, (2, 3)) for quarters in range(POSITIONS)]
    else:
        positions = [images, images.flip(2), images.flip(3), images.flip(2, 3)]
    return torch.cat(positions), torch.arange(POSITIONS).repeat_interleave(len(images))


def _require_enough(source: str, data: ImageData) -> None:
    if data.labels is None:
        count = len(data.images)
        require(count >= 2 * FEWEST, f"data: {source} has {count} images; expected {2 * FEWEST} or more")
        return
    require_no_negative_class(data, source)
    require(len(data.class_names) > 1, f"data: {source} has one class only; a classifier needs two or more")
    count, name = min(zip(data.class_sizes(), data.class_names, strict=True))
    require(count >= FEWEST, f"data: {source} has {count} images of class {name}; each needs {FEWEST} or more")


def fit_classifier(network: Classifier, images: Tensor, labels: Tensor, steps: int, random: torch.Generator) -> None:
    """Train on uint8 images (N, C, H, W) and labels (N,) by Adam, with a falling step size, on `disturbed` batches."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    network.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / steps)
        chosen = torch.randint(len(images), (BATCH,), generator=random)
        batch = disturbed(network.scaled(images[chosen]), random)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(batch), labels[chosen].to(batch.device))
        torch.autograd.backward(loss)
        optimizer.step()
    network.eval()


def disturbed(images: Tensor, random: torch.Generator) -> Tensor:
    """Return images (B, C, H, W) moved together, and paled, blurred and made noisy, each to a degree of its own.

    A classifier trained on clean images alone gives one class to all pictures with noise in the background. Then no
    score tells a bad generator from a worse one.
    """
    count, low, high = len(images), *VALUE_RANGE
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=random).tolist()
    padded = F.pad(images, (SHIFT,) * 4, value=low)
    height, width = images.shape[2:]
    moved = padded[:, :, down : down + height, right : right + width]
    degrees = torch.rand(3, count, 1, 1, 1, generator=random).to(images)
    blurred = torch.lerp(moved, F.avg_pool2d(moved, 3, 1, 1, count_include_pad=False), BLUR * degrees[0])
    paled = low + (blurred - low) * (1 - PALING * degrees[1])
    grain = torch.randn(images.shape, generator=random).to(images)
    return (paled + NOISE * degrees[2] * grain).clamp(low, high)


@torch.no_grad()
def _normalise(network: Classifier, images: Tensor) -> None:
    """Scale the features to a mean square of 1 over the images, and the head by the inverse, which keeps the logits.

    Distances then have the same scale for every classifier, and KID's kernel, which adds 1, weighs its terms alike.
    """
    squares = torch.cat([network.features(some).square().mean(1) for some in torch.split(images, BATCH)])
    scale = squares.mean().rsqrt()
    linear = network.body[-2]
    assert isinstance(linear, nn.Linear)
    for tensor in (linear.weight, linear.bias):  # the ReLU behind it scales as its input does
        tensor.mul_(scale)
    network.head.weight.div_(scale)


@torch.no_grad()
def accuracy(network: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of uint8 images (N, C, H, W) that are classified correctly."""
    features = torch.cat([network.features(some) for some in torch.split(images, BATCH)])
    right: Tensor = network.head(features).argmax(1).cpu() == labels
    return right.double().mean().item()
