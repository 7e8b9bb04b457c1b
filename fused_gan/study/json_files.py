"""JSON objects as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fused_gan.errors import UserError, require
from fused_gan.files import atomic_write


def write_json(path: Path, content: Any) -> None:
    """Write anything that JSON holds."""
    text = json.dumps(content, indent=1)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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
