"""Which modules of a Sequential make up a layer, and which of them cannot be fused, and why."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from fused_gan.nn.linear import FusedLinear, scaled
from fused_gan.ops.activations import (
    ACTIVATION_MODULES,
    ACTIVATIONS,
    IDLE,
    Fault,
    Found,
    fault,
    read_module,
    values_of,
)
from fused_gan.ops.functional import PLAIN, is_plain

LINEARS = (nn.Linear, FusedLinear)


class Layer(NamedTuple):
    """A Linear with the activation that follows it."""

    linear: nn.Module
    activation: str
    parameters: tuple[float, ...]  # of the activation, in the order of its row in `ACTIVATIONS`
    in_place: bool  # of interest for leaky_relu alone: whether its output is kept, so that nobody may overwrite it
    module: nn.Module | None  # of the activation; None for a FusedLinear, and where no activation follows
    modules: list[nn.Module]  # all modules that the layer replaces, those that do nothing included


def obstacle(module: nn.Module) -> str | None:
    """Return why a Linear or an activation has to be called itself; None where it can be fused."""
    kind = type(module)
    if kind in LINEARS:
        found = of_linear(module)
        if isinstance(found, Fault):
            return _reason(found)
        return _obstacle_of_calls(module) or _obstacle_of_parameters(module)
    if kind not in ACTIVATION_MODULES:
        wanted = "nn.Linear itself" if isinstance(module, LINEARS) else "among the activations that can be fused"
        return f"{kind.__name__} is not {wanted}"
    found = read_module(module)
    return _reason(found) if isinstance(found, Fault) else _obstacle_of_calls(module)


def of_linear(linear: nn.Module) -> Found | Fault:
    """Return the activation that a Linear itself applies, "identity" for an ``nn.Linear``, or what is wrong with it."""
    if type(linear) is not FusedLinear:
        return Found("identity", ())
    if found := scaled(linear):  # it is one operator, but of no chain
        return found
    name = linear.activation
    if name not in ACTIVATIONS:
        return Fault("activation", "a known name", name)
    values = values_of(name, linear.negative_slope, vars(linear))
    return fault(name, values) or Found(name, values, in_place=True)  # as `linear_act` has it


def watched_attributes(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes of a module, there or not, that decide what its layer computes, or whether it is fused."""
    kind = type(module)
    if kind is FusedLinear:
        known = ACTIVATIONS.get(vars(module)["activation"])
        return ("activation", *IDLE, *(known.parameters if known else ()))
    names = ["training"] if kind is nn.Dropout else []
    for activation in ACTIVATION_MODULES.get(kind, ())[:1]:  # rows of one class have the same names
        row = ACTIVATIONS[activation]
        names += [*row.parameters, *row.fixed, *row.constants, "inplace"]
    return tuple(names)


def _reason(found: Fault) -> str:
    return f"its {found.parameter} is {found.got!r}: {found.expected} is needed"


def _obstacle_of_parameters(linear: nn.Module) -> str | None:
    parameters = linear._parameters
    for name in ("weight", "bias"):
        if name not in parameters:  # nothing tells when a plain attribute is replaced
            return f"its {name} is not a parameter of it"
        tensor = parameters[name]
        if tensor is not None and not is_plain(tensor):
            # A stand-in (torch's expanded weights) may refuse to be asked for its layout.
            layout = f", {tensor.layout}" if type(tensor) in PLAIN else ""
            return f"its {name} is a {type(tensor).__name__}{layout}"
    weight, bias = parameters["weight"], parameters["bias"]
    if weight is None or weight.dim() != 2:
        return "its weight is not a matrix"
    if bias is not None and bias.shape != weight.shape[:1]:  # stock broadcasts it
        return f"its bias has the shape {tuple(bias.shape)}, not {tuple(weight.shape[:1])}"
    return None


def _obstacle_of_calls(module: nn.Module) -> str | None:
    return "it has hooks, or a forward of its own" if is_customised(module) else None


def is_customised(module: nn.Module) -> bool:
    """Whether a call of the module may be more than a call of its class's forward."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "_compiled_call_impl" in vars(module)
        or "forward" in vars(module)  # as accelerate's hooks do
    )


def does_nothing(module: nn.Module) -> bool:
    """Whether a call of the module returns its input."""
    kind = type(module)
    return (kind is nn.Identity or (kind is nn.Dropout and not module.training)) and not is_customised(module)


def group_layers(modules: list[nn.Module]) -> list[Layer | nn.Module]:
    """Return the modules with each Linear, its activation and the idle modules around the activation as one `Layer`.

    Args:
        modules: the leaves of a container.
    """
    items: list[Layer | nn.Module] = []
    for module in modules:
        last = items[-1] if items else None
        if isinstance(module, LINEARS) and obstacle(module) is None:
            items.append(_layer(module, of_linear(module), None, [module]))
        elif isinstance(last, Layer) and does_nothing(module):
            last.modules.append(module)
        elif isinstance(last, Layer) and last.activation == "identity" and obstacle(module) is None:
            items[-1] = _layer(last.linear, read_module(module), module, [*last.modules, module])
        else:
            items.append(module)
    return items


def _layer(linear: nn.Module, found: Found | Fault, module: nn.Module | None, modules: list[nn.Module]) -> Layer:
    assert isinstance(found, Found)  # nothing is in the way, as `obstacle` has said
    return Layer(linear, *found, module, modules)
