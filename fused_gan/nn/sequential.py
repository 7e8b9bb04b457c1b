"""Sequentials that run chains of their children as one operator.

The choice is made again at every call, because hooks, weights and wrappers can change between calls. The children are
read, never changed. A child that computes more than its formula (because of a hook, a subclass, or a parametrised or
sharded weight) is called by itself: a chain ends before this child, and a new chain begins after it.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _is_torch_function_mode_enabled
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from fused_gan.nn.linear import FusedLinear
from fused_gan.ops import linear_act, mlp
from fused_gan.ops.activations import ACTIVATIONS, DEFAULT_NEGATIVE_SLOPE
from fused_gan.ops.functional import is_recorded
from fused_gan.ops.library import DTYPES, FACTS

# The classes of the modules that are fused, and the activation of each. Only `negative_slope` and `inplace` are read.
ACTIVATION_MODULES = {type(row.module(DEFAULT_NEGATIVE_SLOPE)): name for name, row in ACTIVATIONS.items()}

RECIPE = "_fused_gan_recipe"  # the attribute for a container's recipe, whose derivation takes longer than a small layer
_PLAIN = (Tensor, nn.Parameter)
_DEVICES = ("cpu", "meta", "cuda") if FACTS["cuda"] else ("cpu", "meta")


class FusedSequential(nn.Sequential):
    """An ``nn.Sequential`` that runs each run of Linear and activation modules in it as one operator.

    The children, nested Sequentials included, stay what they are: ``model[0]`` is the ``nn.Linear`` without its
    activation. `fused_gan.fuse` turns any Sequential into a FusedSequential, and `fused_gan.fusion_report` says what
    runs fused.

    Args:
        *args: as for ``nn.Sequential``: modules, or one ``OrderedDict`` of them.
    """

    def forward(self, input: Any) -> Any:
        for step in steps(self):
            input = step(input)
        return input

    def __getstate__(self) -> dict[str, Any]:
        """Return nn.Module's state without the recipe, as copies and unpickled containers derive their own."""
        state = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != RECIPE}


class Layer(NamedTuple):
    """A Linear with the activation that follows it."""

    linear: nn.Linear
    activation: str
    negative_slope: float
    module: nn.Module | None  # of the activation; None for a FusedLinear, and where no activation follows
    modules: list[nn.Module]  # all modules that the layer replaces, those that do nothing included


class LayerChain:
    """Consecutive layers that run as one operator."""

    def __init__(self, layers: list[Layer]) -> None:
        self.linears = [layer.linear for layer in layers]
        self.names = [layer.activation for layer in layers]
        self.modules = [module for layer in layers for module in layer.modules]
        self.negative_slope = next(
            (layer.negative_slope for layer in layers if layer.activation == "leaky_relu"), DEFAULT_NEGATIVE_SLOPE
        )
        self.fused = any(name != "identity" for name in self.names)  # PyTorch runs products without activations

    def __call__(self, input: Any) -> Any:
        if not (self.fused and is_supported(input)):
            for module in self.modules:
                input = module(input)
            return input
        weights: list[Tensor] = [parameter(linear, "weight") for linear in self.linears]
        biases: list[Tensor | None] = [parameter(linear, "bias") for linear in self.linears]
        if len(weights) == 1:
            return linear_act(input, weights[0], biases[0], self.names[0], self.negative_slope)
        return mlp(input, weights, biases, self.names, self.negative_slope)


Steps = list["LayerChain | nn.Module"]


class Recipe:
    """The steps of a container, with everything that they were derived from.

    The container keeps its recipe, so the recipe does not refer to it: a cycle would keep a deleted model in memory.
    """

    def __init__(self, container: nn.Sequential) -> None:
        self.nested: list[nn.Sequential] = []  # the Sequentials below the container whose children are leaves
        self.leaves = [module for _, module in leaves(container, self.nested)]
        hooked = is_customised(container)
        items = group_layers(self.leaves, hooked)
        # Later calls compare this only where a leaky_relu may be the last layer; elsewhere it does not matter.
        self.hooked = hooked if any(type(module) is nn.LeakyReLU for module in self.leaves) else None
        self.steps = _chain_layers(items)
        self.children = [list(walked) for walked in (container, *self.nested)]
        self.classes = [type(module) for module in self.leaves]
        read = [module for module in (*self.nested, *self.leaves) if _can_be_read(module)]
        self.plain = [vars(module) for module in read if not is_customised(module)]
        self.customised = [module for module in read if is_customised(module)]
        self.attributes = [
            (vars(module), name, vars(module)[name])
            for module in self.leaves
            for name in ("activation", "negative_slope", "inplace", *["training"] * (type(module) is nn.Dropout))
            if name in vars(module)
        ]
        self.parameter_types: list[tuple[dict[str, Any], str, type]] = [
            (module._parameters, name, type(module._parameters.get(name)))
            for module in read
            if isinstance(module, nn.Linear)
            for name in ("weight", "bias")
        ]
        self.weights = [
            (parameters, parameters["weight"].layout, parameters["weight"].dim())
            for parameters, name, kind in self.parameter_types
            if name == "weight" and kind in _PLAIN
        ]
        self.bias_shapes = [
            (parameters, parameters["bias"].shape)
            for parameters, name, _ in self.parameter_types
            if name == "bias" and parameters.get("bias") is not None
        ]
        # For a module with children, each call looks whether a child works in place.
        self.in_place = [(module, works_in_place(module)) for module in _behind_leaky_relu(items) if module._modules]

    def is_current(self, container: nn.Sequential) -> bool:
        """Whether the recipe, if derived now, would be the same.

        Every call of the container asks this, so the checks are written out instead of calling `is_customised`.
        """
        for own in self.plain:
            if (
                own["_forward_hooks"]
                or own["_forward_pre_hooks"]
                or own["_backward_hooks"]
                or own["_backward_pre_hooks"]
                or "forward" in own
                or "_compiled_call_impl" in own
            ):
                return False
        for own, name, value in self.attributes:
            if own[name] is not value and own[name] != value:
                return False
        for parameters, name, kind in self.parameter_types:
            if type(parameters.get(name)) is not kind:
                return False
        for parameters, layout, dimensions in self.weights:
            weight = parameters["weight"]
            if weight.layout is not layout or weight.dim() != dimensions:
                return False
        for parameters, shape in self.bias_shapes:
            if parameters["bias"].shape != shape:
                return False
        for module, value in self.in_place:
            if works_in_place(module) != value:
                return False
        for walked, children in zip((container, *self.nested), self.children, strict=True):
            # Identity: a module's own __eq__ may call another one equal.
            if len(children) != len(walked._modules) or not all(map(is_, children, walked._modules.values())):
                return False
        return (
            self.classes == list(map(type, self.leaves))
            and all(map(is_customised, self.customised))
            and (self.hooked is None or is_customised(container) == self.hooked)
        )


def steps(container: nn.Sequential) -> Steps:
    """Return the steps of a call of the container, in order: chains of layers, and modules that are called themselves.

    A recording (torch.export, torch.jit.trace, global hooks) gets the container's own children.
    """
    if is_watched():
        return list(container)
    if torch.compiler.is_dynamo_compiling():  # Dynamo itself guards what it reads
        return Recipe(container).steps
    recipe: Recipe | None = vars(container).get(RECIPE)
    if recipe is None or not recipe.is_current(container):
        recipe = vars(container)[RECIPE] = Recipe(container)
    return recipe.steps


def is_watched() -> bool:
    """Whether each module has to be called itself, because somebody records, sees or changes its call."""
    return _has_any_global_hook() or is_recorded() or is_intercepted()  # type: ignore[no-untyped-call]


def is_intercepted() -> bool:
    """Whether somebody gets to see each call of a module or of one of torch's functions, and may change it.

    Somebody who replaced ``nn.Module.__call__``, or a ``TorchFunctionMode``. The mode of ``torch.device`` as a context
    and of ``torch.set_default_device`` does not count: it changes nothing but where new tensors are made.
    """
    if not torch.compiler.is_dynamo_compiling():
        if nn.Module.__call__ is not nn.Module._wrapped_call_impl:
            return True
        if not _is_torch_function_mode_enabled():  # quicker than the stack, and nothing that Dynamo knows
            return False
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(type(mode) is not DeviceContext for mode in modes)


def obstacle(module: nn.Module) -> str | None:
    """Return why a Linear or an activation has to be called itself; None where it can be fused."""
    kind = type(module)
    if kind is nn.Linear or kind is FusedLinear:
        for name in ("weight", "bias"):
            tensor = parameter(module, name)
            if tensor is not None and not _is_plain(tensor):
                # A stand-in (torch's expanded weights) may refuse to be asked for its layout.
                layout = f", {tensor.layout}" if type(tensor) in _PLAIN else ""
                return f"its {name} is a {type(tensor).__name__}{layout}"
        weight, bias = parameter(module, "weight"), parameter(module, "bias")
        if weight is None or weight.dim() != 2:
            return "its weight is not a matrix"
        if bias is not None and bias.shape != weight.shape[:1]:  # stock broadcasts it
            return f"its bias has the shape {tuple(bias.shape)}, not {tuple(weight.shape[:1])}"
    elif kind not in ACTIVATION_MODULES:
        wanted = "nn.Linear itself" if isinstance(module, nn.Linear) else "among the activations that can be fused"
        return f"{kind.__name__} is not {wanted}"
    elif not is_slope(slope := vars(module).get("negative_slope", 0.0)):
        return f"its negative_slope is {slope}: a number ≥ 0 is needed"
    return "it has hooks, or a forward of its own" if is_customised(module) else None


def is_slope(slope: object) -> bool:
    """Whether the operators accept this negative_slope."""
    return type(slope) in (float, int) and 0 <= slope < inf  # type: ignore[operator]


def works_in_place(module: nn.Module) -> bool:
    """Whether the module, or a module inside it, says that it may overwrite its input."""
    return any(vars(inner).get("inplace", False) for inner in module.modules())


def runs_children_in_order(kind: type[nn.Module]) -> bool:
    """Whether a call of this kind of Sequential is a call of its children, one after the other."""
    return (
        issubclass(kind, nn.Sequential)
        and kind.forward in (nn.Sequential.forward, FusedSequential.forward)
        and kind.__iter__ is nn.Sequential.__iter__
        and kind.__call__ is nn.Module.__call__
    )


def leaves(container: nn.Sequential, nested: list[nn.Sequential], prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return the children with their names; the children of a nested Sequential stand in its place.

    A nested Sequential with hooks or with a forward of its own is a leaf. The other nested ones are added to `nested`.
    """
    found: list[tuple[str, nn.Module]] = []
    for name, child in container._modules.items():
        if isinstance(child, nn.Sequential) and runs_children_in_order(type(child)) and not is_customised(child):
            nested.append(child)
            found += leaves(child, nested, f"{prefix}{name}.")
        else:
            found.append((prefix + name, child))
    return found


def group_layers(modules: list[nn.Module], hooked: bool) -> list[Layer | nn.Module]:
    """Return the modules with each Linear, its activation and the idle modules around the activation as one `Layer`.

    Args:
        modules: the leaves of a container.
        hooked: whether the container is called itself even within another Sequential, as it has hooks.
    """
    items: list[Layer | nn.Module] = []
    for module in modules:
        last = items[-1] if items else None
        if isinstance(module, nn.Linear) and obstacle(module) is None:
            own = vars(module)
            items.append(
                Layer(module, own.get("activation", "identity"), own.get("negative_slope", 0.0), None, [module])
            )
        elif isinstance(last, Layer) and does_nothing(module):
            last.modules.append(module)
        elif isinstance(last, Layer) and last.activation == "identity" and obstacle(module) is None:
            name, slope = ACTIVATION_MODULES[type(module)], vars(module).get("negative_slope", 0.0)
            items[-1] = Layer(last.linear, name, slope, module, [*last.modules, module])
        else:
            if works_in_place(module):
                items[-1:] = _split_leaky_relu(items[-1:])
            items.append(module)
    # What follows a container that is called by itself may work in place. (Without hooks, the Sequential around the
    # container runs the container's children as its own.)
    return [*items[:-1], *_split_leaky_relu(items[-1:])] if hooked else items


def _split_leaky_relu(last: list[Layer | nn.Module]) -> list[Layer | nn.Module]:
    """Return a leaky_relu and its layer apart, so that the next module may overwrite the output of leaky_relu.

    A fused leaky_relu keeps its output for the gradient, PyTorch's keeps the input. (The other activations of PyTorch
    keep their output too.)
    """
    if not (last and isinstance(layer := last[0], Layer) and layer.activation == "leaky_relu" and layer.module):
        return last
    place = layer.modules.index(layer.module)
    return [Layer(layer.linear, "identity", 0.0, None, layer.modules[:place]), *layer.modules[place:]]


def _behind_leaky_relu(items: list[Layer | nn.Module]) -> list[nn.Module]:
    """Return the modules after a leaky_relu that make `group_layers` split it off if they work in place."""
    return [
        module
        for last, module in pairwise(items)
        if not isinstance(module, Layer)
        and (
            last.activation == "leaky_relu"
            if isinstance(last, Layer)
            else type(last) is nn.LeakyReLU or does_nothing(last)
        )
    ]


def _chain_layers(items: list[Layer | nn.Module]) -> Steps:
    """Return the steps: neighbouring layers with a common slope as one chain, other modules as they are."""
    found: Steps = []
    layers: list[Layer] = []
    for item in [*items, None]:
        if layers and not (isinstance(item, Layer) and _share_slope([*layers, item])):
            found.append(LayerChain(layers))
            layers = []
        if isinstance(item, Layer):
            layers.append(item)
        elif item is not None:
            found.append(item)
    return found


def _share_slope(layers: list[Layer]) -> bool:
    """Whether one operator, which has one slope, can run these layers."""
    return len({layer.negative_slope for layer in layers if layer.activation == "leaky_relu"}) <= 1


def does_nothing(module: nn.Module) -> bool:
    """Whether a call of the module returns its input."""
    kind = type(module)
    return (kind is nn.Identity or (kind is nn.Dropout and not module.training)) and not is_customised(module)


def _can_be_read(module: nn.Module) -> bool:
    """Whether a module of this class can be fused or left out instead of called."""
    kind = type(module)
    return kind in (nn.Linear, FusedLinear, nn.Dropout) or kind in ACTIVATION_MODULES or runs_children_in_order(kind)


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


def parameter(linear: nn.Module, name: str) -> Any:
    """Return ``getattr(linear, name)``, for a parameter without the slow Module.__getattr__."""
    parameters = linear._parameters
    return parameters[name] if name in parameters else getattr(linear, name)


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor is not a subclass (DTensor, quantised, fx.Proxy), not sparse and not nested."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_nested


def is_supported(input: Any) -> bool:
    """Whether the operators accept this input."""
    return _is_plain(input) and input.dtype in DTYPES and input.device.type in _DEVICES
