"""Whether a value is of the kind that a dataclass's field is annotated with, and what that kind is called."""

from __future__ import annotations

import numbers
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    types.NoneType: "null",
}
_MANY: dict[Any, str] = {int: "integers", float: "numbers"}  # what a list holds


def plain(value: Any) -> Any:
    """A value as a field holds it: a list as a tuple, a number of another library, as NumPy's, as Python's own."""
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def is_a(value: object, kind: Any) -> bool:
    """Whether a value is of a kind: a class in `_WORDS`, or a Literal, a union or, of one kind, a tuple.

    An integer is a number too; True and False are neither.
    """
    members = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(is_a(value, member) for member in members)
    if get_origin(kind) is Literal:
        return any(value == member and type(value) is type(member) for member in members)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = members[:1] * len(value) if members[-1] is ... else members
        return len(value) == len(wanted) and all(map(is_a, value, wanted))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def worded(kind: Any) -> str:
    """As `one of 1, 3 or null`: a kind, as a person who writes JSON calls it."""
    members = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(worded, members))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, members))
    if get_origin(kind) is tuple:
        count = "" if members[-1] is ... else f"{len(members)} "
        return f"a list of {count}{_MANY[members[0]]}"
    return _WORDS[kind]
