"""The numbers that say how good a system is: key, name, and which way is better. One table for all that name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Score(NamedTuple):
    """A number of an evaluation.

    Attributes:
        title: what it is, for people; its extractor comes behind it.
        larger_is_better: None where neither is.
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
INCEPTION_SCORES = {  # the same, in the features of Inception
    "fid": Score("FID", False),
    "inception_score": Score("Inception Score", True),
}
VAE_SCORES = {  # a VAE on real images; named otherwise than its losses, beside which they stand in the log
    "elbo": Score("ELBO, nats", True),
    "iwae": Score("IWAE bound, nats", True),
    "reconstruction_error": Score("−log p(x | z), nats", False),
    "kl_divergence": Score("KL, nats", None),
    "mse": Score("MSE", False),
    "psnr": Score("PSNR, dB", True),
    "ssim": Score("SSIM", True),
    "active_units": Score("active units", True),
}
SCALES = (  # those that fit into one picture
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
SSIM_WINDOW = 11  # pixels; an image needs as many a side
SCORES = SAMPLE_SCORES | INCEPTION_SCORES | VAE_SCORES


def directed(scores: Mapping[str, Score]) -> list[str]:
    """Those by which one system can be better than another."""
    return [key for key, score in scores.items() if score.larger_is_better is not None]


def cost(key: str, value: float) -> float:
    """A logged number as one to minimise. Those that are in no table here (losses, distances) are so already."""
    return -value if key in SCORES and SCORES[key].larger_is_better else value
