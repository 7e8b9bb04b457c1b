"""Dataclasses as tyro takes them, with help that reads as prose."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from itertools import pairwise
from typing import Annotated, Any, get_type_hints

import tyro


def explained(value: Any) -> type:
    """A dataclass with the fields of a dataclass's instance, its values for defaults and its docstrings for help.

    tyro reads the docstrings by itself, but takes the ends of their lines in the source for ends of paragraphs.
    """
    kind = type(value)
    hints, texts = get_type_hints(kind), field_docstrings(kind)
    fields = [
        (
            field.name,
            Annotated[hints[field.name], tyro.conf.arg(help=texts.get(field.name))],
            dataclasses.field(default=getattr(value, field.name)),
        )
        for field in dataclasses.fields(kind)
    ]
    made = dataclasses.make_dataclass(kind.__name__, fields, frozen=True)
    made.__doc__ = kind.__doc__
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
