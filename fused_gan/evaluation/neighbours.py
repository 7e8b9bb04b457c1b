"""Precision, recall, density and coverage of two sets of features, from nearest neighbours.

Each point has a ball around it that reaches to its k-th nearest neighbour in its own set. The balls together estimate
the region of the set. torchmetrics does not compute these four scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

K_PRECISION = 3  # the k of Kynkäänniemi et al.
K_DENSITY = 5  # the k of Naeem et al.
ROWS = 1024  # rows of a distance matrix that are in memory at once


@dataclass(frozen=True)
class Balls:
    """A set of features, and the distances from each feature to its neighbours.

    Attributes:
        centres: (N, d), the features.
        radii: (N,), the distance to the third nearest of the other features.
        wide_radii: (N,), the distance to the fifth nearest.
    """

    centres: Tensor
    radii: Tensor
    wide_radii: Tensor

    @classmethod
    def around(cls, features: Tensor) -> Balls:
        """Return the balls around more than `K_DENSITY` features (N, d)."""
        nearest = torch.cat(
            [
                # The point itself is in the set, at a distance of 0.
                distances(rows, features).topk(K_DENSITY + 1, largest=False).values[:, [K_PRECISION, K_DENSITY]]
                for rows in torch.split(features, ROWS)
            ]
        )
        return cls(features, nearest[:, 0], nearest[:, 1])


def neighbour_scores(real: Balls, fake: Balls) -> dict[str, float]:
    """Return four scores, at least 0, larger is better; all but density are at most 1.

    precision  share of generated images in a ball of a real one: are they like real ones?
    recall     share of real images in a ball of a generated one: are all kinds generated? (both: Kynkäänniemi et al.,
               Improved Precision and Recall Metric for Assessing Generative Models, 2019, equation 1; k = 3)
    density    in how many balls of real images a generated one lies, over k; precision that one outlier with its wide
               ball cannot lift; 1 on average for the real distribution itself
    coverage   share of real images in whose ball a generated one lies (both: Naeem et al., Reliable Fidelity and
               Diversity Metrics for Generative Models, 2020, equations 3 and 4, inside the ball; k = 5)
    """
    count, others = len(real.centres), len(fake.centres)
    precise, dense = 0, 0
    covered = torch.zeros(count, dtype=torch.bool, device=real.centres.device)
    reached = torch.zeros(count, dtype=torch.bool, device=real.centres.device)
    for rows, radii in zip(torch.split(fake.centres, ROWS), torch.split(fake.radii, ROWS), strict=True):
        apart = distances(rows, real.centres)  # (rows, N)
        precise += int((apart <= real.radii).any(1).sum())
        reached |= (apart <= radii[:, None]).any(0)
        inside = apart < real.wide_radii
        dense += int(inside.sum())
        covered |= inside.any(0)
    return {
        "precision": precise / others,
        "recall": int(reached.sum()) / count,
        "density": dense / (K_DENSITY * others),
        "coverage": int(covered.sum()) / count,
    }


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the Euclidean distances (N, M) of (N, d) and (M, d), each computed by itself.

    A matrix product would be faster, but would not give a distance of 0 for equal features.
    """
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
