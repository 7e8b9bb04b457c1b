"""``F.relu(self.fc(x))`` in somebody's ``forward``: the same method, compiled again with such calls handed to `call`.

Nothing is recorded and nothing runs at rewriting time. Control flow, ``self.training``, optional arguments, attributes:
all stays as it is written, and what is called is looked at when it is called. (A recording by torch.fx keeps the branch
that it saw: the dropout of training mode, say, stays on after ``eval()``.)
"""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from fused_gan.nn.sequential import ACTIVATION_MODULES, is_intercepted, is_slope, obstacle, takes
from fused_gan.ops import linear_act
from fused_gan.ops.activations import ACTIVATIONS, DEFAULT_NEGATIVE_SLOPE
from fused_gan.ops.functional import is_recorded

ACTIVATION_FUNCTIONS: dict[Any, str] = {
    getattr(home, name): name for name in ACTIVATIONS for home in (torch, F) if hasattr(home, name)
}
_CALL = "_fused_gan_call"  # the name under which a rewritten forward finds `call`
_FUTURE = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

_Node = TypeVar("_Node", bound=ast.AST)


class Site(NamedTuple):
    """An activation called on what another call returns, in the source of a forward."""

    line: int  # of the file
    activation: str  # the expressions called, as "F.relu" and "self.fc"
    linear: str


class Rewritten(NamedTuple):
    forward: Callable[..., Any]
    sites: list[Site]


def call(activation: Any, linear: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    """``activation(linear(input), *args, **kwargs)``, as one operator where that is the same."""
    called = _has_any_global_hook() or is_recorded()  # type: ignore[no-untyped-call]
    called = called or (not is_dynamo_compiling() and is_intercepted())
    if type(linear) is nn.Linear and not called and takes(input) and obstacle(linear) is None:
        name, slope = _name_and_slope(activation, args, kwargs)
        if name != "identity":
            return linear_act(input, linear.weight, linear.bias, name, slope)
    return activation(linear(input), *args, **kwargs)


@functools.cache
def rewritten(forward: FunctionType, activations: frozenset[str]) -> Rewritten | str:
    """The forward with its sites handed to `call`, or why its source cannot be relied on.

    Args:
        forward: the method, as a function.
        activations: the attributes of self that are activations, as "act" or "block.act".
    """
    original = forward.__code__
    try:
        tree = ast.parse("".join(linecache.getlines(original.co_filename, forward.__globals__)))
        now = compile(tree, original.co_filename, "exec", dont_inherit=True)
    except SyntaxError:
        return "the source of its forward is not Python"
    if not any(_same(code, original) for code in _codes(now, original)):
        return "the source of its forward is not at hand, or not what runs"  # typed in, edited since, or wrapped
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = [(node.name, method) for node in classes for method in _methods(node, original)]
    if not found:
        return "its forward is decorated, or was no method in the source"
    class_name, method = found[0]
    rewriter = _Rewriter(forward, activations)
    rewriter.visit(method)
    code = _compile(class_name, method, original)
    cells = dict(zip(original.co_freevars, forward.__closure__ or (), strict=True)) | {_CALL: CellType(call)}
    if unknown := set(code.co_freevars) - cells.keys():
        return f"its forward uses {', '.join(sorted(unknown))} of the class around it"
    closure = tuple(cells[name] for name in code.co_freevars)
    result = FunctionType(code, forward.__globals__, forward.__name__, forward.__defaults__, closure)
    result.__kwdefaults__ = forward.__kwdefaults__
    return Rewritten(functools.update_wrapper(result, forward), rewriter.sites)


class _Rewriter(ast.NodeTransformer):
    """Turns ``A(B(x), ...)`` into ``call(A, B, x, ...)``, where A may be an activation and B a Linear."""

    def __init__(self, forward: FunctionType, activations: frozenset[str]) -> None:
        self.code, self.globals, self.activations = forward.__code__, forward.__globals__, activations
        self.sites: list[Site] = []

    def generic_visit(self, node: _Node) -> _Node:
        for name, block in ast.iter_fields(node):
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                setattr(node, name, self._joined(block))
        super().generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        inner = node.args[0] if node.args else None
        if isinstance(inner, ast.Call) and self._is_activation(node) and self._is_layer(inner):
            self.sites.append(Site(node.lineno, ast.unparse(node.func), ast.unparse(inner.func)))
            args = [node.func, inner.func, *inner.args, *node.args[1:]]
            node = ast.copy_location(ast.Call(ast.Name(_CALL, ast.Load()), args, node.keywords), node)
        return self.generic_visit(node)

    def _joined(self, block: list[ast.stmt]) -> list[ast.stmt]:
        """``x = B(x)`` and ``x = A(x)`` (or ``return A(x)``) behind it as one statement: nobody sees the first x."""
        joined: list[ast.stmt] = []
        for statement in block:
            before = joined[-1] if joined else None
            if (
                isinstance(before, ast.Assign)
                and isinstance(statement, (ast.Assign, ast.Return))
                and isinstance(outer := statement.value, ast.Call)
                and self._is_layer(before.value)
                and self._is_activation(outer)
                and [ast.unparse(target) for target in before.targets] == [ast.unparse(arg) for arg in outer.args[:1]]
                and isinstance(name := outer.args[0], ast.Name)
                and name.id in self.code.co_varnames
                and name.id not in self.code.co_cellvars
                and (isinstance(statement, ast.Return) or _names(*statement.targets) == [name.id])
                and name.id not in _names(outer.func, *outer.args[1:], *outer.keywords)
            ):
                outer.args[0] = before.value
                joined[-1] = statement
            else:
                joined.append(statement)
        return joined

    def _is_activation(self, node: ast.Call) -> bool:
        """A call of an activation, with further arguments that are the same before and after the layer."""
        path = _path(node.func)
        values = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
        if not path or not all(map(_is_simple, values)) or any(keyword.arg is None for keyword in node.keywords):
            return False
        if path[0] == "self":
            return ".".join(path[1:]) in self.activations
        found = self.globals.get(path[0])
        for name in path[1:]:
            found = getattr(found, name, None)
        return isinstance(found, (FunctionType, BuiltinFunctionType)) and found in ACTIVATION_FUNCTIONS

    def _is_layer(self, node: ast.expr) -> bool:
        """A call, with one argument, of something that is reached from a local variable."""
        if not (isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords):
            return False
        if isinstance(node.args[0], ast.Starred):
            return False
        root = node.func
        while isinstance(root, (ast.Attribute, ast.Subscript)):
            root = root.value
        return isinstance(root, ast.Name) and root.id in self.code.co_varnames


def _name_and_slope(activation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, float]:
    """The activation as the operator knows it; "identity" where it does not."""
    slope: Any = 0.0
    if isinstance(activation, nn.Module):
        if args or kwargs or obstacle(activation) is not None:
            return "identity", 0.0
        return ACTIVATION_MODULES[type(activation)], vars(activation).get("negative_slope", 0.0)
    if not isinstance(activation, (FunctionType, BuiltinFunctionType)):
        return "identity", 0.0
    name = ACTIVATION_FUNCTIONS.get(activation, "identity")
    names = ("negative_slope", "inplace") if name == "leaky_relu" else ("inplace",)
    given = dict(zip(names, args, strict=False)) | kwargs
    if len(args) > len(names) or not given.keys() <= set(names):
        return "identity", 0.0
    slope = given.get("negative_slope", DEFAULT_NEGATIVE_SLOPE)
    return (name, slope) if is_slope(slope) else ("identity", 0.0)


def _methods(node: ast.ClassDef, original: CodeType) -> Iterator[ast.FunctionDef]:
    """The method of that name and line, if it is one of the class. (A decorator would be lost; it moves the line.)"""
    for function in node.body:
        place = (original.co_name, original.co_firstlineno)
        if isinstance(function, ast.FunctionDef) and (function.name, function.lineno) == place:
            yield function


def _compile(class_name: str, method: ast.FunctionDef, original: CodeType) -> CodeType:
    """The method's code, with `_CALL` as one more free variable; the class's name mangles names like ``self.__fc``."""
    free = ", ".join(name for name in (*original.co_freevars, _CALL) if name != "__class__")
    # A forward that names its class means the global one, or that of a function around it; not the one made here.
    scope = "" if class_name in original.co_freevars else f"  global {class_name}\n"
    tree = ast.parse(f"def outer({free}):\n{scope}  class {class_name}:\n    pass")
    tree.body[0].body[-1].body = [method]  # type: ignore[attr-defined]
    flags = original.co_flags & _FUTURE
    code = compile(ast.fix_missing_locations(tree), original.co_filename, "exec", flags=flags, dont_inherit=True)
    return next(_codes(code, original))


def _codes(code: CodeType, like: CodeType) -> Iterator[CodeType]:
    """The codes in a code that have the name and the line of another."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if (constant.co_name, constant.co_firstlineno) == (like.co_name, like.co_firstlineno):
                yield constant
            yield from _codes(constant, like)


def _same(a: CodeType, b: CodeType) -> bool:
    """Whether both do the same; where they stand in the file does not matter."""

    def same_constant(x: object, y: object) -> bool:
        return _same(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType) else type(x) is type(y) and x == y

    return (
        (a.co_code, a.co_names, a.co_varnames, a.co_freevars, a.co_cellvars)
        == (b.co_code, b.co_names, b.co_varnames, b.co_freevars, b.co_cellvars)
        and len(a.co_consts) == len(b.co_consts)
        and all(map(same_constant, a.co_consts, b.co_consts))
    )


def _path(node: ast.expr) -> list[str]:
    """["self", "fc"] for ``self.fc``; nothing for what is no chain of attributes."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _is_simple(node: ast.expr) -> bool:
    """A number, a name, an attribute."""
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant) or bool(_path(node))


def _names(*nodes: ast.AST) -> list[str]:
    return [inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)]
