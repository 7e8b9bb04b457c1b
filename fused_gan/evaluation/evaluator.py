"""Scores any number of systems against the same real images, in the features of one extractor."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fused_gan.base.errors import require
from fused_gan.base.scores import NO_EXTRACTOR
from fused_gan.base.seeds import stream_seed
from fused_gan.base.torch_state import measuring
from fused_gan.data import ImageData
from fused_gan.data.image_data import renumbered
from fused_gan.evaluation.extractor import SHIPPED, Extractor, load_extractor, shape_options, shape_text
from fused_gan.evaluation.fidelity import classifier_score, frechet_distance, kernel_distance
from fused_gan.evaluation.likelihoods import vae_scores
from fused_gan.evaluation.neighbours import Balls, neighbour_scores
from fused_gan.models import VAELikelihood
from fused_gan.models.sampler import Sampler

SAMPLES = 2000
IWAE_K = 50


@dataclass(frozen=True)
class Evaluator:
    """Scores systems, each in the same way. Random state other than its own does not change.

    Attributes:
        reference: the real images in the extractor's features; None without an extractor.
        images: uint8 (N, C, H, W), the real images themselves; N images are generated.
        others: uint8 (N, C, H, W), other real images.
        labels: labels of `images`, (N,), or None; a conditional system makes images of the same classes.
        seed: seed of the noise.
        iwae_k: latents for each image in a VAE's IWAE bound.
        class_names: the names of the classes that the labels mean.
    """

    reference: Reference | None
    images: Tensor
    others: Tensor
    labels: Tensor | None
    seed: int
    iwae_k: int = IWAE_K
    class_names: tuple[str, ...] = ()

    @classmethod
    @measuring()
    def of(
        cls,
        data: ImageData,
        source: str,
        extractor: Extractor | None,
        samples: int = SAMPLES,
        seed: int = 0,
        iwae_k: int = IWAE_K,
    ) -> Evaluator:
        """Return an evaluator with real images of `data`, chosen by the seed.

        Args:
            data: the real images.
            source: name of the data, for error messages.
            extractor: computes the features; None leaves the `SAMPLE_SCORES` out.
            samples: number of generated images, of real images, and of other real images.
            seed: seed of the choice and of the noise.
            iwae_k: latents for each image.

        Raises:
            UserError: too few samples or images, or images of another shape than the extractor's.
        """
        if extractor is not None:
            fewest = extractor.about.num_features + 1
            require(
                len(data.images) >= 2 * fewest,
                f"data: expected {2 * fewest:,} images or more, as a covariance of {fewest - 1} features needs "
                f"{fewest} and real against real as many others, got {len(data.images):,} in {source}",
            )
            require(
                samples >= fewest,
                f"samples: expected {fewest} or more, which a covariance of {fewest - 1} features needs, got {samples}",
            )
        require(iwae_k > 0, f"iwae_k: expected a positive integer, got {iwae_k}")
        chosen, others = split(data, source, samples, seed)
        images, rest = data.images[chosen], data.images[others]
        labels = None if data.labels is None else data.labels[chosen]
        seen = None if extractor is None else reference(extractor, images, rest)
        return cls(seen, images, rest, labels, seed, iwae_k, data.class_names)

    @measuring()
    def generated(self, sampler: Sampler) -> Tensor:
        """Return the generated images that are scored, uint8 (N, C, H, W).

        Raises:
            UserError: the real images have a class that a conditional system does not know.
        """
        labels = None
        if sampler.classes and self.labels is not None:
            labels = renumbered(self.labels, self.class_names, sampler.class_names, "the real images")
        return torch.from_numpy(sampler.sample(len(self.images), self.seed, labels))

    @measuring()
    def scores(self, sampler: Sampler, likelihood: VAELikelihood | None = None) -> dict[str, float]:
        """Return the `SAMPLE_SCORES` of generated images and, for a VAE, the `VAE_SCORES`.

        Args:
            sampler: makes the images.
            likelihood: likelihood of images under the same network, for a VAE.
        """
        found = {} if self.reference is None else self.reference.scores(self.generated(sampler))
        if likelihood is not None:
            found |= vae_scores(likelihood, sampler.value_range, self.images, self.seed, self.iwae_k)
        return found


def split(data: ImageData, source: str, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices (samples,) of the real images to compare with, and of as many others for real against real.

    Raises:
        UserError: the data has too few images.
    """
    count = len(data.images)
    require(
        count >= 2 * samples,
        f"samples: {samples:,} are compared with as many real images, and these with as many others (real "
        f"against real), but {source} has {count:,} images; give {count // 2:,} or fewer",
    )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(stream_seed(seed, "evaluation")))
    return order[:samples], order[samples : 2 * samples]


def find_extractor(source: str | None, data: str, image_shape: tuple[int, int, int]) -> Extractor:
    """Return the extractor of this name or file; None takes the extractor that ships for the data.

    Raises:
        UserError: no extractor ships for the data, or the images have another shape than the extractor takes.
    """
    remedy = (
        f"train one with: fused-gan extractor --data {data}{shape_options(image_shape)} --out FILE, and give it with "
        "--extractor FILE"
    )
    require(
        source is not None or data in SHIPPED,
        f"extractor: none ships for {data} (only for {', '.join(SHIPPED)}); {remedy}",
    )
    found = load_extractor(source or data)
    require(
        found.about.image_shape == image_shape,
        f"extractor: the {found.name} takes images of {shape_text(found.about.image_shape)}, those of {data} are "
        f"{shape_text(image_shape)}; {remedy}",
    )
    return found


def extractor_or_none(source: str | None, data: str, image_shape: tuple[int, int, int]) -> Extractor | None:
    """Return the extractor, as `find_extractor` does; None if `source` is "none", which asks for no scores by one."""
    return None if source == NO_EXTRACTOR else find_extractor(source, data, image_shape)


class Reference:
    """Real images that generated images are compared with.

    Args:
        extractor: computes the features.
        images: uint8 (N, C, H, W), real images.
        others: uint8 (N, C, H, W), other real images.

    Attributes:
        floor: scores of real against real, `others` against `images`. A generator as good as the data would get them.
    """

    def __init__(self, extractor: Extractor, images: Tensor, others: Tensor) -> None:
        self.extractor = extractor
        self._balls = Balls.around(extractor.features(images))
        self.floor = self.scores(others)

    @measuring()
    def scores(self, images: Tensor) -> dict[str, float]:
        """Return the `SAMPLE_SCORES` of generated images, uint8 (N, C, H, W).

        The classifier score asks how many classes there are, and how clearly an image shows one. An extractor that was
        trained without labels has none to ask for.
        """
        real, fake = self._balls.centres, self.extractor.features(images)
        found = {"fd": frechet_distance(real, fake)}
        if self.extractor.knows_classes:
            found["classifier_score"] = classifier_score(self.extractor.logits_of(fake))
        return found | {"kid": kernel_distance(real, fake), **neighbour_scores(self._balls, Balls.around(fake))}


@dataclass(frozen=True)
class _ReferenceKey:
    """The arguments of a `Reference`, compared by hashes, so that one process makes an equal reference once."""

    extractor_hash: str
    device: str
    pixels_hash: str
    extractor: Extractor = field(compare=False)
    images: Tensor = field(compare=False)
    others: Tensor = field(compare=False)


@functools.lru_cache(maxsize=4)
def _cached_reference(key: _ReferenceKey) -> Reference:
    return Reference(key.extractor, key.images, key.others)


@measuring()
def reference(extractor: Extractor, images: Tensor, others: Tensor) -> Reference:
    """Return `Reference(extractor, images, others)`, or the reference that was made before for equal arguments."""
    sha = hashlib.sha256(repr((images.shape, others.shape)).encode())
    for pixels in (images, others):
        sha.update(pixels.contiguous().numpy().data)
    return _cached_reference(
        _ReferenceKey(extractor.hash, str(extractor.device), sha.hexdigest(), extractor, images, others)
    )
