"""FID and Inception Score as the literature defines them, from Inception's weights. Nothing is downloaded.

The network is that of the package torch-fidelity: the Inception of 2015 that FID was defined with, and its way of
resizing images to 299×299. The weights are torch-fidelity's own file, a state dict of PyTorch named
weights-inception-2015-12-05-6726825d.pth; torchmetrics reads the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from pathlib import Path

import torch
from torch import Tensor

from fused_gan.base.errors import UserError, require
from fused_gan.base.torch_state import measuring
from fused_gan.evaluation.fidelity import classifier_score, frechet_distance

FEATURES = 2048
CHUNK = 50  # images in the network at once
EXPECTED = "expected the state dict weights-inception-2015-12-05-6726825d.pth of torch-fidelity"


class Inception:
    """The Inception network with the weights of a file.

    Args:
        file: holds the weights.
        samples: number of generated and of real images.
        device: computes the features.

    Raises:
        UserError: too few samples, torch-fidelity is missing, or the file cannot be read or does not hold the weights.
    """

    @measuring()
    def __init__(self, file: Path, samples: int, device: torch.device) -> None:
        require(
            samples > FEATURES,
            f"samples: FID needs more than its {FEATURES:,} features, as many as can be had, got {samples:,}",
        )
        require(
            importlib.util.find_spec("torch_fidelity") is not None,
            "inception: the package torch-fidelity is missing; get it with: pip install 'fused_gan[inception]'",
        )
        self.sha256 = _checked(file)
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision, which it imports, is another torch's
            raise UserError(f"inception: torch-fidelity cannot be imported: {error}") from error
        try:
            network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(file))
        except (RuntimeError, AttributeError, TypeError) as error:
            raise UserError(f"inception: {file}: {EXPECTED}: {str(error).splitlines()[0]}") from error
        self._network = network.to(device).eval()
        self._device = device

    @measuring()
    def scores(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        """Return `fid` and `inception_score` of generated images.

        Args:
            real, fake: uint8 (N, C, H, W), C 1 or 3; more than 2,048 each.
        """
        features, _ = self._seen(real)
        theirs, logits = self._seen(fake)
        return {"fid": frechet_distance(features, theirs), "inception_score": classifier_score(logits)}

    def _seen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 2048) and logits (N, 1008) without the bias, as the score was first computed."""
        coloured = images.expand(-1, 3, -1, -1)
        with torch.no_grad():
            seen = [self._network(chunk.to(self._device)) for chunk in torch.split(coloured, CHUNK)]
        features, logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return features, logits


def _checked(file: Path) -> str:
    """Return the SHA-256 of a file, after a check that it holds tensors alone.

    torch-fidelity unpickles any file. A file that passes the check does not contain code that would run.
    """
    try:
        content = file.read_bytes()
        torch.load(file, map_location="meta", weights_only=True, mmap=False)
    except OSError as error:
        raise UserError(f"inception: {file} cannot be read: {error.strerror}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"inception: {file}: {EXPECTED}: {str(error).splitlines()[0]}") from error
    return hashlib.sha256(content).hexdigest()
