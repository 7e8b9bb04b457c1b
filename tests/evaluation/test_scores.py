"""The scores are what their formulas say, and say what everybody knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from fused_gan.base.scores import SAMPLE_SCORES
from fused_gan.data import load
from fused_gan.evaluation import load_extractor, neighbours
from fused_gan.evaluation.evaluator import Reference
from fused_gan.evaluation.fidelity import classifier_score, frechet_distance, kernel_distance
from fused_gan.evaluation.neighbours import K_DENSITY, K_PRECISION, Balls, neighbour_scores


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_frechet_distance_by_hand() -> None:
    # Means 1 and 12, variances 2 and 8: 11² + 2 + 8 − 2 √16.
    assert frechet_distance(column(0, 2), column(10, 14)) == pytest.approx(123)
    assert frechet_distance(column(0, 2), column(0, 2)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("worst", [math.nan, math.inf])
def test_a_feature_that_is_not_finite_is_at_no_distance(worst: float) -> None:
    assert math.isnan(frechet_distance(column(0, 2, 5), column(0, worst, 5)))
    assert math.isnan(frechet_distance(column(0, worst, 5), column(0, 2, 5)))


def test_frechet_distance_of_correlated_features() -> None:
    first, second = torch.randn(300, 5), torch.randn(200, 5) @ torch.randn(5, 5) + 1
    covariances = [np.cov(features.double().numpy(), rowvar=False) for features in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    # tr (Σ Σ̂)^½ = tr (Σ^½ Σ̂ Σ^½)^½, which is symmetric.
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root)).sum()
    expected = (first.double().mean(0) - second.double().mean(0)).square().sum().item()
    expected += np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_classifier_score_by_hand() -> None:
    certain = torch.eye(4).repeat(5, 1) * 100
    assert classifier_score(certain) == pytest.approx(4)
    assert classifier_score(certain[:1].repeat(9, 1)) == pytest.approx(1)
    assert classifier_score(torch.zeros(9, 4)) == pytest.approx(1)
    unsure = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
    assert classifier_score(unsure) == pytest.approx(math.exp(0.9 * math.log(1.8) + 0.1 * math.log(0.2)), rel=1e-6)


def test_kernel_distance_by_hand() -> None:
    # (xy + 1)³: k(0, 1) = 1 in the one set, k(1, 2) = 27 in the other, and 1, 1, 8, 27 across.
    assert kernel_distance(column(0, 1), column(1, 2)) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_neighbours_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "K_PRECISION", 1)
    monkeypatch.setattr(neighbours, "K_DENSITY", 2)
    real, fake = Balls.around(column(0, 1, 3, 10)), Balls.around(column(0.5, 2, 30, 31))
    assert real.radii.tolist() == [1, 1, 2, 7]
    assert real.wide_radii.tolist() == [3, 2, 3, 9]
    assert fake.radii.tolist() == [1.5, 1.5, 1, 1]
    # 0.5 lies in the balls of 0 and 1, 2 in those of 1 and 3; 30 and 31 in none. In those of 0.5 and 2 lie 0, 1 and 3.
    # In the wide balls lie 0.5 (of 0, 1, 3) and 2 (of 0, 1, 3, 10).
    assert neighbour_scores(real, fake) == {
        "precision": 2 / 4, "recall": 3 / 4, "density": 7 / (2 * 4), "coverage": 4 / 4,
    }  # fmt: skip


# ---- against others -------------------------------------------------------------------------------------------------


def brute_force(real: list[list[float]], fake: list[list[float]]) -> dict[str, float]:
    """The four scores of neighbours, by counting."""

    def reach(points: list[list[float]], k: int) -> list[float]:
        return [
            sorted(math.dist(point, other) for j, other in enumerate(points) if j != i)[k - 1]
            for i, point in enumerate(points)
        ]

    near, far, own = reach(real, K_PRECISION), reach(real, K_DENSITY), reach(fake, K_PRECISION)
    return {
        "precision": sum(any(math.dist(x, y) <= r for x, r in zip(real, near, strict=True)) for y in fake) / len(fake),
        "recall": sum(any(math.dist(x, y) <= r for y, r in zip(fake, own, strict=True)) for x in real) / len(real),
        "density": sum(math.dist(x, y) < r for y in fake for x, r in zip(real, far, strict=True))
        / (K_DENSITY * len(fake)),
        "coverage": sum(any(math.dist(x, y) < r for y in fake) for x, r in zip(real, far, strict=True)) / len(real),
    }


@pytest.mark.parametrize("rows", [7, 1024])
@pytest.mark.parametrize(("count", "others", "shift"), [(60, 60, 0.0), (50, 33, 0.5), (20, 71, 1.0)])
def test_neighbours_equal_a_brute_force_count(
    monkeypatch: pytest.MonkeyPatch, rows: int, count: int, others: int, shift: float
) -> None:
    monkeypatch.setattr(neighbours, "ROWS", rows)
    real, fake = torch.randn(count, 3), torch.randn(others, 3) * 0.8 + shift
    found = neighbour_scores(Balls.around(real), Balls.around(fake))
    assert found == pytest.approx(brute_force(real.tolist(), fake.tolist()))


class Halves(nn.Module):
    """Features of images: means of their halves."""

    num_features = 2

    def forward(self, images: Tensor) -> Tensor:
        return images.double().flatten(1).unflatten(1, (2, -1)).mean(2)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of memory, and of a deviation over one split
def test_torchmetrics_finds_the_same_in_the_same_features() -> None:
    real, fake = torch.rand(40, 1, 4, 4), torch.rand(40, 1, 4, 4) ** 2
    features = Halves()
    distance, kernel, score = (
        FrechetInceptionDistance(features),
        KernelInceptionDistance(features, subsets=1, subset_size=40),
        InceptionScore(features, splits=1),
    )
    for metric in (distance, kernel):
        metric.update(real, real=True)
        metric.update(fake, real=False)
    score.update(fake)
    assert frechet_distance(features(real), features(fake)) == pytest.approx(distance.compute().item())
    assert kernel_distance(features(real), features(fake)) == pytest.approx(kernel.compute()[0].item())
    assert classifier_score(features(fake)) == pytest.approx(score.compute()[0].item())


def test_kernel_distance_of_one_distribution_is_around_zero() -> None:
    found = [kernel_distance(torch.randn(100, 4), torch.randn(100, 4)) for _ in range(40)]
    assert min(found) < 0 < max(found)
    assert abs(sum(found)) / 40 < 0.1
    assert kernel_distance(torch.randn(1500, 4), torch.randn(1200, 4) + 1, seed=3) > 1


@pytest.mark.filterwarnings("error")
def test_random_numbers_of_others_are_left_alone() -> None:
    before = torch.get_rng_state()
    features = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    first = classifier_score(features), kernel_distance(features, features[:20], seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert (classifier_score(features), kernel_distance(features, features[:20], seed=1)) == first


# ---- known answers, on real digits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[Reference, Tensor, Tensor]:
    """A reference of 600 digits, these digits, and 600 others."""
    images = load("mnist-5k").images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    ours, others = images[order[:600]], images[order[600:1200]]
    return Reference(load_extractor("mnist-5k"), ours, others), ours, others


def noisy(images: Tensor, deviation: float) -> Tensor:
    """Digits with normal noise of this deviation, in units of the whole range."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return (images / 255 + deviation * noise).clamp(0, 1).mul(255).round().to(torch.uint8)


def test_data_against_itself_is_at_zero(digits: tuple[Reference, Tensor, Tensor]) -> None:
    reference, ours, _ = digits
    found = reference.scores(ours)
    assert found.keys() == SAMPLE_SCORES.keys()
    assert found["fd"] == pytest.approx(0, abs=1e-6)
    assert found["kid"] <= 0, "the unbiased estimate of two equal sets"
    assert {found[name] for name in ("precision", "recall", "density", "coverage")} == {1.0}


def test_the_floor_is_near_and_noise_is_far(digits: tuple[Reference, Tensor, Tensor]) -> None:
    reference, ours, others = digits
    floor = reference.floor
    assert floor == reference.scores(others)
    noise = torch.randint(256, ours.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    far = reference.scores(noise)
    assert far["fd"] > 100 * floor["fd"]
    assert far["kid"] > 100 * abs(floor["kid"])
    for name in ("precision", "recall", "density", "coverage"):
        assert floor[name] > 0.8
        assert far[name] < 0.05
    assert far["classifier_score"] < 2 < 9 < floor["classifier_score"]


def test_a_collapsed_set_is_caught_by_recall_and_coverage(digits: tuple[Reference, Tensor, Tensor]) -> None:
    reference, _, others = digits
    collapsed = others[:10].repeat(60, 1, 1, 1)
    found = reference.scores(collapsed)
    assert found["precision"] > 0.5, "each image for itself is a good one"
    assert found["recall"] < 0.1
    assert found["coverage"] < 0.2
    assert found["fd"] > 5 * reference.floor["fd"]


def test_one_class_alone_lowers_the_classifier_score(digits: tuple[Reference, Tensor, Tensor]) -> None:
    reference, _, others = digits
    zeros = load("mnist-5k").images[:300]
    assert reference.scores(zeros)["classifier_score"] < 1.5
    assert reference.scores(others)["classifier_score"] > 9


def test_the_more_noise_the_worse_every_score(digits: tuple[Reference, Tensor, Tensor]) -> None:
    reference, _, others = digits
    found = [reference.scores(noisy(others, deviation)) for deviation in (0.0, 0.15, 0.3, 0.6)]
    for name, score in SAMPLE_SCORES.items():
        values = [scores[name] for scores in found]
        assert values == sorted(values, reverse=score.larger_is_better is True), (name, values)
