"""Writes files so that a reader never finds half of a file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

FULL = (errno.ENOSPC, errno.EDQUOT)  # errors of a disk without space


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that a caller gave as text or as a path. A leading `~` is the home folder."""
    return Path(path).expanduser()


class NotWritten(OSError):
    """A file or standard output cannot be written. The message names it and says why."""

    def __str__(self) -> str:
        return str(self.strerror)  # without the number that Python puts before it


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in an error of the block that writes it. Python's own error of a full disk names none.

    Raises:
        NotWritten: from the file system.
    """
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        reason = f"{error.strerror or error}{free_space(path.parent) if error.errno in FULL else ''}"
        raise NotWritten(error.errno, f"{path}: cannot be written: {reason}") from error


def about_os_error(error: OSError) -> str:
    """Return an error that names a file in words, with the free space where that is short."""
    space = free_space(Path(os.fsdecode(error.filename)).parent) if error.errno in FULL else ""
    return f"{error.filename}: {error.strerror}{space}"


def free_space(folder: Path) -> str:
    """Return in words how much space is free where a folder lies, or would lie."""
    folder = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return f" ({size_text(shutil.disk_usage(folder).free)} free in {folder})"


def size_text(count: int) -> str:
    """Return a number of bytes in words, as "1.5 GiB"."""
    size, units = float(count), iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = "bytes"
    while size >= 1024 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    Whatever fails, `path` holds either its old content or the complete new one, and the temporary file is removed.

    Raises:
        NotWritten: from the file system (no space, no permission), after cleaning up.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
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


def cannot_write_output(error: OSError) -> str:
    """Return in words why standard output cannot be written, or "" if its reader has gone: a pipe or a terminal."""
    gone = error.errno in (errno.EPIPE, errno.EIO)
    return "" if gone else f"standard output cannot be written: {error.strerror or error}"


def discard(file: TextIO) -> None:
    """Send to nowhere what is written to a file from now on, and what its buffer still holds."""
    with contextlib.suppress(OSError, ValueError):  # a file of Python's own has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def open_missing_streams() -> None:
    """Let each standard stream that the process was started without, as by ``>&-``, lead to nowhere.

    Python has None in its place, and the next file that is opened would get its descriptor: what a library writes to
    standard output would then land in that file. What a stream's encoding cannot express is written as an escape.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("w" if descriptor else "r", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
    for writer in (sys.stdout, sys.stderr):
        if isinstance(writer, io.TextIOWrapper):
            writer.reconfigure(errors="backslashreplace")


def _sync(path: Path) -> None:
    """Flush a file, or a folder with the entries of its files, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
