"""Builds networks with weights, and the system that trains them, from configurations and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from fused_gan.base.errors import UserError, require
from fused_gan.base.memory import memory_for
from fused_gan.base.seeds import stream_seed
from fused_gan.base.torch_state import torch_defaults
from fused_gan.data import ImageData
from fused_gan.data.image_data import require_no_negative_class
from fused_gan.models import GANModel, VAEModel
from fused_gan.systems.batches import Batches
from fused_gan.systems.config import GANTraining, TrainingConfig, VAETraining
from fused_gan.systems.gan import GAN
from fused_gan.systems.vae import VAE


@torch_defaults()
def build_sampling_network(model: GANModel | VAEModel, image_shape: Sequence[int], classes: int) -> nn.Module:
    """Return the network that makes pictures: a generator, or a VAE's encoder and decoder.

    Args:
        model: the networks' configuration.
        image_shape: (C, H, W).
        classes: the number of classes of a conditional model; 0 for other models.
    """
    return model.build(image_shape) if isinstance(model, VAEModel) else model.build_generator(image_shape, classes)


def count_classes(model: GANModel | VAEModel, data: ImageData, source: str) -> int:
    """Return how many classes a conditional model has to tell apart; 0 for other models.

    Raises:
        UserError: the data has no labels, or negative ones.
    """
    if not model.conditional:
        return 0
    require(data.labels is not None, f"data: {source} has no class labels, which a conditional GAN needs")
    require_no_negative_class(data, source)
    return len(data.class_names)


@torch_defaults()
def build_system(
    model: GANModel | VAEModel,
    config: TrainingConfig,
    data: ImageData,
    device: torch.device,
    accelerator: Accelerator | None = None,
) -> GAN | VAE:
    """Return a system on `device`, with the data and with weights drawn from `config.seed`.

    The weights are drawn on the CPU, so that a run starts from the same weights on any device. torch's default random
    stream is left as it was.

    Args:
        model: the networks' configuration.
        config: a `GANTraining` for a GAN, a `VAETraining` for a VAE.
        data: the real images.
        device: where to train.
        accelerator: this process's; by default a new one.

    Raises:
        UserError: model, training and data do not fit together.
    """
    shape, classes = data.images.shape[1:], count_classes(model, data, config.data)
    batches = Batches(data, model.value_range, config.torch_dtype, device, config.data_place)
    sizes = f"networks with {sizes_text(model)}"
    images = f"images of {'×'.join(map(str, shape))}"
    built = memory_for(f"{sizes} for {images} on {device}", "smaller networks or images take less")
    # A system holds the random numbers of a batch from the start.
    batch = memory_for(
        f"{config.batch_size:,} {images} at a time through {sizes} on {device}",
        "a smaller --batch-size or smaller networks take less",
    )
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed every CUDA device as well.
        torch.default_generator.manual_seed(stream_seed(config.seed, "weights"))
        if isinstance(model, VAEModel):
            if not isinstance(config, VAETraining):
                raise UserError(f"training: a VAE needs a VAETraining, got {type(config).__name__}")
            with built:
                network = model.build(shape).to(device, config.torch_dtype)
            with batch:
                return VAE(network, batches, model.z_dim, config, accelerator)
        if not isinstance(config, GANTraining):
            raise UserError(f"training: a GAN needs a GANTraining, got {type(config).__name__}")
        with built:
            generator = model.build_generator(shape, classes).to(device, config.torch_dtype)
            discriminator = model.build_discriminator(shape, classes).to(device, config.torch_dtype)
    with batch:
        return GAN(generator, discriminator, batches, model.z_dim, config, bool(classes), accelerator)


def sizes_text(model: GANModel | VAEModel) -> str:
    """Return the fields that say how large a model's networks are, as "z_dim 64, generator_widths 256 512"."""
    fields = dataclasses.asdict(model).items()
    numbers = [(name, value if isinstance(value, tuple) else (value,)) for name, value in fields]
    sizes = [(name, value) for name, value in numbers if value and all(type(number) is int for number in value)]
    return ", ".join(f"{name} {' '.join(map(str, value))}" for name, value in sizes)
