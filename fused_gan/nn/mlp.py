"""FusedMLP, a fully connected network, and the layers of such networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, overload

import torch
from torch import nn

from fused_gan.nn.sequential import FusedSequential
from fused_gan.ops.activations import (
    DEFAULT_NEGATIVE_SLOPE,
    IDLE,
    NONE_GIVEN,
    check_parameters,
    find_activation,
    make_module,
    values_of,
)


class FusedMLP(FusedSequential):
    """A fully connected network that runs as one operator: ``nn.Sequential(nn.Linear, act, nn.Linear, act, ...)``.

    Children, ``state_dict`` and initial values from the same seed are those of that Sequential. Layer i is the child
    2i, and its activation the child 2i + 1, even an ``nn.Identity``. The last layer has no child for "identity".
    A ``state_dict`` in which layer i is "i.weight" and "i.bias", as it was before the release, loads too.

    Args:
        widths: features of the input, of each hidden layer, and of the output: at least two numbers.
        activation: after each layer but the last, a name in `fused_gan.ops.activations.ACTIVATIONS`.
        output_activation: after the last layer.
        negative_slope: of every leaky_relu, any finite number.
        bias, device, dtype: of every layer, as for ``nn.Linear``.
        **parameters: those of `fused_gan.linear_act` that its activations have, of every activation that has them.

    Shape:
        ``(..., widths[0])`` to ``(..., widths[-1])``.

    Raises:
        ValueError: fewer than two widths, an unknown activation, a wrong parameter, or one that neither activation has.
        TypeError: a keyword is unknown.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        output_activation: str = "identity",
        negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **parameters: float,
    ) -> None:
        for name in IDLE:
            if name in parameters:
                raise TypeError(
                    f"{name}: expected none, as the layers are stock's, which has no module for it; take mlp()"
                )
        find_activation(activation)  # with two widths no layer has it
        find_activation(output_activation, "output_activation")
        check_parameters([activation, output_activation], negative_slope, parameters)
        if not isinstance(widths, Sequence) or len(widths) < 2:
            raise ValueError(f"widths: expected at least two numbers (input and output), got {widths!r}")
        super().__init__(*dense(widths, activation, output_activation, negative_slope, bias, device, dtype, parameters))

    @overload
    def __getitem__(self, idx: slice) -> FusedSequential: ...

    @overload
    def __getitem__(self, idx: int) -> nn.Module: ...

    def __getitem__(self, idx: slice | int) -> nn.Module:
        if isinstance(idx, slice):  # nn.Sequential calls type(self) with the children
            return FusedSequential(OrderedDict(list(self._modules.items())[idx]))
        return super().__getitem__(idx)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Bring a state dict (a copy that nn.Module made) to this numbering before nn.Module loads it."""
        names = {prefix + name for name, _ in self.named_parameters(remove_duplicate=False)}
        doubled = {name: _doubled(name, prefix) for name in state_dict if _is_numbered(name, prefix)}
        # A number that this network does not have is a sign of the old numbering, in which each number has its layer.
        if not names.issuperset(doubled) and names.issuperset(doubled.values()):
            values = {new: state_dict.pop(old) for old, new in doubled.items()}
            state_dict.update(values)
        super()._load_from_state_dict(state_dict, prefix, *args)


def dense(
    widths: Sequence[int],
    activation: str,
    output_activation: str,
    negative_slope: float,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    parameters: Mapping[str, float] = NONE_GIVEN,
) -> Iterator[nn.Module]:
    """Yield the children of a `FusedMLP`: a Linear between each two `widths`, and the activation after each of them.

    Args and errors as for `FusedMLP`, which checks them; `parameters` by name.
    """
    last = len(widths) - 2
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        yield nn.Linear(inputs, outputs, bias, device, dtype)
        if index < last:
            yield make_module(activation, values_of(activation, negative_slope, parameters))
        elif output_activation != "identity":
            yield make_module(output_activation, values_of(output_activation, negative_slope, parameters))


def _is_numbered(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.removeprefix(prefix).partition(".")[0].isdecimal()


def _doubled(name: str, prefix: str) -> str:
    """Return the name with the number behind the prefix doubled, "body.2.weight" for "body.1.weight"."""
    number, dot, rest = name.removeprefix(prefix).partition(".")
    return f"{prefix}{2 * int(number)}{dot}{rest}"
