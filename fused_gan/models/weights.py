"""Loads the weights of a network, also those that were written before the release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


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
    network.load_state_dict(_renumbered(weights, list(network.state_dict())), assign=assign)


def _renumbered(values: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return values by the names of a network, where theirs differ in the numbers of layers alone.

    An activation that became a module of its own moves the numbers of all layers behind it, and keeps their order.

    Args:
        values: a state dict.
        names: the names of a network that may load it.

    Returns:
        ``values``, by the network's names if these are as many, and the same in the same order but for numbers.
    """
    given, wanted = sorted(values, key=_in_order), sorted(names, key=_in_order)
    if given == wanted or list(map(_without_numbers, given)) != list(map(_without_numbers, wanted)):
        return dict(values)
    return {name: values[key] for name, key in zip(wanted, given, strict=True)}


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts names as layers are numbered, "2.weight" before "10.weight"."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in name.split(".")]


def _without_numbers(name: str) -> list[str]:
    return ["" if part.isdecimal() else part for part in name.split(".")]
