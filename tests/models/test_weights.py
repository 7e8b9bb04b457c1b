"""Weights with the names from before the release, when a Linear and its activation were one module, still load."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fused_gan.models.weights import load_weights
from fused_gan.nn.layers import ACTIVATION_MODULES
from fused_gan.systems.build import build_sampling_network
from fused_gan.training import PRESETS


def old_names(network: nn.Module, prefix: str = "", old: str = "") -> dict[str, str]:
    """The name that each parameter and buffer had, by its name now."""
    found: dict[str, str] = {}
    place, before = 0, None
    for name, child in network.named_children():
        if type(child) in ACTIVATION_MODULES and isinstance(before, nn.Linear):
            continue  # was a part of the Linear
        number = str(place) if isinstance(network, nn.Sequential) else name
        found |= old_names(child, f"{prefix}{name}.", f"{old}{number}.")
        place, before = place + 1, child
    own = [*network.named_parameters(recurse=False), *network.named_buffers(recurse=False)]
    return found | {prefix + name: old + name for name, _ in own}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_old_names_load(preset: str) -> None:
    model = PRESETS[preset].model
    classes = 3 if model.conditional else 0
    one, other = (build_sampling_network(model, (1, 8, 8), classes) for _ in range(2))
    names = old_names(one)
    assert (names.keys() != set(names.values())) == (preset != "dcgan"), "it has no Linear with an activation"
    load_weights(other, {names[name]: value for name, value in one.state_dict().items()})
    for name, value in other.state_dict().items():
        assert torch.equal(value, one.state_dict()[name]), name


def test_weights_of_another_network_are_refused() -> None:
    one, other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_weights(other, one.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(one, other.state_dict())
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (9, 9), "1.bias": (2,)}
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(one, {name: torch.ones(shape) for name, shape in shapes.items()})
