"""Dataclasses as tyro takes them, with help that reads as prose."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Annotated, Any, get_type_hints

import tyro


def explained(value: Any) -> type:
    """A dataclass with the fields of a dataclass's instance, its values for defaults and its docstrings for help.

    tyro reads the docstrings by itself, but takes the ends of their lines in the source for ends of paragraphs.
    """
    kind = type(value)
    hints = get_type_hints(kind)
    fields = [(field.name, hints[field.name], getattr(value, field.name)) for field in dataclasses.fields(kind)]
    return _made(kind, fields, kind.__doc__)


def anew(kind: type, names: Collection[str], about: str) -> type:
    """A dataclass with some fields of another, where None, the default, stands for what a field was before.

    Args:
        kind: the other.
        names: of the fields.
        about: what they have in common, for the help.
    """
    hints = get_type_hints(kind)
    own = [field.name for field in dataclasses.fields(kind) if field.name in names]
    return _made(kind, [(name, hints[name] | None, None) for name in own], about)


def _made(kind: type, fields: Iterable[tuple[str, Any, Any]], about: str | None) -> type:
    """A dataclass with fields of another, each a name, a type and a default."""
    texts = field_docstrings(kind)
    specified = [
        (name, Annotated[hint, tyro.conf.arg(help=texts.get(name))], dataclasses.field(default=default))
        for name, hint, default in fields
    ]
    made = dataclasses.make_dataclass(kind.__name__, specified, frozen=True)
    made.__doc__ = about
    return made


def field_docstrings(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass or one of its bases, on one line."""
    texts = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        [definition] = ast.parse(inspect.getsource(base)).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts
