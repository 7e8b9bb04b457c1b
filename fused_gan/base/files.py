"""Writes files so that a reader never finds half of a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    Whatever fails, `path` holds either its old content or the complete new one, and the temporary file is removed.

    Raises:
        OSError: from the file system (no space, no permission), after cleaning up.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the process's umask, which a library may not ask for
        yield temporary
        temporary.chmod(mode)
        # The rename must not reach the disk before the content does: a power cut between the two would leave an
        # empty file under the final name.
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder (which need not exist)."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def discard(file: TextIO) -> None:
    """Send to nowhere what is written to a file from now on, and what its buffer still holds."""
    with contextlib.suppress(OSError, ValueError):  # a file of Python's own has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def _sync(path: Path) -> None:
    """Flush a file, or a folder with the entries of its files, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
