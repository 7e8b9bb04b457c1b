"""Which modules of a Sequential make up a layer, and which of them cannot be fused, and why."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from fused_gan.nn.linear import FusedLinear
from fused_gan.ops.activations import (
    ACTIVATION_MODULES,
    ACTIVATIONS,
    Fault,
    Found,
    fault,
    read_module,
    values_of,
)
from fused_gan.ops.functional import PLAIN, is_plain

LINEARS = (nn.Linear, FusedLinear)

# Where torch's modules are that compute a new tensor, unless they say that they work in place.
_HOMES_OF_NEW_OUTPUT = {
    f"torch.nn.modules.{file}"
    for file in (
        *("activation", "batchnorm", "conv", "dropout", "instancenorm"),
        *("linear", "normalization", "padding", "pooling"),
    )
}
# The output of these may share the memory of the input.
_VIEWS = (nn.Identity, nn.Flatten, nn.Unflatten)


class Layer(NamedTuple):
    """A Linear with the activation that follows it."""

    linear: nn.Module
    activation: str
    parameters: tuple[float, ...]  # of the activation, in the order of its row in `ACTIVATIONS`
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
    name = linear.activation
    if name not in ACTIVATIONS:
        return Fault("activation", "a known name", name)
    values = values_of(name, linear.negative_slope, vars(linear))
    return fault(name, values) or Found(name, values)


def watched_attributes(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes of a module, there or not, that decide what its layer computes, or whether it is fused."""
    kind = type(module)
    if kind is FusedLinear:
        known = ACTIVATIONS.get(vars(module)["activation"])
        return ("activation", *(known.parameters if known else ()))
    names = ["training"] if kind is nn.Dropout else []
    if "inplace" in vars(module):  # of any module: it may overwrite what a layer before it keeps
        names.append("inplace")
    for activation in ACTIVATION_MODULES.get(kind, ())[:1]:  # rows of one class have the same names
        row = ACTIVATIONS[activation]
        names += [*row.parameters, *row.fixed, *row.constants]
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


def group_layers(modules: list[nn.Module], hooked: bool) -> list[Layer | nn.Module]:
    """Return the modules with each Linear, its activation and the idle modules around the activation as one `Layer`.

    Args:
        modules: the leaves of a container.
        hooked: whether the container is called itself even within another Sequential, as it has hooks.
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
    return _split_leaky_relus(items, hooked)


def _layer(linear: nn.Module, found: Found | Fault, module: nn.Module | None, modules: list[nn.Module]) -> Layer:
    assert isinstance(found, Found)  # nothing is in the way, as `obstacle` has said
    return Layer(linear, *found, module, modules)


def keeps_output(layer: Layer) -> bool:
    """Whether a fused layer keeps its output for the gradient where PyTorch's activation keeps its input.

    The operators read the gradient of relu, tanh and sigmoid from the output as PyTorch does, and that of the others
    from the pre-activation as PyTorch does, so nobody can overwrite it. leaky_relu is the exception: with a slope of at
    least 0, the sign of its output is the sign of its input, and the operators keep the output alone.
    """
    return layer.activation == "leaky_relu" and layer.parameters[0] >= 0


def _split_leaky_relus(items: list[Layer | nn.Module], hooked: bool) -> list[Layer | nn.Module]:
    """Return the items with each leaky_relu apart from its layer where a later module may overwrite its output.

    See `keeps_output` for why this concerns leaky_relu alone.
    """
    found: list[Layer | nn.Module] = []
    for index, item in enumerate(items):
        if isinstance(item, Layer) and keeps_output(item) and item.module is not None:
            behind = behind_leaky_relu(items, index)
            # What follows a container that is called by itself may work in place. (Without hooks, the Sequential around
            # the container runs the container's children as its own.)
            leaves_the_container = index + 1 + len(behind) == len(items) and all(map(is_view, behind))
            if may_overwrite(behind) or (hooked and leaves_the_container):
                place = item.modules.index(item.module)
                found += [Layer(item.linear, "identity", (), None, item.modules[:place]), *item.modules[place:]]
                continue
        found.append(item)
    return found


def behind_leaky_relu(items: list[Layer | nn.Module], index: int) -> list[nn.Module]:
    """Return the modules behind item `index` that its output's memory can reach.

    The list ends with the first module that does not pass the memory on, or before a layer, which only reads it.
    """
    behind: list[nn.Module] = []
    for item in items[index + 1 :]:
        if isinstance(item, Layer):
            break
        behind.append(item)
        if not is_view(item):
            break
    return behind


def may_overwrite(modules: list[nn.Module]) -> bool:
    """Whether one of these modules, called one after the other, may overwrite the input of the first."""
    return not all(is_view(module) or _only_reads(module) for module in modules)


def is_view(module: nn.Module) -> bool:
    """Whether the module returns its input, or may return a view of it."""
    if is_customised(module):
        return False
    kind = _stock_class(module)
    if kind.__module__ == nn.Dropout.__module__:  # with nothing to drop it returns its very input
        return not module.training or vars(module)["p"] == 0
    return kind in _VIEWS


def _only_reads(module: nn.Module) -> bool:
    """Whether the module is known to leave its input as it is and to compute a new tensor."""
    known = _stock_class(module).__module__ in _HOMES_OF_NEW_OUTPUT
    return known and not is_customised(module) and not vars(module).get("inplace", False)


def _stock_class(module: nn.Module) -> type[nn.Module]:
    """Return the module's class, or the class that a parametrisation has replaced.

    (A subclass that keeps its forward may still work in place, in a method that the forward calls.)
    """
    kind = type(module)
    return kind.__base__ if kind.__module__ == parametrize.__name__ else kind  # type: ignore[return-value]
