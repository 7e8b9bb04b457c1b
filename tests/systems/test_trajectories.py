"""Step after step, the trainer's losses and weights are as close to the truth as those of the same systems in stock
layers, by the tolerance rule: ten steps in float32, a hundred in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from fused_gan.data import ImageData, load
from fused_gan.models import MLPGANConfig
from fused_gan.training import GAN, VAE, GANTraining, build_system, configure
from helpers.textbook import Draws, TextbookGAN, TextbookVAE, Trainer, WideGAN, WideVAE, parts
from helpers.tolerance import assert_all_as_close_as_stock, needs_longdouble, wide

CPU = torch.device("cpu")
GANS = {
    "default": MLPGANConfig(),
    "sigmoid out": MLPGANConfig(
        z_dim=16,
        generator_widths=(64, 128),
        discriminator_widths=(128, 64),
        activation="leaky_relu",
        discriminator_activation="relu",
        output_activation="sigmoid",
    ),
    "odd sizes": MLPGANConfig(
        z_dim=5,
        generator_widths=(33,),
        discriminator_widths=(7, 19),
        activation="sigmoid",
        discriminator_activation="tanh",
        output_activation="identity",
    ),
}
VAES: dict[str, dict[str, Any]] = {
    "default": {},
    "gaussian": {"likelihood": "gaussian", "beta": 4.0, "activation": "tanh"},
}


@cache
def digits(side: int) -> ImageData:
    """The middles of real digits, `side` pixels wide."""
    images = load("mnist-5k").images
    start = (images.shape[-1] - side) // 2
    middle = slice(start, start + side)
    return ImageData(images[:, :, middle, middle].contiguous(), None)


def assert_steps_as_close_as_stock(system: GAN | VAE, stock: Any, truth: Any, steps: int) -> None:
    """The losses of all steps, and after them the weights of each network."""
    draws, runs = Draws(system), (Trainer(system), stock, truth)
    seen: list[list[Any]] = [[], [], []]
    for _ in range(steps):
        drawn = draws.next()
        for run, losses in zip(runs, seen, strict=True):
            losses.append(run.step(drawn))
    results = []
    for run, losses in zip(runs, seen, strict=True):
        found = dict(zip(system.losses, np.array(losses, np.longdouble).T, strict=True))
        for name, network in zip(parts(system), run.networks, strict=True):
            found[name] = np.concatenate([wide(weight).ravel() for weight in network.parameters()])
        results.append(found)
    ours, stocks = (
        {n: torch.tensor(v.astype(float), dtype=system.data.dtype) for n, v in r.items()} for r in results[:2]
    )
    assert_all_as_close_as_stock(ours, stocks, results[2])


@pytest.mark.parametrize("name", GANS)
def test_ten_steps_of_a_gan_in_float32(name: str) -> None:
    gan = build_system(GANS[name], GANTraining(steps=13, seed=3, batch_size=32), digits(28), CPU)
    assert isinstance(gan, GAN)
    assert_steps_as_close_as_stock(gan, TextbookGAN(gan, torch.float32), TextbookGAN(gan, torch.float64), 10)


@needs_longdouble
@pytest.mark.parametrize("name", ["sigmoid out", "odd sizes"])
def test_a_hundred_steps_of_a_gan_in_float64(name: str) -> None:
    config = GANTraining(steps=130, seed=3, batch_size=16, dtype="float64")
    gan = build_system(GANS[name], config, digits(8), CPU)
    assert isinstance(gan, GAN)
    assert_steps_as_close_as_stock(gan, TextbookGAN(gan, torch.float64), WideGAN(gan), 100)


@pytest.mark.parametrize("name", VAES)
def test_ten_steps_of_a_vae_in_float32(name: str) -> None:
    preset = configure("mlp-vae", steps=10, seed=3, batch_size=32, **VAES[name])
    vae = build_system(preset.model, preset.training, digits(28), CPU)
    assert isinstance(vae, VAE)
    assert_steps_as_close_as_stock(vae, TextbookVAE(vae, torch.float32), TextbookVAE(vae, torch.float64), 10)


@needs_longdouble
@pytest.mark.parametrize("name", VAES)
def test_a_hundred_steps_of_a_vae_in_float64(name: str) -> None:
    preset = configure("mlp-vae", steps=100, seed=3, batch_size=8, dtype="float64", **VAES[name])
    vae = build_system(preset.model, preset.training, digits(8), CPU)
    assert isinstance(vae, VAE)
    assert_steps_as_close_as_stock(vae, TextbookVAE(vae, torch.float64), WideVAE(vae), 100)
