"""Training losses: adversarial losses, their regularisers, and the evidence lower bound of a VAE.

Adversarial losses take logits (no sigmoid before them) in any shape and return a scalar. They are written for logits
because log(sigmoid(x)) is −inf already at x = −104 in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor], Tensor]  # images (B, C, H, W) → logits (B, 1)


class AdversarialLoss(NamedTuple):
    """The losses of D, a function of (real_logits, fake_logits), and of G, a function of (fake_logits,)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    classifies: bool  # whether a positive logit means "real"; the scores of a Wasserstein critic mean nothing alone


def cross_entropy_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return D's binary cross-entropy, mean(−log σ(x)) + mean(−log(1 − σ(x̂))).

    It is the negated inner objective of the minimax game of Goodfellow et al., Generative Adversarial Nets (2014),
    equation 1. At least 0; 2 log 2 ≈ 1.386 when D cannot tell real from generated images.
    """
    # logsigmoid, because softplus drops exp(−x) above its threshold of 20. 1 − σ(x) = σ(−x).
    return -F.logsigmoid(real_logits).mean() - F.logsigmoid(-fake_logits).mean()


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """Return mean(−log σ(x̂)), Goodfellow et al. (2014), section 3.

    The loss has the fixed point of the minimax loss, but keeps a strong gradient when D rejects the images with
    confidence, where the minimax loss is flat. At least 0; log 2 ≈ 0.693 when D cannot tell real from generated images.
    """
    return -F.logsigmoid(fake_logits).mean()


def minimax_generator(fake_logits: Tensor) -> Tensor:
    """Return mean(log(1 − σ(x̂))), Goodfellow et al. (2014), equation 1. At most 0."""
    return F.logsigmoid(-fake_logits).mean()


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return ½ mean((x − 1)²) + ½ mean(x̂²): Mao et al., Least Squares GANs (2017), equation 9 (a = 0, b = c = 1)."""
    return (real_logits - 1).square().mean() / 2 + fake_logits.square().mean() / 2


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    """Return ½ mean((x̂ − 1)²): Mao et al. (2017), equation 9."""
    return (fake_logits - 1).square().mean() / 2


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return mean(max(0, 1 − x)) + mean(max(0, 1 + x̂)): Lim and Ye, Geometric GAN (2017)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def wasserstein_critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return mean(x̂) − mean(x): Arjovsky et al., Wasserstein GAN (2017). Its negative estimates the distance."""
    return fake_scores.mean() - real_scores.mean()


def negative_mean(fake_scores: Tensor) -> Tensor:
    """Return −mean(x̂), the generator's side of the Wasserstein and the hinge loss."""
    return -fake_scores.mean()


ADVERSARIAL = {
    "non_saturating": AdversarialLoss(cross_entropy_discriminator, non_saturating_generator, classifies=True),
    "minimax": AdversarialLoss(cross_entropy_discriminator, minimax_generator, classifies=True),
    "least_squares": AdversarialLoss(least_squares_discriminator, least_squares_generator, classifies=False),
    "hinge": AdversarialLoss(hinge_discriminator, negative_mean, classifies=True),
    "wasserstein": AdversarialLoss(wasserstein_critic, negative_mean, classifies=False),
}


# ---- regularisers of D ----------------------------------------------------------------------------------------------


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return mean((‖∇ₓ D(x)‖₂ − 1)²) on lines between real and generated images.

    Gulrajani et al., Improved Training of Wasserstein GANs (2017), equation 3, without its factor λ.

    Args:
        critic: maps images to scores, and scores each image by itself (without BatchNorm).
        real, fake: (B, C, H, W); gradients do not flow back into them.
        mix: (B, 1, 1, 1) in [0, 1]: each image's place between fake (0) and real (1).

    Returns:
        A scalar whose gradient with respect to the critic's weights takes second derivatives.
    """
    between = torch.lerp(fake.detach(), real.detach(), mix).requires_grad_()
    norms: Tensor = torch.linalg.vector_norm(_input_gradient(critic, between).flatten(1), dim=1)
    return (norms - 1).square().mean()


def r1_penalty(discriminator: Critic, real: Tensor) -> Tensor:
    """Return ½ mean(‖∇ₓ D(x)‖²) on real images.

    Mescheder et al., Which Training Methods for GANs do actually Converge? (2018), equation 9, without its factor γ.
    """
    gradient = _input_gradient(discriminator, real.detach().requires_grad_())
    return gradient.square().flatten(1).sum(1).mean() / 2


def _input_gradient(score: Critic, images: Tensor) -> Tensor:
    # The rows are independent, so the gradient of the sum holds each row's own.
    [gradient] = torch.autograd.grad(score(images).sum(), images, create_graph=True)
    return gradient


@torch.no_grad()
def clip_weights(weights: Sequence[Tensor], bound: float) -> None:
    """Clamp every weight into [−bound, bound]: Arjovsky et al. (2017), algorithm 1."""
    weights = list(weights)
    torch._foreach_clamp_min_(weights, -bound)
    torch._foreach_clamp_max_(weights, bound)


# ---- VAE ------------------------------------------------------------------------------------------------------------


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² − 1 − log σ²) of each latent dimension.

    Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix B.

    Args:
        mean, log_variance: (B, z_dim).

    Returns:
        (B, z_dim), at least 0.
    """
    # expm1: near the prior, exp(v) − 1 − v would cancel.
    return (mean.square() + torch.expm1(log_variance) - log_variance) / 2


def bernoulli_nll(logits: Tensor, images: Tensor) -> Tensor:
    """Return −log p(x | z), (B,), summed over pixels in [0, 1] as Bernoulli variables of probability σ(logits)."""
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)


def gaussian_nll(means: Tensor, images: Tensor, deviation: float) -> Tensor:
    """Return −log p(x | z), (B,), summed over pixels from N(means, deviation²)."""
    constant = math.log(deviation) + math.log(2 * math.pi) / 2
    return ((images - means) / deviation).square().div(2).add(constant).flatten(1).sum(1)


def negative_elbo(reconstruction: Tensor, kl: Tensor, beta: float = 1.0) -> Tensor:
    """Return mean(−log p(x | z) + β KL) over the batch; the KL is summed over the latent dimensions.

    β = 1 gives the bound of Kingma and Welling (2014), another β the β-VAE of Higgins et al. (2017).

    Args:
        reconstruction: (B,), −log p(x | z) of one z drawn for each image.
        kl: (B, z_dim).
    """
    return (reconstruction + beta * kl.sum(1)).mean()


def iwae_bound(log_weights: Tensor) -> Tensor:
    """Return log (1/k Σ wᵢ): Burda et al., Importance Weighted Autoencoders (2016), equation 8.

    In expectation the bound is at least the ELBO, and closer to log p(x) the larger k is.

    Args:
        log_weights: (k, B), log p(x, zᵢ) − log q(zᵢ | x) of k latents drawn from q.

    Returns:
        (B,), the bound for each image, in nats.
    """
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
