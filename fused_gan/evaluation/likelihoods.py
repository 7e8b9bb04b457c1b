"""Scores how well a VAE encodes and decodes real images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from fused_gan.base.scores import SSIM_WINDOW
from fused_gan.base.seeds import stream_seed
from fused_gan.base.torch_state import measuring
from fused_gan.data.images import from_uint8
from fused_gan.models import VAELikelihood
from fused_gan.models.inference import evaluating

ACTIVE_VARIANCE = 0.01  # variance of a latent dimension's mean over the images, above which it is active (Burda et al.)
CHUNK = 500  # images in the network at once


@measuring()
def vae_scores(
    likelihood: VAELikelihood, value_range: tuple[float, float], images: Tensor, seed: int, k: int
) -> dict[str, float]:
    """Return the `VAE_SCORES`, means over the images.

    Likelihoods are in nats per image, of pixels as they are, not binarised.

    elbo                  −reconstruction_error − kl_divergence; β is 1, whatever it was in training
    iwae                  the bound of k latents for each image (Burda et al., Importance Weighted Autoencoders, 2016)
    reconstruction_error  −log p(x | z) of one latent drawn for each image, under the training's likelihood, summed over
                          pixels
    kl_divergence         KL(q(z | x) ‖ N(0, 1)), summed over latent dimensions
    mse, psnr, ssim       of the decoded mean of q, pixels in [0, 1]; SSIM by a Gaussian window of 11 pixels (Wang et
                          al., Image Quality Assessment, 2004), of images at least as large
    active_units          latent dimensions whose mean's variance over the images is above 0.01 (Burda et al., 5.2)

    Args:
        likelihood: likelihood of images, under the weights that make pictures.
        value_range: (low, high) of its images.
        images: uint8 (N, C, H, W), N at least 2.
        seed: seed of the latents.
        k: latents for each image in `iwae`.
    """
    random = torch.Generator().manual_seed(stream_seed(seed, "elbo"))
    network = likelihood.network
    weight = next(network.parameters())
    found: dict[str, list[Tensor]] = {}  # by score: for each chunk a tensor with a number for each image
    codes: list[Tensor] = []
    for index, chunk in enumerate(torch.split(images, CHUNK)):
        real = from_uint8(chunk.to(weight.device), value_range, weight.dtype)
        with evaluating(network):
            mean, _ = network.encode(real)
            decoded = network.reconstruct(real)
        noise = torch.randn(mean.shape, generator=random).to(real)
        reconstruction, kl = likelihood.elbo_terms(real, noise)
        numbers = {
            "elbo": -reconstruction - kl.sum(1),
            "iwae": likelihood.iwae(real, k, stream_seed(seed, f"iwae {index}")),
            "reconstruction_error": reconstruction,
            "kl_divergence": kl.sum(1),
            **_picture_scores(_unit(real, value_range), _unit(decoded, value_range)),
        }
        for name, values in numbers.items():
            found.setdefault(name, []).append(values)
        codes.append(mean)
    means = {name: torch.cat(values).double().mean().item() for name, values in found.items()}
    return means | {"active_units": float((torch.cat(codes).var(0) > ACTIVE_VARIANCE).sum())}


def _picture_scores(real: Tensor, decoded: Tensor) -> dict[str, Tensor]:
    """Return `mse`, `psnr` and, if the images are large enough, `ssim`, (N,) each, of images (N, C, H, W) in [0, 1]."""
    numbers = {
        "mse": (real - decoded).square().flatten(1).mean(1),
        "psnr": peak_signal_noise_ratio(decoded, real, data_range=1.0, dim=(1, 2, 3), reduction="none"),
    }
    if min(real.shape[2:]) >= SSIM_WINDOW:
        ssim = structural_similarity_index_measure(decoded, real, data_range=1.0, reduction="none")
        assert isinstance(ssim, Tensor)  # a pair only where the map of the whole picture is asked for
        numbers["ssim"] = ssim
    return numbers


def _unit(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Map images from a value range to [0, 1], and clamp them, as pictures are."""
    low, high = value_range
    return ((images - low) / (high - low)).clamp(0, 1)
