"""Small systems that between them have everything that a training step can hold."""

from __future__ import annotations

from typing import Any

import torch

from fused_gan.data import ImageData
from fused_gan.training import GAN, VAE, build_system, configure

MLP = {"generator_widths": (16, 24), "discriminator_widths": (24, 16), "z_dim": 5}
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp-gan": ("mlp-gan", MLP),
    "steps that grow and shrink": ("mlp-gan", MLP | {"warmup_steps": 4, "lr_schedule": "cosine"}),
    "parts, gradients clipped": ("leaky-gan", MLP | {"gradient_accumulation": 2, "gradient_clip": 0.05}),
    "r1": ("mlp-gan", MLP | {"r1": 1.0, "loss": "hinge", "n_critic": 2}),
    "bf16": ("mlp-gan", MLP | {"mixed_precision": "bf16"}),
    "float64": ("mlp-gan", MLP | {"dtype": "float64", "ema_decay": 0.0}),
    "dcgan": ("dcgan", {"width": 4, "z_dim": 5}),
    "cgan": ("cgan", MLP),
    "wgan": ("wgan", MLP),
    "wgan-gp": ("wgan-gp", MLP | {"instance_noise": 0.5, "n_critic": 3}),
    "wgan-gp of convolutions": ("wgan-gp", {"network": "conv", "width": 4, "z_dim": 5}),
    "mlp-vae": ("mlp-vae", {"widths": (24, 16), "z_dim": 5, "ema_decay": 0.9, "lr_schedule": "linear"}),
    "conv-vae": ("conv-vae", {"width": 4, "z_dim": 5}),
}


def build(name: str, device: str = "cpu", **changes: Any) -> GAN | VAE:
    """A system of the table, on 60 images of noise in 3 classes."""
    random = torch.Generator().manual_seed(0)
    data = ImageData(torch.randint(256, (60, 1, 8, 8), dtype=torch.uint8, generator=random), torch.arange(60) % 3)
    preset, fields = SYSTEMS[name]
    configured = configure(preset, steps=40, batch_size=8, **fields | changes)
    return build_system(configured.model, configured.training, data, torch.device(device))
