"""Sequentials that run chains of their children as one operator.

Which ones is asked at every call, because hooks, weights and wrappers come and go. The children are read, never
changed. Whatever makes one of them more than its formula (a hook, a subclass, a parametrised or sharded weight) makes
the chain end before it and a new one begin behind it.
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

# The modules that the activations stand for. No parameter but `negative_slope` and `inplace` is read from them.
ACTIVATION_MODULES = {type(row.module(DEFAULT_NEGATIVE_SLOPE)): name for name, row in ACTIVATIONS.items()}

RECIPE = "_fused_gan_recipe"  # the attribute that keeps a container's: deriving one takes longer than a small layer
_PLAIN = (Tensor, nn.Parameter)
_MODULE_CALL = nn.Module.__call__
_DEVICES = ("cpu", "meta", "cuda") if FACTS["cuda"] else ("cpu", "meta")


class FusedSequential(nn.Sequential):
    """An ``nn.Sequential`` that runs each run of Linear and activation modules in it as one operator.

    The children, nested Sequentials included, stay what they are: ``model[0]`` is the ``nn.Linear`` without its
    activation. `fused_gan.fuse` makes one of somebody's Sequential, `fused_gan.fusion_report` says what runs fused.

    Args:
        *args: as for ``nn.Sequential``: modules, or one ``OrderedDict`` of them.
    """

    def forward(self, input: Any) -> Any:
        for step in steps(self):
            input = step(input)
        return input

    # nn.Module's, without the recipe: copies and pickles derive their own.
    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != RECIPE}


class Layer(NamedTuple):
    """One Linear with what follows it."""

    linear: nn.Linear
    activation: str
    negative_slope: float
    module: nn.Module | None  # the activation, where it is a module of its own
    modules: list[nn.Module]  # all that the layer stands for, modules that do nothing included


class Layers:
    """Consecutive layers, to run as one operator."""

    def __init__(self, layers: list[Layer]) -> None:
        self.linears = [layer.linear for layer in layers]
        self.names = [layer.activation for layer in layers]
        self.modules = [module for layer in layers for module in layer.modules]
        self.negative_slope = next(
            (layer.negative_slope for layer in layers if layer.activation == "leaky_relu"), DEFAULT_NEGATIVE_SLOPE
        )
        self.fused = any(name != "identity" for name in self.names)  # products alone are left to PyTorch

    def __call__(self, input: Any) -> Any:
        if not (self.fused and takes(input)):
            for module in self.modules:
                input = module(input)
            return input
        weights: list[Tensor] = [parameter(linear, "weight") for linear in self.linears]
        biases: list[Tensor | None] = [parameter(linear, "bias") for linear in self.linears]
        if len(weights) == 1:
            return linear_act(input, weights[0], biases[0], self.names[0], self.negative_slope)
        return mlp(input, weights, biases, self.names, self.negative_slope)


Steps = list["Layers | nn.Module"]


class Recipe:
    """The steps of a container, with all that they were derived from.

    The container keeps its recipe, so the recipe does not refer to it: a cycle would keep a deleted model in memory.
    """

    def __init__(self, container: nn.Sequential) -> None:
        self.nested: list[nn.Sequential] = []  # the Sequentials walked through, below the container
        self.leaves = [module for _, module in leaves(container, self.nested)]
        hooked = is_touched(container)
        items = joined(self.leaves, hooked)
        # Matters, and is asked again, only where a leaky_relu may be the last.
        self.hooked = hooked if any(type(module) is nn.LeakyReLU for module in self.leaves) else None
        self.steps = _chained(items)
        self.children = [list(walked) for walked in (container, *self.nested)]
        self.kinds = [type(module) for module in self.leaves]
        read = [module for module in (*self.nested, *self.leaves) if _can_be_read(module)]
        self.untouched = [vars(module) for module in read if not is_touched(module)]
        self.touched = [module for module in read if is_touched(module)]
        self.values = [
            (vars(module), name, vars(module)[name])
            for module in self.leaves
            for name in ("activation", "negative_slope", "inplace", *["training"] * (type(module) is nn.Dropout))
            if name in vars(module)
        ]
        self.tensors: list[tuple[dict[str, Any], str, type]] = [
            (module._parameters, name, type(module._parameters.get(name)))
            for module in read
            if isinstance(module, nn.Linear)
            for name in ("weight", "bias")
        ]
        self.weights = [
            (parameters, parameters["weight"].layout, parameters["weight"].dim())
            for parameters, name, kind in self.tensors
            if name == "weight" and kind in _PLAIN
        ]
        self.biases = [
            (parameters, parameters["bias"].shape)
            for parameters, name, _ in self.tensors
            if name == "bias" and parameters.get("bias") is not None
        ]
        # Modules of modules: whether one of them works in place has to be looked for.
        self.in_place = [(module, works_in_place(module)) for module in _behind_leaky_relu(items) if module._modules]

    def holds(self, container: nn.Sequential) -> bool:
        """Whether it would be derived again. Asked at every call, hence without a call of its own for each module."""
        for own in self.untouched:
            if (
                own["_forward_hooks"]
                or own["_forward_pre_hooks"]
                or own["_backward_hooks"]
                or own["_backward_pre_hooks"]
                or "forward" in own
                or "_compiled_call_impl" in own
            ):
                return False
        for own, name, value in self.values:
            if own[name] is not value and own[name] != value:
                return False
        for parameters, name, kind in self.tensors:
            if type(parameters.get(name)) is not kind:
                return False
        for parameters, layout, dimensions in self.weights:
            weight = parameters["weight"]
            if weight.layout is not layout or weight.dim() != dimensions:
                return False
        for parameters, shape in self.biases:
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
            self.kinds == list(map(type, self.leaves))
            and all(map(is_touched, self.touched))
            and (self.hooked is None or is_touched(container) == self.hooked)
        )


def steps(container: nn.Sequential) -> Steps:
    """What a call of the container consists of, in order: layers that run as one, modules that are called themselves.

    Whoever records a model gets to see its own layers.
    """
    if _has_any_global_hook() or is_recorded():  # type: ignore[no-untyped-call]
        return list(container)
    if torch.compiler.is_dynamo_compiling():  # guards what it reads by itself
        return Recipe(container).steps
    if is_intercepted():
        return list(container)
    recipe: Recipe | None = vars(container).get(RECIPE)
    if recipe is None or not recipe.holds(container):
        recipe = vars(container)[RECIPE] = Recipe(container)
    return recipe.steps


def is_intercepted() -> bool:
    """Whether somebody gets to see each call of a module or of one of torch's functions, and may change it.

    Somebody who replaced ``nn.Module.__call__``, or a ``TorchFunctionMode``. The mode of ``torch.device`` as a context
    and of ``torch.set_default_device`` does not count: it changes nothing but where new tensors are made.
    """
    if nn.Module.__call__ is not _MODULE_CALL:
        return True
    if not _is_torch_function_mode_enabled():
        return False
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(type(mode) is not DeviceContext for mode in modes)


def obstacle(module: nn.Module) -> str | None:
    """Why a Linear or an activation has to be called itself; None where reading it is enough."""
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
            return "its weight is no matrix"
        if bias is not None and bias.shape != weight.shape[:1]:  # stock broadcasts it
            return f"its bias has the shape {tuple(bias.shape)}, not {tuple(weight.shape[:1])}"
    elif kind not in ACTIVATION_MODULES:
        wanted = "nn.Linear itself" if isinstance(module, nn.Linear) else "among the activations that can be fused"
        return f"{kind.__name__} is not {wanted}"
    elif not is_slope(slope := vars(module).get("negative_slope", 0.0)):
        return f"its negative_slope is {slope}: a number ≥ 0 is needed"
    return "it has hooks, or a forward of its own" if is_touched(module) else None


def is_slope(slope: object) -> bool:
    """Whether the operators take it as a negative_slope."""
    return type(slope) in (float, int) and 0 <= slope < inf  # type: ignore[operator]


def works_in_place(module: nn.Module) -> bool:
    """Whether the module, or any inside it, says that it may overwrite its input."""
    return any(vars(inner).get("inplace", False) for inner in module.modules())


def is_walked(kind: type[nn.Module]) -> bool:
    """Whether a call of this kind of Sequential is a call of its children, one after the other."""
    return (
        issubclass(kind, nn.Sequential)
        and kind.forward in (nn.Sequential.forward, FusedSequential.forward)
        and kind.__iter__ is nn.Sequential.__iter__
        and kind.__call__ is nn.Module.__call__
    )


def leaves(container: nn.Sequential, nested: list[nn.Sequential], prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children by name, those of nested Sequentials in their place; the nested ones are added to the list.

    A nested Sequential with hooks or with a forward of its own is a leaf.
    """
    found: list[tuple[str, nn.Module]] = []
    for name, child in container._modules.items():
        if isinstance(child, nn.Sequential) and is_walked(type(child)) and not is_touched(child):
            nested.append(child)
            found += leaves(child, nested, f"{prefix}{name}.")
        else:
            found.append((prefix + name, child))
    return found


def joined(modules: list[nn.Module], hooked: bool) -> list[Layer | nn.Module]:
    """Each Linear with the activation behind it, and with modules that do nothing behind that.

    Args:
        modules: the leaves of a container.
        hooked: whether the container has hooks, and so is called itself even within another Sequential.
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
                items[-1:] = _apart(items[-1:])
            items.append(module)
    # Whoever calls a container by itself may have something behind it that works in place. (Without hooks, the
    # Sequential around it runs its children as its own.)
    return [*items[:-1], *_apart(items[-1:])] if hooked else items


def _apart(last: list[Layer | nn.Module]) -> list[Layer | nn.Module]:
    """A leaky_relu taken out of its layer, so that the next module may overwrite its output.

    A fused one keeps its output for the gradient, stock keeps the input. (The other activations keep their output in
    stock too.)
    """
    if not (last and isinstance(layer := last[0], Layer) and layer.activation == "leaky_relu" and layer.module):
        return last
    place = layer.modules.index(layer.module)
    return [Layer(layer.linear, "identity", 0.0, None, layer.modules[:place]), *layer.modules[place:]]


def _behind_leaky_relu(items: list[Layer | nn.Module]) -> list[nn.Module]:
    """The modules that `_apart` depends on."""
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


def _chained(items: list[Layer | nn.Module]) -> Steps:
    """Neighbouring layers together."""
    found: Steps = []
    layers: list[Layer] = []
    for item in [*items, None]:
        if layers and not (isinstance(item, Layer) and _share_slope([*layers, item])):
            found.append(Layers(layers))
            layers = []
        if isinstance(item, Layer):
            layers.append(item)
        elif item is not None:
            found.append(item)
    return found


def _share_slope(layers: list[Layer]) -> bool:
    """Whether one operator, which has one slope, can run them."""
    return len({layer.negative_slope for layer in layers if layer.activation == "leaky_relu"}) <= 1


def does_nothing(module: nn.Module) -> bool:
    """Whether a call of the module returns its input."""
    kind = type(module)
    return (kind is nn.Identity or (kind is nn.Dropout and not module.training)) and not is_touched(module)


def _can_be_read(module: nn.Module) -> bool:
    """Whether the module is of a kind that need not be called itself."""
    kind = type(module)
    return kind in (nn.Linear, FusedLinear, nn.Dropout) or kind in ACTIVATION_MODULES or is_walked(kind)


def is_touched(module: nn.Module) -> bool:
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
    """``getattr(linear, name)``, without the detour through Module.__getattr__."""
    parameters = linear._parameters
    return parameters[name] if name in parameters else getattr(linear, name)


def _is_plain(tensor: Any) -> bool:
    """Not a subclass (DTensor, quantised, fx.Proxy), not sparse, not nested."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_nested


def takes(input: Any) -> bool:
    """Whether the operators take this input."""
    return _is_plain(input) and input.dtype in DTYPES and input.device.type in _DEVICES
