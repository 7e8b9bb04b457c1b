"""The scores of a system: key, title, and which direction is better. All code that names a score reads this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Score(NamedTuple):
    """A number of an evaluation.

    Attributes:
        title: its name for people; the name of the extractor follows.
        larger_is_better: None where neither direction is better.
    """

    title: str
    larger_is_better: bool | None


SAMPLE_SCORES = {  # generated images against real ones, in the features of a classifier
    "fd": Score("FD", False),
    "classifier_score": Score("classifier score", True),
    "kid": Score("KID", False),
    "precision": Score("precision", True),
    "recall": Score("recall", True),
    "density": Score("density", True),
    "coverage": Score("coverage", True),
}
INCEPTION_SCORES = {  # generated images against real ones, in the features of Inception
    "fid": Score("FID", False),
    "inception_score": Score("Inception Score", True),
}
VAE_SCORES = {  # a VAE on real images; the keys differ from those of its losses, which stand in the same log
    "elbo": Score("ELBO, nats", True),
    "iwae": Score("IWAE bound, nats", True),
    "reconstruction_error": Score("−log p(x | z), nats", False),
    "kl_divergence": Score("KL, nats", None),
    "mse": Score("MSE", False),
    "psnr": Score("PSNR, dB", True),
    "ssim": Score("SSIM", True),
    "active_units": Score("active units", True),
}
SCALES = (  # scores that share one chart
    ("fd",),
    ("kid",),
    ("classifier_score",),
    ("precision", "recall", "density", "coverage"),
    ("elbo", "iwae"),
    ("reconstruction_error",),
    ("kl_divergence",),
    ("mse",),
    ("psnr",),
    ("ssim",),
    ("active_units",),
)
NO_EXTRACTOR = "none"  # in the place of an extractor: leave the `SAMPLE_SCORES` out
SSIM_WINDOW = 11  # pixels; each side of an image needs as many
SCORES = SAMPLE_SCORES | INCEPTION_SCORES | VAE_SCORES


def directed(scores: Mapping[str, Score]) -> list[str]:
    """Return the keys of the scores by which a system can be better than another system."""
    return [key for key, score in scores.items() if score.larger_is_better is not None]


def cost(key: str, value: float) -> float:
    """Return a logged number as a cost to minimise. Other keys (losses, distances) are costs already."""
    return -value if key in SCORES and SCORES[key].larger_is_better else value
