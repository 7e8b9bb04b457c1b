"""Strict JSON, readable by every parser. NaN and infinities, which JSON cannot express, are written as strings.

NaN is "NaN", ∞ is "Infinity", −∞ is "-Infinity", as in ProtoJSON. They are not null, because null says that a number
does not exist, as the accuracy of a critic.
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
    """Return JSON for what JSON can express, and for NaN and infinities, which `restore_non_finite` brings back."""
    return json.dumps(_name_non_finite(content), indent=indent, allow_nan=False)


def restore_non_finite(content: Any) -> Any:
    """Return what was read from JSON with NaN and infinities in place of their names, at any depth.

    Use it only where no other string can be "NaN": a folder of that name would turn into a number.
    """
    if isinstance(content, dict):
        return {name: restore_non_finite(value) for name, value in content.items()}
    if isinstance(content, list):
        return [restore_non_finite(value) for value in content]
    return float(content) if isinstance(content, str) and content in NOT_FINITE else content


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write what `to_json_text` accepts, as a whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json_text(content, indent) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

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


def _name_non_finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _name_non_finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_name_non_finite(value) for value in content]
    # Python's own writer has these names too, without the quotes that make them JSON.
    return json.dumps(content) if isinstance(content, float) and not math.isfinite(content) else content
