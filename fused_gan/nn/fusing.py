"""fuse() somebody's model, and unfuse() it.

No child is replaced and no tensor moved. A Sequential gets another class, one whose forward runs chains of its children
as one operator; a module with a forward of its own gets one whose forward is the same method with its
``F.relu(self.fc(x))`` fused. See docs/fuse.md.
"""

from __future__ import annotations

import copy
import functools
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any, NamedTuple

from torch import nn

from fused_gan.nn import forward_source
from fused_gan.nn.forward_source import ACTIVATION_FUNCTIONS
from fused_gan.nn.sequential import ACTIVATION_MODULES, RECIPE, FusedSequential, Layers, Recipe, is_walked

ORIGIN = "_fused_gan_origin"  # the attribute of a made class that says what it was made of


def fuse(module: nn.Module, inplace: bool = False, trace: bool = False) -> nn.Module:
    """Make each run of Linear and activation modules in a model one operator.

    Parameters, buffers, ``state_dict`` keys, children, hooks and modes stay what they are. What cannot be fused goes on
    as it is; `fusion_report` says what, and why. Fusing a fused model changes nothing.

    Args:
        module: any model, or part of one.
        inplace: change ``module`` itself, so that optimizers that hold its parameters go on working. Otherwise a deep
            copy is fused, with parameters of its own, which an optimizer made before does not know.
        trace: also fuse ``F.relu(self.fc(x))`` and the like in the source of ``forward`` methods.

    Returns:
        The fused model: ``module`` itself, or its copy.

    Raises:
        TypeError: ``module`` is no ``nn.Module``.
    """
    module = _target(module, inplace)
    for inner in list(module.modules()):
        if (origin := _origin(inner, trace)) is not None:
            inner.__class__ = _made_of(origin)
    return module


def unfuse(module: nn.Module, inplace: bool = False) -> nn.Module:
    """Undo `fuse`: stock PyTorch classes again, with the parameters and buffers as they have become.

    A `FusedLinear` or `FusedMLP`, having no stock form with the same keys, stays.

    Args:
        module: any model.
        inplace: change ``module`` itself; otherwise a deep copy.

    Raises:
        TypeError: ``module`` is no ``nn.Module``.
    """
    module = _target(module, inplace)
    for inner in list(module.modules()):
        origin: Origin | None = vars(type(inner)).get(ORIGIN)
        if type(inner) is FusedSequential:
            origin = Origin(nn.Sequential, None)
        if origin is not None:
            inner.__class__ = origin.stock
        vars(inner).pop(RECIPE, None)
    return module


class Origin(NamedTuple):
    """What a class is made of: enough to make it again when a model is unpickled."""

    stock: type[nn.Module]
    activations: frozenset[str] | None  # of self, for a forward to be rewritten; None for a Sequential


def _target(module: nn.Module, inplace: bool) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected an nn.Module, got {type(module).__name__}")
    return module if inplace else copy.deepcopy(module)


@functools.cache
def _made_of(origin: Origin) -> type[nn.Module]:
    """The class to run fused; the stock class where its source, needed for that, is no longer at hand."""
    stock = origin.stock
    if stock is nn.Sequential:
        return FusedSequential
    forward: Any = FusedSequential.forward
    if origin.activations is not None:
        rewriting = forward_source.rewritten(stock.forward, origin.activations)
        if isinstance(rewriting, str):
            return stock
        forward = rewriting.forward
    body = {"forward": forward, "__reduce_ex__": _reduce, ORIGIN: origin, "__module__": stock.__module__}
    return type(f"Fused{stock.__name__}", (stock,), body | {"__doc__": stock.__doc__})


def _reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
    """Copies and pickles go by the stock class: the made one has no name to be found under."""
    state = self.__getstate__()  # type: ignore[no-untyped-call]
    return _rebuild, (vars(type(self))[ORIGIN],), {name: value for name, value in state.items() if name != RECIPE}


def _rebuild(origin: Origin) -> nn.Module:
    made = _made_of(origin)
    return made.__new__(made)


def _origin(module: nn.Module, trace: bool) -> Origin | None:
    """What the module's class is to be made of; None where it stays."""
    stock = type(module)
    if isinstance(module, FusedSequential) or ORIGIN in vars(stock) or fixed(module):
        return None
    if isinstance(module, nn.Sequential) and is_walked(stock):
        pays = any(isinstance(step, Layers) and step.fused for step in Recipe(module).steps)
        return Origin(stock, None) if pays else None
    sites = sites_in_code(module) if trace else []
    return Origin(stock, _activations(module)) if sites and not isinstance(sites, str) else None


def fixed(module: nn.Module) -> str | None:
    """Why a module cannot get a class made of its own."""
    stock = type(module)
    if "forward" in vars(module):
        return "its forward was replaced"
    if stock.__call__ is not nn.Module.__call__:
        return f"{stock.__name__} has a __call__ of its own"
    if stock.__reduce_ex__ is not object.__reduce_ex__ or stock.__reduce__ is not object.__reduce__:
        return f"{stock.__name__} has its own way to be pickled"
    if hasattr(stock.__init_subclass__, "__func__"):  # object's is built in
        return f"{stock.__name__} keeps watch over its subclasses"
    if any(base.__name__ == "FSDPModule" for base in stock.__mro__):
        return "it was sharded before: fuse first, then fully_shard"
    return None


def _activations(module: nn.Module) -> frozenset[str]:
    """The attributes of self that are activations: modules, or functions such as ``self.act = F.relu``."""
    functions = (BuiltinFunctionType, FunctionType)
    return frozenset(
        [name for name, inner in module.named_modules() if isinstance(inner, tuple(ACTIVATION_MODULES))]
        + [name for name, f in vars(module).items() if isinstance(f, functions) and f in ACTIVATION_FUNCTIONS]
    )


def sites_in_code(module: nn.Module) -> list[forward_source.Site] | str:
    """Where the module's own forward calls an activation on a Linear, as far as can be known before it runs."""
    origin: Origin | None = vars(type(module)).get(ORIGIN)
    stock = origin.stock if origin else type(module)
    if stock.__module__.partition(".")[0] in ("torch", "fused_gan") or not isinstance(stock.forward, FunctionType):
        return []
    if not any(isinstance(inner, nn.Linear) for inner in module.modules()):
        return []
    activations = origin.activations if origin else None
    found = forward_source.rewritten(stock.forward, _activations(module) if activations is None else activations)
    if isinstance(found, str):
        return found if any(isinstance(child, nn.Linear) for child in module.children()) else []
    return [site for site in found.sites if isinstance(resolved(module, site.linear), (nn.Linear, NoneType))]


def resolved(module: nn.Module, expression: str) -> Any:
    """The value of an expression like "self.block.fc"; None for others, which only the running forward knows."""
    root, *path = expression.split(".")
    if root != "self" or not all(map(str.isidentifier, path)):
        return None
    value: Any = module
    for name in path:
        value = getattr(value, name, None)
    return value
