"""Reports what runs fused in a model, what does not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from fused_gan.nn.fusing import (
    activation_calls,
    class_obstacle,
    is_activation,
    origin_of,
    resolve,
    unknown_activation_calls,
)
from fused_gan.nn.layers import LINEARS, does_nothing, obstacle
from fused_gan.nn.linear import FusedLinear
from fused_gan.nn.sequential import FusedSequential, leaves, runs_children_in_order


@dataclass(frozen=True)
class FusionSite:
    """A Linear followed by an activation."""

    where: str
    """The container's name in the model, or the file and line of the code."""

    what: str
    """The layer and the activation, as "0 Linear → 1 ReLU"."""

    fused: bool

    reason: str
    """Why the pair is not fused; empty if it is."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {'fused' if self.fused else f'not fused: {self.reason}'}"


class FusionReport(tuple[FusionSite, ...]):
    """All sites of a model, in the order of its modules. `str` gives one line per site."""

    @property
    def fused(self) -> list[FusionSite]:
        """The sites that run fused."""
        return [site for site in self if site.fused]

    @property
    def left(self) -> list[FusionSite]:
        """The sites that do not run fused."""
        return [site for site in self if not site.fused]

    def __str__(self) -> str:
        return "\n".join([f"{len(self.fused)} of {len(self)} Linear + activation fused", *map(str, self)])


def fusion_report(module: nn.Module) -> FusionReport:
    """Return what runs fused in a model at this moment, what does not, and why. The model need not be fused."""
    inside: list[nn.Module] = []  # Sequentials that run as part of the Sequential around them
    sites: list[FusionSite] = []
    for name, inner in module.named_modules():
        where = name or inner._get_name()
        if isinstance(inner, nn.Sequential) and not any(inner is known for known in inside):
            sites += _in_container(inner, where, inside)
        sites += _in_code(inner, where)
    return FusionReport(sites)


def _in_container(container: nn.Sequential, where: str, inside: list[nn.Module]) -> Iterator[FusionSite]:
    nested: list[nn.Sequential] = []
    children = [(name, module) for name, module in leaves(container, nested) if not does_nothing(module)]
    walked = runs_children_in_order(type(container))
    if walked:
        inside += nested
    fused = type(container).forward is FusedSequential.forward
    blocked = (
        None if fused else class_obstacle(container) or (None if walked else "the container has a forward of its own")
    )
    for name, module in children:
        if type(module) is FusedLinear and module.activation != "identity":
            yield FusionSite(where, f"{name} FusedLinear, {module.activation}", True, "")
    for (name, linear), (next_name, activation) in pairwise(children):
        has_its_own = vars(linear).get("activation", "identity") != "identity"  # then the pair is of two activations
        if isinstance(linear, LINEARS) and not has_its_own and is_activation(activation):
            what = f"{name} {type(linear).__name__} → {next_name} {type(activation).__name__}"
            reason = blocked or obstacle(linear) or obstacle(activation)
            reason = reason or ("" if fused else "fuse() does it")
            yield FusionSite(where, what, not reason, reason)


def _in_code(module: nn.Module, where: str) -> Iterator[FusionSite]:
    found = activation_calls(module)
    if isinstance(found, str):
        yield FusionSite(where, "forward", False, found)
        return
    undone = "" if origin_of(module) else class_obstacle(module) or "fuse(..., trace=True) does it"
    for line, activation, linear in found:
        parts = (resolve(module, linear), resolve(module, activation))
        reasons = [obstacle(part) for part in parts if isinstance(part, nn.Module)]
        reason = next(filter(None, reasons), undone)
        yield FusionSite(f"{where}.forward, line {line}", f"{linear} → {activation}", not reason, reason)
    for (line, activation, linear), reason in unknown_activation_calls(module):
        yield FusionSite(f"{where}.forward, line {line}", f"{linear} → {activation}", False, reason)
