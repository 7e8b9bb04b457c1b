"""Loads the weights of a network, also those that were written before the release."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fused_gan.nn.mlp import renumbered


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], assign: bool = False) -> None:
    """Load a state dict into a network.

    Before the release a Linear and its activation were one module, so the layers behind it had lower numbers.

    Args:
        network: takes the weights.
        weights: the state dict.
        assign: put in the tensors themselves instead of copying their values.

    Raises:
        RuntimeError: names or shapes do not fit the network.
    """
    network.load_state_dict(renumbered(weights, list(network.state_dict())), assign=assign)
