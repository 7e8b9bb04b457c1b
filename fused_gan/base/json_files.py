"""JSON that every reader takes: strict, with a text for each number that JSON has none for.

NaN is "NaN", ∞ is "Infinity", −∞ is "-Infinity", as in ProtoJSON. Not null: that says that there is no number, as where
a critic has no accuracy.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import atomic_write

NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def to_json_text(content: Any, indent: int | None = None) -> str:
    """Anything that JSON holds, and floats that it does not; `numbers` gets these back."""
    return json.dumps(_named(content), indent=indent, allow_nan=False)


def numbers(content: Any) -> Any:
    """What was read from JSON, with numbers in the place of their names, however deep.

    For what holds numbers alone beside other texts: a folder called NaN would become one.
    """
    if isinstance(content, dict):
        return {name: numbers(value) for name, value in content.items()}
    if isinstance(content, list):
        return [numbers(value) for value in content]
    return float(content) if isinstance(content, str) and content in NOT_FINITE else content


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write what `to_json_text` takes, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json_text(content, indent) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    require(isinstance(content, dict), f"{path}: expected a JSON object, got {type(content).__name__}")
    result: dict[str, Any] = content
    return result


def _named(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _named(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_named(value) for value in content]
    # Python's own writer has these names too, without the quotes that make them JSON.
    return json.dumps(content) if isinstance(content, float) and not math.isfinite(content) else content
