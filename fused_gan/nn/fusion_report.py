"""What runs fused in a model, what does not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from fused_gan.nn.fusing import ORIGIN, fixed, resolved, sites_in_code
from fused_gan.nn.linear import FusedLinear
from fused_gan.nn.sequential import (
    ACTIVATION_MODULES,
    FusedSequential,
    Layer,
    does_nothing,
    is_touched,
    is_walked,
    joined,
    leaves,
    obstacle,
)


@dataclass(frozen=True)
class Site:
    """A Linear with an activation behind it."""

    where: str
    """The container's name in the model, or the file and line of the code."""

    what: str
    """The layer and the activation, as "0 Linear → 1 ReLU"."""

    fused: bool

    reason: str
    """Why it is not fused; nothing if it is."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {'fused' if self.fused else f'not fused: {self.reason}'}"


class FusionReport(tuple[Site, ...]):
    """All sites of a model, in the order of its modules; printed, a line each."""

    @property
    def fused(self) -> list[Site]:
        return [site for site in self if site.fused]

    @property
    def left(self) -> list[Site]:
        return [site for site in self if not site.fused]

    def __str__(self) -> str:
        return "\n".join([f"{len(self.fused)} of {len(self)} Linear + activation fused", *map(str, self)])


def fusion_report(module: nn.Module) -> FusionReport:
    """What runs fused in a model at this moment, what does not, and why. Works on models that are not fused, too."""
    inside: list[nn.Module] = []  # Sequentials that run as part of the one around them
    sites: list[Site] = []
    for name, inner in module.named_modules():
        where = name or type(inner).__name__
        if isinstance(inner, nn.Sequential) and not any(inner is known for known in inside):
            sites += _in_container(inner, where, inside)
        sites += _in_code(inner, where)
    return FusionReport(sites)


def _in_container(container: nn.Sequential, where: str, inside: list[nn.Module]) -> Iterator[Site]:
    nested: list[nn.Sequential] = []
    named = [(name, module) for name, module in leaves(container, nested) if not does_nothing(module)]
    walked = is_walked(type(container))
    if walked:
        inside += nested
    fused = type(container).forward is FusedSequential.forward
    blocked = None if fused else fixed(container) or (None if walked else "the container has a forward of its own")
    items = joined([module for _, module in named], is_touched(container))
    together = [item for item in items if isinstance(item, Layer)]
    for name, module in named:
        if type(module) is FusedLinear and module.activation != "identity":
            yield Site(where, f"{name} FusedLinear, {module.activation}", True, "")
    for (name, linear), (next_name, activation) in pairwise(named):
        if isinstance(linear, nn.Linear) and _is_activation(activation):
            what = f"{name} {type(linear).__name__} → {next_name} {type(activation).__name__}"
            reason = blocked or obstacle(linear) or obstacle(activation)
            if not reason and not any(layer.linear is linear and layer.module is activation for layer in together):
                reason = "what comes next may overwrite the output, of which the gradient is read"
            reason = reason or ("" if fused else "fuse() does it")
            yield Site(where, what, not reason, reason)


def _is_activation(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):  # lives among them
        return False
    return isinstance(module, tuple(ACTIVATION_MODULES)) or type(module).__module__ == nn.ReLU.__module__


def _in_code(module: nn.Module, where: str) -> Iterator[Site]:
    found = sites_in_code(module)
    if isinstance(found, str):
        yield Site(where, "forward", False, found)
        return
    undone = "" if ORIGIN in vars(type(module)) else fixed(module) or "fuse(..., trace=True) does it"
    for line, activation, linear in found:
        parts = (resolved(module, linear), resolved(module, activation))
        reasons = [obstacle(part) for part in parts if isinstance(part, nn.Module)]
        reason = next(filter(None, reasons), undone)
        yield Site(f"{where}.forward, line {line}", f"{linear} → {activation}", not reason, reason)
