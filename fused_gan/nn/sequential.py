"""Sequentials that run chains of their children as one operator.

The choice is made again at every call, because hooks, weights and wrappers can change between calls. The children are
read, never changed. A child that computes more than its formula (because of a hook, a subclass, or a parametrised or
sharded weight) is called by itself: a chain ends before this child, and a new chain begins after it.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from fused_gan.nn.layers import LINEARS, Layer, group_layers, is_customised, watched_attributes
from fused_gan.ops.activations import ACTIVATION_MODULES, flattened
from fused_gan.ops.functional import PLAIN, call_linear_act, call_mlp, is_intercepted, is_recorded, is_supported

RECIPE = "_fused_gan_recipe"  # the attribute for a container's recipe, whose derivation takes longer than a small layer


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


class LayerChain:
    """Consecutive layers that run as one operator."""

    def __init__(self, layers: list[Layer]) -> None:
        self.linears = [layer.linear for layer in layers]
        self.names = [layer.activation for layer in layers]
        self.modules = [module for layer in layers for module in layer.modules]
        self.parameters = flattened(
            ((layer.activation, layer.parameters) for layer in layers), open_end=not layers[-1].in_place
        )
        self.fused = any(name != "identity" for name in self.names)  # PyTorch runs products without activations

    def __call__(self, input: Any) -> Any:
        if not (self.fused and is_supported(input)):
            for module in self.modules:
                input = module(input)
            return input
        weights: list[Any] = [linear._parameters["weight"] for linear in self.linears]
        biases = [linear._parameters["bias"] for linear in self.linears]
        if len(weights) == 1:
            return call_linear_act(input, weights[0], biases[0], self.names[0], self.parameters)
        return call_mlp(input, weights, biases, self.names, self.parameters)


Steps = list["LayerChain | nn.Module"]


class Recipe:
    """The steps of a container, with everything that they were derived from.

    The container keeps its recipe, so the recipe does not refer to it: a cycle would keep a deleted model in memory.
    """

    def __init__(self, container: nn.Sequential) -> None:
        self.nested: list[nn.Sequential] = []  # the Sequentials below the container whose children are leaves
        self.leaves = [module for _, module in leaves(container, self.nested)]
        self.steps = _chain_layers(group_layers(self.leaves))
        self.children = [list(walked) for walked in (container, *self.nested)]
        self.below = [*self.nested, *self.leaves]
        self.classes = list(map(type, self.below))
        read = [module for module in self.below if _can_be_read(module)]
        self.plain = [vars(module) for module in read if not is_customised(module)]
        self.customised = [module for module in read if is_customised(module)]
        self.attributes = [
            (vars(module), name, vars(module).get(name))
            for module in self.leaves
            for name in watched_attributes(module)
        ]
        self.linears = [(module, _parameters(module)) for module in read if isinstance(module, LINEARS)]

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
            now = own.get(name)  # a number, a string or a flag; a tensor is compared by identity alone
            if now is not value and (type(now) is not type(value) or isinstance(now, Tensor) or now != value):
                return False
        for linear, parameters in self.linears:
            if _parameters(linear) != parameters:
                return False
        for walked, children in zip((container, *self.nested), self.children, strict=True):
            # Identity: a module's own __eq__ may call another one equal.
            if len(children) != len(walked._modules) or not all(map(is_, children, walked._modules.values())):
                return False
        return self.classes == list(map(type, self.below)) and all(map(is_customised, self.customised))


def _parameters(linear: nn.Module) -> tuple[object, ...]:
    """Return what decides whether the parameters of a Linear can go to an operator."""
    parameters: dict[str, Any] = linear._parameters
    weight, bias = parameters.get("weight", linear), parameters.get("bias", linear)
    kind = type(weight)
    layout = (weight.layout, weight.dim()) if kind in PLAIN else None  # a stand-in may refuse to be asked
    return kind, layout, type(bias), bias.shape if isinstance(bias, Tensor) else None


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
    if _has_any_global_hook() or is_recorded() or is_intercepted():  # type: ignore[no-untyped-call]
        return True
    return not torch.compiler.is_dynamo_compiling() and nn.Module.__call__ is not nn.Module._wrapped_call_impl


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


def _chain_layers(items: list[Layer | nn.Module]) -> Steps:
    """Return the steps: neighbouring layers as one chain, other modules as they are."""
    found: Steps = []
    layers: list[Layer] = []
    for item in [*items, None]:
        if layers and not isinstance(item, Layer):
            found.append(LayerChain(layers))
            layers = []
        if isinstance(item, Layer):
            layers.append(item)
        elif item is not None:
            found.append(item)
    return found


def _can_be_read(module: nn.Module) -> bool:
    """Whether a module of this class can be fused or left out instead of called."""
    kind = type(module)
    return kind in (*LINEARS, nn.Dropout) or kind in ACTIVATION_MODULES or runs_children_in_order(kind)
