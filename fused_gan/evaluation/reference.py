"""The real side of a comparison: real images in an extractor's features, and other real images against them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field

from torch import Tensor

from fused_gan.evaluation.extractor import Extractor
from fused_gan.evaluation.fidelity import classifier_score, frechet_distance, kernel_distance
from fused_gan.evaluation.neighbours import Balls, neighbour_scores


class Reference:
    """Real images that generated ones are compared with.

    Args:
        extractor: in whose features.
        images: uint8 (N, C, H, W), the real ones.
        others: as many other real ones, which give the floor.

    Attributes:
        floor: the scores of `others`: what a generator as good as the data would get.
    """

    def __init__(self, extractor: Extractor, images: Tensor, others: Tensor) -> None:
        self.extractor = extractor
        self._balls = Balls.around(extractor.features(images))
        self.floor = self.scores(others)

    def scores(self, images: Tensor) -> dict[str, float]:
        """The `SAMPLE_SCORES` of generated images, uint8 (N, C, H, W)."""
        real, fake = self._balls.centres, self.extractor.features(images)
        return {
            "fd": frechet_distance(real, fake),
            "classifier_score": classifier_score(self.extractor.logits_of(fake)),
            "kid": kernel_distance(real, fake),
            **neighbour_scores(self._balls, Balls.around(fake)),
        }


@dataclass(frozen=True)
class _Wanted:
    """A reference by what it depends on, so that many evaluations in one process make it once."""

    extractor_hash: str
    device: str
    pixels_hash: str
    extractor: Extractor = field(compare=False)
    images: Tensor = field(compare=False)
    others: Tensor = field(compare=False)


@functools.lru_cache(maxsize=4)
def _made(wanted: _Wanted) -> Reference:
    return Reference(wanted.extractor, wanted.images, wanted.others)


def reference(extractor: Extractor, images: Tensor, others: Tensor) -> Reference:
    """`Reference(extractor, images, others)`, the one made before if nothing differs."""
    sha = hashlib.sha256(repr((images.shape, others.shape)).encode())
    for pixels in (images, others):
        sha.update(pixels.contiguous().numpy().data)
    return _made(_Wanted(extractor.hash, str(extractor.device), sha.hexdigest(), extractor, images, others))
