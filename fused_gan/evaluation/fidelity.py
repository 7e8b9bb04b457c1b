"""Scores of generated against real images that torchmetrics computes from features.

The metrics do not synchronise. In training by several processes only one evaluates, and would wait for the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

KID_SUBSETS = 10
KID_SUBSET = 1000  # features, at most, per subset


class _AsIs(nn.Module):
    """Takes the place of Inception in torchmetrics' classes, which here get features instead of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return ‖μ − μ̂‖² + tr(Σ + Σ̂ − 2 (Σ Σ̂)^½), the Fréchet distance of two normal distributions.

    Mean and covariance of each distribution are those of the features: Heusel et al., GANs Trained by a Two Time-Scale
    Update Rule (2017), equation 6.

    Args:
        real, fake: (N, d) and (M, d), N and M at least 2; computed in float64.

    Returns:
        0 for equal sets, NaN where a feature is not finite. The distance falls with the number of samples, so compare
        distances of equal numbers of samples only.
    """
    metric = FrechetInceptionDistance(_AsIs(real.shape[1]), sync_on_compute=False).to(real.device)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    distance: float = metric.compute().item()
    return 0.0 if distance < 0 else distance  # rounding can put equal sets at −1e-12; max() would make NaN a perfect 0


def classifier_score(logits: Tensor) -> float:
    """Return exp(mean KL(p(y | x) ‖ p(y))), over all samples at once.

    The formula is that of the Inception Score (Salimans et al., Improved Techniques for Training GANs, 2016), for any
    classifier.

    Args:
        logits: (N, classes).

    Returns:
        From 1 (every image gets the same answer, or none is clear) to the number of classes (each image is clearly of
        one class, all classes equally often). The score does not depend on the real images.
    """
    with _undisturbed(0):
        metric = InceptionScore(_AsIs(logits.shape[1]), splits=1, sync_on_compute=False)
        metric.update(logits.double())
        return metric.compute()[0].item()


def kernel_distance(real: Tensor, fake: Tensor, seed: int = 0) -> float:
    """Return an estimate of the squared maximum mean discrepancy of two sets of features.

    The kernel is (xᵀy/d + 1)³. The estimate is unbiased, a mean over 10 subsets of at most 1,000 features: Bińkowski et
    al., Demystifying MMD GANs (2018), section 4.

    Args:
        real, fake: (N, d) and (M, d), N and M at least 2.
        seed: seed of the choice of subsets.

    Returns:
        About 0 for sets from one distribution, as often below as above.
    """
    size = min(KID_SUBSET, len(real), len(fake))
    with _undisturbed(seed):
        metric = KernelInceptionDistance(
            _AsIs(real.shape[1]), subsets=KID_SUBSETS, subset_size=size, sync_on_compute=False
        )
        metric.update(real.double(), real=True)
        metric.update(fake.double(), real=False)
        return metric.compute()[0].item()


@contextmanager
def _undisturbed(seed: int) -> Iterator[None]:
    """Seed torchmetrics' random numbers with `seed`, and silence its warnings, while the block runs.

    torchmetrics draws from torch's default stream, whose state is restored. It warns that it keeps the features in
    memory, and that one split does not have a deviation.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(seed)
        warnings.simplefilter("ignore", UserWarning)
        yield
