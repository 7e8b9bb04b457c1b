"""The scores of a VAE are those of its distributions, and stand where theory puts them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from fused_gan.base.scores import VAE_SCORES
from fused_gan.base.seeds import stream_seed
from fused_gan.data import ImageData
from fused_gan.data.images import from_uint8
from fused_gan.evaluation import likelihoods as vae_module
from fused_gan.evaluation.likelihoods import vae_scores
from fused_gan.models import MLPVAEConfig
from fused_gan.training import VAE, VAETraining, build_system

UNIT = (0.0, 1.0)


def build(images: Tensor, config: VAETraining | None = None, **model: Any) -> VAE:
    """A VAE of float64 with weights from the seed, whose data are these images, uint8 (N, C, H, W)."""
    training = config or VAETraining(dtype="float64", batch_size=1)
    system = build_system(MLPVAEConfig(**model), training, ImageData(images, None), torch.device("cpu"))
    assert isinstance(system, VAE)
    return system


def pixels(count: int, *shape: int, values: int = 256) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(values, (count, 1, *shape), generator=random, dtype=torch.uint8)


def test_elbo_is_that_of_the_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_module, "CHUNK", 7)
    images = pixels(20, 3, 4, values=2) * 255  # black and white, as torch's Bernoulli takes no grey
    vae = build(images, widths=(8,), z_dim=3)
    found = vae_scores(vae.likelihood, UNIT, images, seed=5, k=1)
    real = from_uint8(images, UNIT, torch.float64)
    random = torch.Generator().manual_seed(stream_seed(5, "elbo"))
    noise = torch.cat([torch.randn(len(part), 3, generator=random) for part in torch.split(real, 7)]).double()
    with torch.no_grad():
        mean, log_variance = vae.network.encode(real)
        posterior = Normal(mean, (log_variance / 2).exp())
        likelihood = Bernoulli(vae.network.decode(mean + posterior.scale * noise))
        reconstruction = -likelihood.log_prob(real).flatten(1).sum(1).mean().item()
        kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean().item()
    assert found["reconstruction_error"] == pytest.approx(reconstruction)
    assert found["kl_divergence"] == pytest.approx(kl)
    assert found["elbo"] == pytest.approx(-reconstruction - kl)


def test_the_bounds_close_in_on_the_likelihood() -> None:
    """A linear decoder with normal noise: log p(x) is known, and the bounds stay below it, the larger k the closer."""
    images = pixels(400, 2, 3)
    training = VAETraining(dtype="float64", batch_size=1, likelihood="gaussian", deviation=0.5)
    vae = build(images, training, widths=(), z_dim=2, output_activation="identity")
    sides = (-1.0, 1.0)
    decoder = vae.network.decoder[0]
    with torch.no_grad():
        decoder.weight.mul_(0.5)
        real = from_uint8(images, sides, torch.float64).flatten(1)
        covariance = decoder.weight @ decoder.weight.T + 0.25 * torch.eye(6)
        exact = MultivariateNormal(decoder.bias, covariance).log_prob(real).mean().item()
    bounds = [vae_scores(vae.likelihood, sides, images, seed=0, k=k)["iwae"] for k in (1, 5, 50, 2000)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < exact + 0.01
    assert bounds[-1] == pytest.approx(exact, abs=0.02)
    assert vae_scores(vae.likelihood, sides, images, seed=0, k=5)["elbo"] < bounds[1]


def constant(images: Tensor, value: float, **model: Any) -> VAE:
    """A VAE that decodes whatever it is given to one grey."""
    vae = build(images, widths=(4,), **model)
    with torch.no_grad():
        last = [module for module in vae.network.decoder.modules() if hasattr(module, "weight")][-1]
        last.weight.zero_()
        last.bias.fill_(math.log(value / (1 - value)))
    return vae


def test_picture_scores_by_hand() -> None:
    images = torch.cat([torch.full((1, 1, 12, 12), grey, dtype=torch.uint8) for grey in (51, 204)])  # 0.2 and 0.8
    found = vae_scores(constant(images, 0.5).likelihood, UNIT, images, seed=0, k=1)
    assert found["mse"] == pytest.approx(0.09)
    assert found["psnr"] == pytest.approx(10 * math.log10(1 / 0.09))
    luminances = [(2 * grey * 0.5 + 1e-4) / (grey**2 + 0.25 + 1e-4) for grey in (0.2, 0.8)]
    assert found["ssim"] == pytest.approx(sum(luminances) / 2, rel=1e-6), "flat pictures differ in luminance alone"
    assert found.keys() == VAE_SCORES.keys()


def test_pictures_smaller_than_its_window_have_no_ssim() -> None:
    images = pixels(4, 11, 10)
    assert vae_scores(constant(images, 0.5).likelihood, UNIT, images, seed=0, k=1).keys() == VAE_SCORES.keys() - {
        "ssim"
    }
    assert "ssim" in vae_scores(constant(pixels(4, 11, 11), 0.5).likelihood, UNIT, pixels(4, 11, 11), seed=0, k=1)


def test_errors_are_in_units_of_the_range() -> None:
    images = torch.full((2, 1, 3, 3), 255, dtype=torch.uint8)
    vae = build(images, VAETraining(likelihood="gaussian", dtype="float64", batch_size=1), output_activation="tanh")
    with torch.no_grad():
        for parameter in vae.network.decoder.parameters():
            parameter.zero_()
    assert vae_scores(vae.likelihood, (-1.0, 1.0), images, seed=0, k=1)["mse"] == pytest.approx(0.25), (
        "1 against the middle"
    )


def test_active_units_are_counted() -> None:
    images = pixels(200, 4, 4)
    vae = build(images, widths=(), z_dim=5)
    encoder = vae.network.encoder[-1]
    with torch.no_grad():
        encoder.weight[:5] = torch.eye(16)[:5] * torch.tensor([1.0, 1.0, 0.2, 0.02, 0.0])[:, None]
    # Each mean is a pixel, of variance 1/12, times its factor.
    assert vae_scores(vae.likelihood, UNIT, images, seed=0, k=1)["active_units"] == 2


def test_scores_leave_random_numbers_and_weights_alone() -> None:
    images = pixels(20, 12, 12)
    vae = build(images, widths=(8,))
    before, streams = vae.state_dict(), (torch.get_rng_state(), vae.random.get_state())
    kept = {name: tensor.clone() for name, tensor in before["vae"].items()}
    first = vae_scores(vae.likelihood, UNIT, images, seed=3, k=2)
    assert torch.equal(streams[0], torch.get_rng_state())
    assert torch.equal(streams[1], vae.random.get_state())
    assert all(torch.equal(kept[name], tensor) for name, tensor in vae.state_dict()["vae"].items())
    assert vae_scores(vae.likelihood, UNIT, images, seed=3, k=2) == first
    assert vae_scores(vae.likelihood, UNIT, images, seed=4, k=2)["elbo"] != first["elbo"]
