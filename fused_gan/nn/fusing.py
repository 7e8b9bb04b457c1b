"""Fuses any model with fuse(), and undoes this with unfuse().

fuse() replaces no child and moves no tensor. A Sequential gets a class whose forward runs chains of its children as one
operator. A module with a forward of its own gets a class whose forward is the same method with calls like
``F.relu(self.fc(x))`` fused. See docs/fuse.md.
"""

from __future__ import annotations

import copy
import functools
import types
import warnings
from abc import ABCMeta
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any, Generic, NamedTuple

from torch import nn

from fused_gan.nn import forward_source
from fused_gan.nn.layers import obstacle
from fused_gan.nn.linear import FusedLinear
from fused_gan.nn.mlp import FusedMLP
from fused_gan.nn.sequential import RECIPE, FusedSequential, LayerChain, Recipe, runs_children_in_order
from fused_gan.ops.activations import ACTIVATION_FUNCTIONS, ACTIVATION_MODULES

ORIGIN = "_fused_gan_origin"  # the attribute of a fused class that holds its `Origin`


def fuse(module: nn.Module, inplace: bool = False, trace: bool = False) -> nn.Module:
    """Make a model run each sequence of Linear and activation modules as one operator.

    Parameters, buffers, ``state_dict`` keys, children, hooks and modes stay what they are. What cannot be fused
    stays as it is. `fusion_report` names what was not fused, and why. Fusing a fused model changes nothing.

    Args:
        module: any model, or part of one.
        inplace: change ``module`` itself, so that optimizers that hold its parameters keep working. Otherwise fuse a
            deep copy. The copy has parameters of its own, which optimizers made before do not hold.
        trace: also fuse ``F.relu(self.fc(x))`` and the like in the source of ``forward`` methods.

    Returns:
        The fused model: ``module`` itself, or its copy.

    Raises:
        TypeError: ``module`` is not an ``nn.Module``.
    """
    module = _target(module, inplace)
    for inner in list(module.modules()):
        if (origin := _origin(inner, trace)) is not None:
            inner.__class__ = _fused_class(origin)
    return module


def unfuse(module: nn.Module, inplace: bool = False) -> nn.Module:
    """Undo `fuse`: give modules their PyTorch classes back, and keep parameters and buffers as they are now.

    A `FusedMLP` or `FusedSequential` becomes an ``nn.Sequential``. A UserWarning names each module that stays fused: a
    `FusedLinear`, because stock PyTorch has no form of it with the same keys, and a module whose class another tool
    has replaced since (``fully_shard``, a parametrisation).

    Args:
        module: any model.
        inplace: change ``module`` itself; otherwise change a deep copy.

    Returns:
        ``module`` itself, or its copy.

    Raises:
        TypeError: ``module`` is not an ``nn.Module``.
    """
    module = _target(module, inplace)
    left: list[str] = []
    for name, inner in list(module.named_modules()):
        kind = type(inner)
        if kind in (FusedSequential, FusedMLP):
            inner.__class__ = nn.Sequential
        elif (origin := origin_of(inner)) is not None:
            inner.__class__ = origin.stock
        elif isinstance(inner, (FusedSequential, FusedLinear)) or hasattr(kind, ORIGIN):
            left.append(f"{name or 'the model'} stays a {kind.__name__}")
            continue
        vars(inner).pop(RECIPE, None)
    if left:
        warnings.warn(f"unfuse: {', '.join(left)}", stacklevel=2)
    return module


def origin_of(module: nn.Module) -> Origin | None:
    """Return what `fuse` made the module's class from; None where it did not make it."""
    origin: Origin | None = vars(type(module)).get(ORIGIN)
    return origin


class Origin(NamedTuple):
    """What a fused class is made from, which is enough to make the class again when a model is unpickled."""

    stock: type[nn.Module]
    activations: frozenset[str] | None  # attributes of self, for a forward that is rewritten; None for a Sequential


def _target(module: nn.Module, inplace: bool) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected an nn.Module, got {type(module).__name__}")
    return module if inplace else copy.deepcopy(module)


@functools.cache
def _fused_class(origin: Origin) -> type[nn.Module]:
    """Return the fused class; the stock class where its source cannot be read any more and is needed."""
    stock = origin.stock
    forward: Any = FusedSequential.forward
    if origin.activations is not None:
        rewriting = forward_source.rewritten(stock.forward, origin.activations)
        if isinstance(rewriting, str):
            return stock
        forward = rewriting.forward
    body = {"forward": forward, "__reduce_ex__": _reduce, "_get_name": _get_name, ORIGIN: origin}
    # Under the name of the stock class, as sharding policies and device maps look for classes by their names.
    copied = {name: getattr(stock, name) for name in ("__module__", "__qualname__", "__doc__")}
    base = FusedSequential if stock is nn.Sequential else stock
    fused: type[nn.Module] = types.new_class(stock.__name__, (base,), exec_body=lambda made: made.update(body | copied))
    return fused


def _get_name(self: nn.Module) -> str:
    """Return the name that `repr` shows."""
    return f"Fused{type(self).__name__}"


def _reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
    """Pickle and copy by the stock class, because the fused class cannot be imported by a name."""
    state = self.__getstate__()  # type: ignore[no-untyped-call]
    return _rebuild, (origin_of(self),), {name: value for name, value in state.items() if name != RECIPE}


def _rebuild(origin: Origin) -> nn.Module:
    fused = _fused_class(origin)
    return fused.__new__(fused)


def _origin(module: nn.Module, trace: bool) -> Origin | None:
    """Return what to make the module's fused class from; None where the module keeps its class."""
    stock = type(module)
    if isinstance(module, FusedSequential) or origin_of(module) or class_obstacle(module):
        return None
    if isinstance(module, nn.Sequential) and runs_children_in_order(stock):
        return Origin(stock, None) if _has_fused_chain(module) else None
    calls = activation_calls(module) if trace else []
    return Origin(stock, _activations(module)) if calls and not isinstance(calls, str) else None


def _has_fused_chain(container: nn.Sequential) -> bool:
    """Whether a chain is fused in a call of the container."""
    return any(isinstance(step, LayerChain) and step.fused for step in Recipe(container).steps)


def class_obstacle(module: nn.Module) -> str | None:
    """Return why a module's class cannot be replaced by a fused class; None where it can."""
    stock = type(module)
    if "forward" in vars(module):
        return "its forward was replaced"
    if stock.__call__ is not nn.Module.__call__:
        return f"{stock.__name__} has a __call__ of its own"
    if stock.__reduce_ex__ is not object.__reduce_ex__ or stock.__reduce__ is not object.__reduce__:
        return f"{stock.__name__} has its own way to be pickled"
    # object's own method is built in; Generic's concerns type variables alone, and ABCMeta's watch abstract methods.
    watch = getattr(stock.__init_subclass__, "__func__", None)
    of_generic = getattr(Generic.__init_subclass__, "__func__", None)
    if watch not in (None, of_generic) or type(stock) not in (type, ABCMeta):
        return f"{stock.__name__} keeps watch over its subclasses"
    if any(base.__name__ == "FSDPModule" for base in stock.__mro__):
        return "it was sharded before: fuse first, then fully_shard"
    return None


def _activations(module: nn.Module) -> frozenset[str]:
    """Return the attributes of self that are activations: modules, or functions such as ``self.act = F.relu``."""
    functions = (BuiltinFunctionType, FunctionType)
    return frozenset(
        [name for name, inner in module.named_modules() if isinstance(inner, tuple(ACTIVATION_MODULES))]
        + [name for name, f in vars(module).items() if isinstance(f, functions) and f in ACTIVATION_FUNCTIONS]
    )


def activation_calls(module: nn.Module) -> list[forward_source.ActivationCall] | str:
    """Return where the source of a forward calls an activation on a Linear, or why the source cannot be relied on.

    A call whose Linear only the running forward knows is included.
    """
    found = _rewritten(module)
    if isinstance(found, str):
        return found if any(isinstance(child, nn.Linear) for child in module.children()) else []
    return [call for call in found.calls if _may_be_linear(module, call)] if found else []


def unknown_activation_calls(module: nn.Module) -> list[tuple[forward_source.ActivationCall, str]]:
    """Return the calls on a Linear's result of what seems to be an activation, and why it is not one that can be fused.

    A module does where PyTorch counts it among its activations, and a function where it is one of PyTorch's that does
    the same as such a module, or not one of PyTorch's.
    """
    found = _rewritten(module)
    if isinstance(found, str) or not found:
        return []
    calls: list[tuple[forward_source.ActivationCall, str]] = []
    for call in filter(functools.partial(_may_be_linear, module), found.others):
        value = resolve(module, call.activation)
        if value is None:
            value = _in_globals(found.forward.__globals__, call.activation)
        if is_activation(value):
            calls.append((call, str(obstacle(value))))
        elif isinstance(value, (BuiltinFunctionType, FunctionType)) and _may_be_activation(value):
            name = f"{value.__module__}.{value.__name__}"
            calls.append((call, f"{name} is not among the activations that can be fused"))
    return calls


def is_activation(module: Any) -> bool:
    """Whether PyTorch counts a module among its activations."""
    if isinstance(module, nn.MultiheadAttention):  # its class is in the same torch module as the activations
        return False
    return isinstance(module, tuple(ACTIVATION_MODULES)) or type(module).__module__ == nn.ReLU.__module__


def _may_be_activation(function: BuiltinFunctionType | FunctionType) -> bool:
    of_torch = str(function.__module__).partition(".")[0] == "torch"
    return not of_torch or function.__name__ in {name.lower() for name in nn.modules.activation.__all__}


def _may_be_linear(module: nn.Module, call: forward_source.ActivationCall) -> bool:
    return isinstance(resolve(module, call.linear), (nn.Linear, NoneType))


def _rewritten(module: nn.Module) -> forward_source.Rewritten | str | None:
    """Return the module's forward rewritten, or why it cannot be; None where it is not the user's, or has no Linear."""
    origin = origin_of(module)
    stock = origin.stock if origin else type(module)
    if stock.__module__.partition(".")[0] in ("torch", "fused_gan") or not isinstance(stock.forward, FunctionType):
        return None
    if not any(isinstance(inner, nn.Linear) for inner in module.modules()):
        return None
    activations = origin.activations if origin else None
    return forward_source.rewritten(stock.forward, _activations(module) if activations is None else activations)


def _in_globals(names: dict[str, Any], expression: str) -> Any:
    """Return the value of an expression like "F.gelu" among global names; None for one that is not there."""
    root, *path = expression.split(".")
    return _attribute(names.get(root), path)


def resolve(module: nn.Module, expression: str) -> Any:
    """Return the value of an expression like "self.block.fc"; None for others, which only the running forward knows."""
    root, *path = expression.split(".")
    if root != "self" or not all(map(str.isidentifier, path)):
        return None
    return _attribute(module, path)


def _attribute(value: Any, path: list[str]) -> Any:
    """Return the attribute at the end of a path of names; None where there is none."""
    for name in path:
        value = getattr(value, name, None)
    return value
