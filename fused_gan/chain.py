"""Sequentials that run chains of their children as one operator.

Which ones is asked at every call, because hooks, weights and wrappers come and go. The children are read, never
changed. Whatever makes one of them more than its formula (a hook, a subclass, a parametrised or sharded weight) makes
the chain end before it and a new one begin behind it.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from fused_gan import _library
from fused_gan.activations import ACTIVATIONS, DEFAULT_NEGATIVE_SLOPE
from fused_gan.linear import FusedLinear
from fused_gan.ops import linear_act, mlp

# The modules that the activations stand for. No parameter but `negative_slope` and `inplace` is read from them.
ACTIVATION_MODULES = {type(row.module(DEFAULT_NEGATIVE_SLOPE)): name for name, row in ACTIVATIONS.items()}

PLAN = "_fused_gan_plan"  # the attribute that keeps a container's plan: deriving one takes longer than a small layer
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_DEVICES = ("cpu", "meta", "cuda") if _library.FACTS["cuda"] else ("cpu", "meta")


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

    # nn.Module's, without the plan: copies and pickles derive their own.
    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != PLAN}


class Layer(NamedTuple):
    """One Linear with what follows it."""

    linear: nn.Linear
    activation: str
    negative_slope: float
    module: nn.Module | None  # the activation, where it is a module of its own


class Chain:
    """Consecutive layers, to run as one operator."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.names = [layer.activation for layer in layers]
        self.negative_slope = next((s for _, name, s, _ in layers if name == "leaky_relu"), DEFAULT_NEGATIVE_SLOPE)
        self.fused = any(name != "identity" for name in self.names)  # products alone are left to PyTorch

    def __call__(self, input: Any) -> Any:
        if not (self.fused and takes(input)):
            for layer in self.layers:
                input = layer.linear(input)
                if layer.module is not None:
                    input = layer.module(input)
            return input
        weights: list[Tensor] = [parameter(layer.linear, "weight") for layer in self.layers]
        biases: list[Tensor | None] = [parameter(layer.linear, "bias") for layer in self.layers]
        if len(weights) == 1:
            return linear_act(input, weights[0], biases[0], self.names[0], self.negative_slope)
        return mlp(input, weights, biases, self.names, self.negative_slope)


Steps = list["Chain | nn.Module"]


class Plan:
    """The steps of a container, with all that they were derived from.

    The container keeps its plan, so the plan does not refer to it: a cycle would keep a deleted model in memory.
    """

    def __init__(self, container: nn.Sequential) -> None:
        self.nested: list[nn.Sequential] = []  # the Sequentials walked through, below the container
        self.leaves = [module for _, module in leaves(container, self.nested)]
        self.steps = _chained(joined(self.leaves))
        self.children = [list(walked) for walked in (container, *self.nested)]
        self.kinds = [type(module) for module in self.leaves]
        read = [module for module in (*self.nested, *self.leaves) if _can_be_read(module)]
        self.untouched = [vars(module) for module in read if not _is_touched(module)]
        self.touched = [module for module in read if _is_touched(module)]
        self.values = [
            (vars(module), name, vars(module)[name])
            for module in self.leaves
            for name in ("activation", "negative_slope", "inplace", *["training"] * (type(module) is nn.Dropout))
            if name in vars(module)
        ]
        self.tensors = [
            (module._parameters, name, type(module._parameters.get(name)))
            for module in read
            if isinstance(module, nn.Linear)
            for name in ("weight", "bias")
        ]

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
        return (
            self.children == [list(walked._modules.values()) for walked in (container, *self.nested)]
            and self.kinds == list(map(type, self.leaves))
            and all(map(_is_touched, self.touched))
        )


def steps(container: nn.Sequential) -> Steps:
    """What a call of the container consists of, in order: chains, and modules that are called themselves."""
    if _has_any_global_hook():  # type: ignore[no-untyped-call]
        return list(container)
    if torch.compiler.is_dynamo_compiling():  # guards what it reads by itself
        return Plan(container).steps
    plan: Plan | None = vars(container).get(PLAN)
    if plan is None or not plan.holds(container):
        plan = vars(container)[PLAN] = Plan(container)
    return plan.steps


def obstacle(module: nn.Module) -> str | None:
    """Why a Linear or an activation has to be called itself; None where reading it is enough."""
    kind = type(module)
    if kind is nn.Linear or kind is FusedLinear:
        for name in ("weight", "bias"):
            tensor = parameter(module, name)
            if tensor is not None and not _is_plain(tensor):
                return f"its {name} is a {type(tensor).__name__}, {tensor.layout}"
    elif kind not in ACTIVATION_MODULES:
        wanted = "nn.Linear itself" if isinstance(module, nn.Linear) else "among the activations that can be fused"
        return f"{kind.__name__} is not {wanted}"
    elif not is_slope(slope := vars(module).get("negative_slope", 0.0)):
        return f"its negative_slope is {slope}: a number ≥ 0 is needed"
    return "it has hooks, or a forward of its own" if _is_touched(module) else None


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
    )


def leaves(container: nn.Sequential, nested: list[nn.Sequential], prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children by name, those of nested Sequentials in their place; the nested ones are added to the list.

    A nested Sequential with hooks or with a forward of its own is a leaf.
    """
    found: list[tuple[str, nn.Module]] = []
    for name, child in container._modules.items():
        if isinstance(child, nn.Sequential) and is_walked(type(child)) and not _is_touched(child):
            nested.append(child)
            found += leaves(child, nested, f"{prefix}{name}.")
        else:
            found.append((prefix + name, child))
    return found


def joined(modules: list[nn.Module]) -> list[Layer | nn.Module]:
    """Each Linear with the activation behind it, without modules that do nothing."""
    items: list[Layer | nn.Module] = []
    for module in modules:
        last = items[-1] if items else None
        if isinstance(module, nn.Linear) and obstacle(module) is None:
            own = vars(module)
            items.append(Layer(module, own.get("activation", "identity"), own.get("negative_slope", 0.0), None))
        elif does_nothing(module):
            continue
        elif isinstance(last, Layer) and last.activation == "identity" and obstacle(module) is None:
            slope = vars(module).get("negative_slope", 0.0)
            items[-1] = Layer(last.linear, ACTIVATION_MODULES[type(module)], slope, module)
        else:
            # A fused leaky_relu keeps its output for the gradient. Stock keeps the input, and lets the next module
            # overwrite the output. (The other activations keep their output in stock too.)
            if isinstance(last, Layer) and last.activation == "leaky_relu" and last.module and works_in_place(module):
                items[-1:] = [Layer(last.linear, "identity", 0.0, None), last.module]
            items.append(module)
    return items


def _chained(items: list[Layer | nn.Module]) -> Steps:
    """Neighbouring layers together."""
    found: Steps = []
    layers: list[Layer] = []
    for item in [*items, None]:
        if layers and not (isinstance(item, Layer) and _share_slope([*layers, item])):
            found.append(Chain(layers))
            layers = []
        if isinstance(item, Layer):
            layers.append(item)
        elif item is not None:
            found.append(item)
    return found


def _share_slope(layers: list[Layer]) -> bool:
    """Whether one operator, which has one slope, can run them."""
    return len({slope for _, name, slope, _ in layers if name == "leaky_relu"}) <= 1


def does_nothing(module: nn.Module) -> bool:
    """Whether a call of the module returns its input."""
    kind = type(module)
    return (kind is nn.Identity or (kind is nn.Dropout and not module.training)) and not _is_touched(module)


def _can_be_read(module: nn.Module) -> bool:
    """Whether the module is of a kind that need not be called itself."""
    kind = type(module)
    return kind in (nn.Linear, FusedLinear, nn.Dropout) or kind in ACTIVATION_MODULES or is_walked(kind)


def _is_touched(module: nn.Module) -> bool:
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
    """Not a subclass (DTensor, quantised, fx.Proxy), not sparse."""
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided


def takes(input: Any) -> bool:
    """Whether the operators take this input; whoever records a model gets to see its own layers."""
    if not (_is_plain(input) and input.dtype in _DTYPES and input.device.type in _DEVICES):
        return False
    if torch.compiler.is_dynamo_compiling():
        return not torch.compiler.is_exporting()
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not tracing
