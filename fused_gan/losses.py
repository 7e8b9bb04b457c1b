"""Adversarial losses. Every one takes logits (no sigmoid before it), in any shape, and returns a scalar."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What D minimises: the binary cross-entropy of telling real from generated images.

    mean(−log σ(D(x))) + mean(−log(1 − σ(D(G(z))))), the negated inner objective of the minimax game of Goodfellow et
    al., Generative Adversarial Nets (2014), equation 1.

    Args:
        real_logits: D's scores of real images, any shape, any floating dtype.
        fake_logits: D's scores of generated images.

    Returns:
        A scalar ≥ 0; 2 log 2 ≈ 1.386 when D cannot tell them apart.
    """
    # logsigmoid, because log(sigmoid(x)) is −inf already at x = −104 in float32, and softplus drops exp(−x) above its
    # threshold of 20. 1 − σ(x) = σ(−x).
    return -F.logsigmoid(real_logits).mean() - F.logsigmoid(-fake_logits).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """What G minimises: the non-saturating loss, mean(−log σ(D(G(z)))).

    Goodfellow et al. (2014), section 3: it has the fixed point of the minimax loss mean(log(1 − σ(D(G(z))))), but keeps
    a strong gradient when D rejects the images with confidence, where the minimax loss is flat.

    Args:
        fake_logits: D's scores of generated images, with a graph back to G.

    Returns:
        A scalar ≥ 0; log 2 ≈ 0.693 when D cannot tell generated images from real ones.
    """
    return -F.logsigmoid(fake_logits).mean()
