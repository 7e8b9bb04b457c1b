"""The result of an evaluation, and the settings that it depends on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What a result depends on besides the weights. Two evaluations can be compared if their settings are equal."""

    checkpoint: str
    """Name of the file in the folder checkpoints."""

    step: int
    samples: int
    """Number of generated images, of real images, and of the other real images for real against real."""

    seed: int
    reals: str
    """Where the real images come from."""

    trained_on: bool
    """Whether they come from the same source as the run's training images."""

    extractor: str
    """Name and hash of the extractor, as "mnist-5k classifier 3fa2c0de"; "none" without one."""

    extractor_sha256: str | None
    extractor_accuracy: float | None
    preprocessing: str | None
    """These three are None without an extractor."""

    inception_sha256: str | None
    """SHA-256 of the file with Inception's weights; None without Inception."""

    iwae_k: int | None
    """Latents for each image; None for a GAN."""

    binarisation: str | None
    """How the likelihoods binarise pixels; None for a GAN."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        values: scores by the keys of `fused_gan.base.scores.SCORES`.
        floor: scores of real against real: as many other real images take the place of the generated images. It has
            the `SAMPLE_SCORES` alone.
        settings: what the scores depend on.
        seconds: duration of the evaluation.
        versions: versions of fused_gan and torch.
    """

    values: dict[str, float]
    floor: dict[str, float]
    settings: Settings
    seconds: float
    versions: dict[str, str]
