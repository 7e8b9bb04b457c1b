"""Compiles a ``forward`` again, with calls like ``F.relu(self.fc(x))`` handed to `call`.

Rewriting records nothing and runs nothing. Control flow, ``self.training``, optional arguments and attributes stay as
they are written, and `call` looks at the two modules when they are called. (A recording by torch.fx keeps the branch
that it saw. For example, the dropout of training mode stays on after ``eval()``.)
"""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType
from typing import Any, NamedTuple, TypeVar

from torch import nn

from fused_gan.nn.layers import obstacle
from fused_gan.nn.sequential import is_watched
from fused_gan.ops.activations import ACTIVATION_FUNCTIONS, Found, flattened, read_call, read_module
from fused_gan.ops.functional import call_linear_act, is_supported

_CALL = "_fused_gan_call"  # the name under which a rewritten forward finds `call`
_FUTURE = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

_Node = TypeVar("_Node", bound=ast.AST)


class ActivationCall(NamedTuple):
    """An activation called on the result of a Linear, in the source of a forward."""

    line: int  # of the file
    activation: str  # the expressions called, as "F.relu" and "self.fc"
    linear: str


class Rewritten(NamedTuple):
    """A rewritten forward, and the calls in its source that go through `call`."""

    forward: Callable[..., Any]
    calls: list[ActivationCall]
    others: list[ActivationCall]  # calls on the result of a Linear that are of no activation known here


def call(activation: Any, linear: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    """Return ``activation(linear(input), *args, **kwargs)``, by one operator where the result is the same."""
    if type(linear) is nn.Linear and not is_watched() and is_supported(input) and obstacle(linear) is None:
        found = _found(activation, args, kwargs)
        if found is not None and found.activation != "identity":
            parameters = flattened([(found.activation, found.parameters)], open_end=not found.in_place)
            return call_linear_act(input, linear.weight, linear.bias, found.activation, parameters)
    return activation(linear(input), *args, **kwargs)


@functools.cache
def rewritten(forward: FunctionType, activations: frozenset[str]) -> Rewritten | str:
    """Return the forward with its activation calls handed to `call`, or why its source cannot be relied on.

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
    if not any(_same_code(code, original) for code in _codes(now, original)):
        return "the source of its forward is not at hand, or not what runs"  # typed in, edited since, or wrapped
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = [(node.name, method) for node in classes for method in _methods(node, original)]
    if not found:
        return "its forward is decorated, or was not a method in the source"
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
    return Rewritten(functools.update_wrapper(result, forward), rewriter.calls, sorted(rewriter.others))


class _Rewriter(ast.NodeTransformer):
    """Turns ``A(B(x), ...)`` into ``call(A, B, x, ...)``, where A may be an activation and B a Linear."""

    def __init__(self, forward: FunctionType, activations: frozenset[str]) -> None:
        self.code, self.globals, self.activations = forward.__code__, forward.__globals__, activations
        self.calls: list[ActivationCall] = []
        self.others: list[ActivationCall] = []

    def generic_visit(self, node: _Node) -> _Node:
        for name, block in ast.iter_fields(node):
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                setattr(node, name, self._merge_statements(block))
        super().generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        inner = node.args[0] if node.args else None
        if isinstance(inner, ast.Call) and self._is_layer(inner):
            if self._is_activation(node):
                self.calls.append(_activation_call(node, inner))
                args = [node.func, inner.func, *inner.args, *node.args[1:]]
                node = ast.copy_location(ast.Call(ast.Name(_CALL, ast.Load()), args, node.keywords), node)
            elif _path(node.func):
                self.others.append(_activation_call(node, inner))
        return self.generic_visit(node)

    def _merge_statements(self, block: list[ast.stmt]) -> list[ast.stmt]:
        """Merge ``x = B(x)`` and the ``x = A(x)`` (or ``return A(x)``) after it, as nothing else reads the first x."""
        merged: list[ast.stmt] = []
        for statement in block:
            before = merged[-1] if merged else None
            if (
                isinstance(before, ast.Assign)
                and isinstance(statement, (ast.Assign, ast.Return))
                and isinstance(outer := statement.value, ast.Call)
                and self._is_layer(before.value)
                and [ast.unparse(target) for target in before.targets] == [ast.unparse(arg) for arg in outer.args[:1]]
                and isinstance(name := outer.args[0], ast.Name)
                and name.id in self.code.co_varnames
                and name.id not in self.code.co_cellvars
                and (isinstance(statement, ast.Return) or _names_in(*statement.targets) == [name.id])
                and name.id not in _names_in(outer.func, *outer.args[1:], *outer.keywords)
            ):
                if self._is_activation(outer):
                    outer.args[0] = before.value
                    merged[-1] = statement
                    continue
                if _path(outer.func):
                    self.others.append(_activation_call(outer, before.value))
            merged.append(statement)
        return merged

    def _is_activation(self, node: ast.Call) -> bool:
        """Whether a call is of an activation, with constants, names or attributes as further arguments."""
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
        """Whether a call has one argument, and calls an object reached from a local variable, as ``self.fc``."""
        if not (isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords):
            return False
        if isinstance(node.args[0], ast.Starred):
            return False
        root = node.func
        while isinstance(root, (ast.Attribute, ast.Subscript)):
            root = root.value
        return isinstance(root, ast.Name) and root.id in self.code.co_varnames


def _activation_call(outer: ast.Call, inner: Any) -> ActivationCall:
    """Return the call of an activation, `outer`, on the result of another call, `inner`."""
    return ActivationCall(outer.lineno, ast.unparse(outer.func), ast.unparse(inner.func))


def _found(activation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found | None:
    """Return the activation that a call is, of a module or of a function; None where it has to be called itself."""
    if isinstance(activation, nn.Module):
        if args or kwargs or obstacle(activation) is not None:
            return None
        found = read_module(activation)
    elif isinstance(activation, (FunctionType, BuiltinFunctionType)):
        read = read_call(activation, args, kwargs)
        if read is None:
            return None
        found = read
    else:
        return None
    return found if isinstance(found, Found) else None


def _methods(node: ast.ClassDef, original: CodeType) -> Iterator[ast.FunctionDef]:
    """Yield the class's method with the name and line of the code. (A decorator would be lost. It moves the line.)"""
    for function in node.body:
        place = (original.co_name, original.co_firstlineno)
        if isinstance(function, ast.FunctionDef) and (function.name, function.lineno) == place:
            yield function


def _compile(class_name: str, method: ast.FunctionDef, original: CodeType) -> CodeType:
    """Return the method's code with `_CALL` as a free variable; the class's name mangles names like ``self.__fc``."""
    free = ", ".join(name for name in (*original.co_freevars, _CALL) if name != "__class__")
    # A forward that names its class means the global class, or that of a function around it, not the class made here.
    scope = "" if class_name in original.co_freevars else f"  global {class_name}\n"
    tree = ast.parse(f"def outer({free}):\n{scope}  class {class_name}:\n    pass")
    tree.body[0].body[-1].body = [method]  # type: ignore[attr-defined]
    flags = original.co_flags & _FUTURE
    code = compile(ast.fix_missing_locations(tree), original.co_filename, "exec", flags=flags, dont_inherit=True)
    return next(_codes(code, original))


def _codes(code: CodeType, like: CodeType) -> Iterator[CodeType]:
    """Yield the code objects inside a code object that have the name and the line of `like`."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if (constant.co_name, constant.co_firstlineno) == (like.co_name, like.co_firstlineno):
                yield constant
            yield from _codes(constant, like)


def _same_code(a: CodeType, b: CodeType) -> bool:
    """Whether both code objects do the same; their places in the file may differ."""

    def same_constant(x: object, y: object) -> bool:
        return (
            _same_code(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType) else type(x) is type(y) and x == y
        )

    return (
        (a.co_code, a.co_names, a.co_varnames, a.co_freevars, a.co_cellvars)
        == (b.co_code, b.co_names, b.co_varnames, b.co_freevars, b.co_cellvars)
        and len(a.co_consts) == len(b.co_consts)
        and all(map(same_constant, a.co_consts, b.co_consts))
    )


def _path(node: ast.expr) -> list[str]:
    """Return ["self", "fc"] for ``self.fc``; an empty list for what is not a chain of attributes."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _is_simple(node: ast.expr) -> bool:
    """Whether a node is a constant, possibly with a sign, a name or an attribute."""
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant) or bool(_path(node))


def _names_in(*nodes: ast.AST) -> list[str]:
    return [inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)]
