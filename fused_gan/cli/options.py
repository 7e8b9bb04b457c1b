"""Dataclasses as tyro takes them, with help that reads as prose."""

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

OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
RunArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]


def with_help(value: Any) -> type:
    """Return a dataclass with an instance's fields, its values for defaults and its docstrings for help.

    tyro reads the docstrings by itself, but takes the ends of their lines in the source for ends of paragraphs.
    """
    kind = type(value)
    hints = get_type_hints(kind)
    fields = [(field.name, hints[field.name], getattr(value, field.name)) for field in dataclasses.fields(kind)]
    return _with_help(kind, fields, kind.__doc__)


def optional_fields(kind: type, names: Collection[str], about: str) -> type:
    """Return a dataclass with some fields of another, where None, the default, stands for what a field was before.

    Args:
        kind: the other.
        names: of the fields.
        about: what they have in common, for the help.
    """
    hints = get_type_hints(kind)
    own = [field.name for field in dataclasses.fields(kind) if field.name in names]
    return _with_help(kind, [(name, hints[name] | None, None) for name in own], about)


def _with_help(kind: type, fields: Iterable[tuple[str, Any, Any]], about: str | None) -> type:
    """Return a dataclass with fields of another, each a name, a type and a default."""
    texts = field_docstrings(kind)
    specified = [
        (name, Annotated[hint, tyro.conf.arg(help=texts.get(name))], dataclasses.field(default=default))
        for name, hint, default in fields
    ]
    made = dataclasses.make_dataclass(kind.__name__, specified, frozen=True)
    made.__doc__ = about
    return made


def field_docstrings(kind: type) -> dict[str, str]:
    """Return the string below each field of a dataclass or one of its bases, on one line."""
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


def checked_file(file: Path) -> Path:
    """Return a file to write, after making its folder; called before the work, so that no result is lost."""
    require(not file.is_dir(), f"out: {file} is a folder, expected a file")
    made_folder(file.parent)
    return file


def made_folder(folder: Path) -> Path:
    """Return the folder, after making it if it is not there."""
    require(not folder.exists() or folder.is_dir(), f"out: {folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
