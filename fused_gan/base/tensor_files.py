"""Files of tensors: plain safetensors, whose metadata names their format and holds a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from fused_gan.base.errors import UserError


def parse(
    path: Path, content: bytes, expected: str, otherwise: str, error: type[UserError]
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file.

    Args:
        path: path of the file, for errors.
        content: bytes of the file.
        expected: the format that its metadata must name.
        otherwise: what the person can do about a file of another format.
        error: the class of the exception that is raised.

    Raises:
        error: the file is damaged, cut short, or of another format. The caller compares checksums.
    """
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as reason:
        raise error(f"{path}: damaged, cut short, or not a safetensors file: {reason}") from reason
    metadata: dict[str, str] = header.get("__metadata__", {})
    if metadata.get("format") != expected:
        raise error(f"{path}: expected a file of format {expected!r}, got {metadata.get('format')!r}; {otherwise}")
    return metadata, tensors


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file.

    Raises:
        OSError: the file cannot be written. (safetensors has an error of its own for a full disk.)
    """
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(f"{path}: cannot be written: {error}") from error
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def digest(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Return the SHA-256, in hexadecimal, of metadata, if given, and of tensors with names, dtypes and shapes."""
    sha = hashlib.sha256()
    for key, text in (metadata or {}).items():
        sha.update(f"{key}={text}\n".encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
