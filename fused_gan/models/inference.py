"""Puts a network into the state in which it is used, not trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put the network into evaluation mode, and compute no gradients, while the block runs.

    BatchNorm uses its running averages and does not change them. Afterwards the mode is as it was.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)
