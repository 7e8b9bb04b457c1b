"""Turns dataclasses into options for tyro, with help that reads as prose."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from fused_gan.base.errors import require
from fused_gan.data.datasets import shadowed

OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
RunArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]


def with_help(value: Any) -> type:
    """Return a dataclass with an instance's fields. Its values are the defaults, its docstrings the help.

    tyro reads docstrings by itself, but takes each end of a line in the source for the end of a paragraph.
    """
    kind = type(value)
    hints = get_type_hints(kind)
    fields = [(field.name, hints[field.name], getattr(value, field.name)) for field in dataclasses.fields(kind)]
    return _with_help(kind, fields, kind.__doc__)


def optional_fields(kind: type, names: Collection[str], about: str) -> type:
    """Return a dataclass with some fields of `kind`, all optional. None means "keep the run's value".

    Args:
        kind: a dataclass.
        names: the names of the fields.
        about: what the fields have in common, for the help.
    """
    hints = get_type_hints(kind)
    own = [field.name for field in dataclasses.fields(kind) if field.name in names]
    return _with_help(kind, [(name, hints[name] | None, None) for name in own], about)


def _with_help(kind: type, fields: Iterable[tuple[str, Any, Any]], about: str | None) -> type:
    """Return a dataclass with `fields` of `kind`: each is a name, a type and a default."""
    texts = field_docstrings(kind)
    with_texts = [
        (name, Annotated[hint, tyro.conf.arg(help=texts.get(name))], dataclasses.field(default=default))
        for name, hint, default in fields
    ]
    result = dataclasses.make_dataclass(kind.__name__, with_texts, frozen=True)
    result.__doc__ = about
    return result


def field_docstrings(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass or its bases, on one line."""
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


def tell_shadowed(source: str | None) -> None:
    """Print a line if `source` names a data set as well as a file or folder here, for commands that list no data."""
    note = None if source is None else shadowed(source)
    if note is not None:
        print(f"passed over: {note}")


def checked_file(file: Path) -> Path:
    """Return a file to write, after making its folder. Called before the work, so that no result is lost."""
    require(not file.is_dir(), f"out: {file} is a folder, expected a file")
    made_folder(file.parent)
    return file


def made_folder(folder: Path) -> Path:
    """Return a folder, after making it if it is missing."""
    require(not folder.exists() or folder.is_dir(), f"out: {folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
