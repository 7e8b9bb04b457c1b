"""How far generated images are from real ones, by numbers over their features: those that torchmetrics computes.

Each metric is told not to sync: of several processes in training one evaluates, and would wait for the others.
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
KID_SUBSET = 1000  # features, at most, in one of them


class _AsIs(nn.Module):
    """In the place of Inception in torchmetrics' classes: what they are given are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """‖μ − μ̂‖² + tr(Σ + Σ̂ − 2 (Σ Σ̂)^½): the Fréchet distance of two normal distributions with the means and
    covariances of the features, as Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017), equation 6.

    Args:
        real, fake: (N, d) and (M, d), N and M at least 2; computed in float64.

    Returns:
        0 for equal sets, NaN where a feature is not finite. It falls with the number of samples: compare only equal
        numbers.
    """
    metric = FrechetInceptionDistance(_AsIs(real.shape[1]), sync_on_compute=False).to(real.device)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    distance: float = metric.compute().item()
    return 0.0 if distance < 0 else distance  # rounding can put equal sets at −1e-12; max() would make NaN a perfect 0


def classifier_score(logits: Tensor) -> float:
    """exp(mean KL(p(y | x) ‖ p(y))): the formula of the Inception Score (Salimans et al., Improved Techniques for
    Training GANs, 2016), for any classifier, over all samples at once.

    Args:
        logits: (N, classes).

    Returns:
        From 1 (every image gets the same answer, or none is clear) to the number of classes (each image is clearly of
        one class, all classes equally often). It knows nothing of the real images.
    """
    with _undisturbed(0):
        metric = InceptionScore(_AsIs(logits.shape[1]), splits=1, sync_on_compute=False)
        metric.update(logits.double())
        return metric.compute()[0].item()


def kernel_distance(real: Tensor, fake: Tensor, seed: int = 0) -> float:
    """The squared maximum mean discrepancy of two sets of features under the kernel (xᵀy/d + 1)³, the unbiased
    estimate, a mean over 10 subsets of at most 1,000: Bińkowski et al., Demystifying MMD GANs (2018), section 4.

    Args:
        real, fake: (N, d) and (M, d), N and M at least 2.
        seed: of the choice of subsets.

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
    """Within it, torchmetrics shuffles by numbers from `seed`, and warns of nothing.

    It takes torch's default stream, which is put back. It warns that it keeps the features in memory, and that there
    is no deviation over one split.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(seed)
        warnings.simplefilter("ignore", UserWarning)
        yield
