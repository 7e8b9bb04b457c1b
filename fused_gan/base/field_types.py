"""Checks values against the annotation of a dataclass's field, and puts the annotation into words."""

from __future__ import annotations

import dataclasses
import numbers
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fused_gan.base.errors import require

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
    """Return a value as a field holds it. Lists become tuples, and numbers of other libraries Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def is_a(value: object, kind: Any) -> bool:
    """Whether a value is of a kind: a class in `_WORDS`, a Literal, a union, or a tuple whose members are of one kind.

    An integer is a number too. True and False are neither integers nor numbers.
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


def settle(config: Any) -> None:
    """Bring the fields of a frozen dataclass to their kinds: numbers of other libraries, lists, paths given as text.

    Raises:
        UserError: a field is of another kind; the message names it.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        value = settled(field.name, given, hints[field.name])
        if value is not given:
            object.__setattr__(config, field.name, value)


def settled(name: str, given: Any, kind: Any) -> Any:
    """Return the value of one field as `settle` brings it to its kind.

    Raises:
        UserError: it is of another kind; the message names the field.
    """
    value = plain(given)
    if not is_a(value, kind):
        # A path may be given as text, and the other way round.
        value = next((other for other in (_as_path(value), _as_text(value)) if is_a(other, kind)), value)
    require(is_a(value, kind), f"{name}: expected {worded(kind)}, got {given!r}")
    return value


def _as_path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def worded(kind: Any) -> str:
    """Return what a person who writes JSON calls a kind, as "one of 1, 3 or null"."""
    members = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(worded, members))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, members))
    if get_origin(kind) is tuple:
        count = "" if members[-1] is ... else f"{len(members)} "
        return f"a list of {count}{_MANY[members[0]]}"
    return _WORDS[kind]
