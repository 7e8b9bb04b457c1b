"""Every loss has the value of its formula, worked out by hand, and every penalty autograd's derivative in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fused_gan import FusedMLP
from fused_gan.models.losses import (
    ADVERSARIAL,
    bernoulli_nll,
    clip_weights,
    gaussian_nll,
    gradient_penalty,
    iwae_bound,
    kl_to_standard_normal,
    negative_elbo,
    r1_penalty,
)
from fused_gan.ops.activations import ACTIVATIONS

REAL, FAKE = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [-3.0]])
# −log σ(0) = 0.693147, −log σ(2) = 0.126928; −log σ(−1) = 1.313262, −log σ(3) = 0.048587
CROSS_ENTROPY = (0.693147 + 0.126928 + 1.313262 + 0.048587) / 2
BY_HAND = {
    # −log σ(1) = 0.313262, −log σ(−3) = 3.048587
    "non_saturating": (CROSS_ENTROPY, (0.313262 + 3.048587) / 2),
    "minimax": (CROSS_ENTROPY, -(1.313262 + 0.048587) / 2),
    # ((0−1)² + (2−1)²)/4 + (1² + 3²)/4; ((1−1)² + (−3−1)²)/4
    "least_squares": (3.0, 4.0),
    # (max(0, 1−0) + max(0, 1−2))/2 + (max(0, 1+1) + max(0, 1−3))/2; −(1 − 3)/2
    "hinge": (1.5, 1.0),
    # (1 − 3)/2 − (0 + 2)/2
    "wasserstein": (-2.0, 1.0),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_losses_by_hand(name: str) -> None:
    loss, (discriminator, generator) = ADVERSARIAL[name], BY_HAND[name]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, abs=1e-5)
    assert loss.generator(FAKE).item() == pytest.approx(generator, abs=1e-5)


def test_cross_entropies_stay_finite_and_exact_far_out() -> None:
    far, (discriminator, generator, _) = torch.tensor([[1e4]], dtype=torch.float64), ADVERSARIAL["non_saturating"]
    assert discriminator(-far, far).item() == 2e4
    assert generator(-far).item() == 1e4
    assert ADVERSARIAL["minimax"].generator(far).item() == -1e4
    small = generator(torch.tensor([[30.0]], dtype=torch.float64)).item()
    assert small == pytest.approx(9.357622968840175e-14, rel=1e-12)


def test_each_loss_pushes_the_scores_the_right_way() -> None:
    for name, loss in ADVERSARIAL.items():
        real, fake = torch.zeros(3, 1, requires_grad=True), torch.zeros(3, 1, requires_grad=True)
        loss.discriminator(real, fake).backward()
        assert (real.grad < 0).all(), name
        assert (fake.grad >= 0).all(), name
        fake.grad = None
        loss.generator(fake).backward()
        assert (fake.grad < 0).all(), name


def linear_critic(weight: Tensor) -> nn.Module:
    """x ↦ w·x, whose gradient is w everywhere."""
    layer = nn.Linear(weight.numel(), 1, bias=False, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight[None])
    return nn.Sequential(nn.Flatten(1), layer)


def test_penalties_of_a_linear_critic_by_hand() -> None:
    critic = linear_critic(torch.tensor([3.0, 4.0, 0.0, 0.0]))  # a gradient of norm 5
    real, fake, mix = torch.randn(6, 1, 2, 2), torch.randn(6, 1, 2, 2), torch.rand(6, 1, 1, 1)
    assert gradient_penalty(critic, real, fake, mix).item() == pytest.approx(16.0)  # (5 − 1)²
    assert r1_penalty(critic, real).item() == pytest.approx(12.5)  # 25 / 2


def test_the_gradient_penalty_is_taken_between_real_and_fake() -> None:
    seen: list[Tensor] = []

    def critic(images: Tensor) -> Tensor:
        seen.append(images)
        return images.square().flatten(1).sum(1, keepdim=True)

    real, fake = torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    gradient_penalty(critic, real, fake, torch.tensor([0.0, 0.25, 1.0]).reshape(3, 1, 1, 1))
    assert [image.unique().tolist() for image in seen[0]] == [[0.0], [0.25], [1.0]]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
def test_the_penalties_gradients_are_autograds(activation: str, penalty: str) -> None:
    """Against central differences of the penalty in float64, weight by weight, at depth three."""
    critic = FusedMLP([6, 5, 4, 1], activation, negative_slope=0.2, dtype=torch.float64)
    real, fake = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    mix = torch.rand(4, 1, dtype=torch.float64)

    def value(*weights: Tensor) -> Tensor:
        names = [name for name, _ in critic.named_parameters()]

        def score(x: Tensor) -> Tensor:
            return torch.func.functional_call(critic, dict(zip(names, weights, strict=True)), (x,))

        return gradient_penalty(score, real, fake, mix) if penalty == "gradient_penalty" else r1_penalty(score, real)

    assert torch.autograd.gradcheck(value, tuple(critic.parameters()))


def test_weights_are_clipped_in_place_and_only_beyond_the_bound() -> None:
    weights = [torch.tensor([-1.0, 0.005, 0.5]), torch.tensor([[0.01, -0.01]])]
    clip_weights(weights, 0.01)
    assert weights[0].tolist() == pytest.approx([-0.01, 0.005, 0.01])
    assert weights[1].tolist() == [pytest.approx([0.01, -0.01])]


def test_kl_by_hand_and_against_torch() -> None:
    mean, log_variance = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, math.log(4.0)]])
    # ½(0 + 1 − 1 − 0), ½(1 + 1 − 1 − 0), ½(0 + 4 − 1 − log 4)
    assert kl_to_standard_normal(mean, log_variance)[0].tolist() == pytest.approx([0.0, 0.5, 1.5 - math.log(2.0)])
    mean, log_variance = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(q, prior)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_the_likelihoods_by_hand_and_against_torch() -> None:
    logits, images = torch.zeros(2, 1, 2, 2), torch.rand(2, 1, 2, 2)
    assert bernoulli_nll(logits, images).tolist() == pytest.approx([4 * math.log(2)] * 2)
    # One pixel one deviation away: ½ + log 0.5 + ½ log 2π
    expected = 0.5 + math.log(0.5) + math.log(2 * math.pi) / 2
    assert gaussian_nll(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5), 0.5).item() == pytest.approx(expected)
    means = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    images = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(
        gaussian_nll(means, images, 0.3), -torch.distributions.Normal(means, 0.3).log_prob(images).flatten(1).sum(1)
    )


def test_the_elbo_sums_pixels_and_dimensions_and_weighs_the_kl() -> None:
    reconstruction, kl = torch.tensor([10.0, 20.0]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert negative_elbo(reconstruction, kl).item() == pytest.approx(17.0)
    assert negative_elbo(reconstruction, kl, beta=4.0).item() == pytest.approx(23.0)


def test_the_iwae_bound_grows_with_k_from_the_elbo_to_the_evidence() -> None:
    assert iwae_bound(torch.tensor([[1.0], [3.0]])).item() == pytest.approx(math.log((math.e + math.e**3) / 2))
    # A linear Gaussian model, whose evidence is known: x = z + ε, z and ε from N(0, 1), so x from N(0, 2). q is too
    # wide, so that the bound is not tight.
    x, k = torch.tensor(0.7, dtype=torch.float64), 4096
    q = torch.distributions.Normal(x / 2, torch.tensor(1.0, dtype=torch.float64))
    z = q.sample((k,))
    standard = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    log_weights = (standard.log_prob(z) + standard.log_prob(x - z) - q.log_prob(z))[:, None]
    evidence = torch.distributions.Normal(0.0, math.sqrt(2)).log_prob(x).item()
    elbo, bound = log_weights.mean().item(), iwae_bound(log_weights).item()
    assert elbo < evidence - 0.1
    assert bound == pytest.approx(evidence, abs=0.03)
