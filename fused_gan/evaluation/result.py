"""What an evaluation finds, and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What a result depends on besides the weights: two evaluations compare if these are equal."""

    checkpoint: str
    """File in the folder checkpoints."""

    step: int
    samples: int
    """Generated images; as many real ones are on the other side, and as many others give the floor."""

    seed: int
    reals: str
    """Where the real images come from."""

    trained_on: bool
    """Whether they come from the same source as the run's training images."""

    extractor: str
    """Name and hash, as "mnist-5k classifier 3fa2c0de"."""

    extractor_sha256: str
    extractor_accuracy: float
    preprocessing: str
    inception_sha256: str | None
    """Of the file with Inception's weights; None without."""

    iwae_k: int | None
    """Latents for each image; None for a GAN."""

    binarisation: str | None
    """Of pixels in the likelihoods; None for a GAN."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        values: by the keys of `fused_gan.scores.SCORES`.
        floor: the values of as many real images in the place of the generated ones; of samples' scores alone.
        settings: what they depend on.
        seconds: how long it took.
        versions: of fused_gan and torch.
    """

    values: dict[str, float]
    floor: dict[str, float]
    settings: Settings
    seconds: float
    versions: dict[str, str]
