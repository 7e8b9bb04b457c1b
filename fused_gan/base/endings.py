"""Puts what ended a command into one line, for the person who gave the command."""

from __future__ import annotations

from fused_gan.base.errors import Diverged, UserError
from fused_gan.base.files import NotWritten, about_os_error
from fused_gan.base.memory import OutOfMemory, asked, lacks_memory


def in_words(error: Exception, attempt: str) -> str | None:
    """Return an error in words, or None if the error is a defect of the program, which needs its traceback.

    Args:
        error: what ended the command.
        attempt: the command, for an error that names nothing.
    """
    if isinstance(error, (UserError, Diverged, OutOfMemory, NotWritten)):
        return str(error)
    if isinstance(error, (MemoryError, RuntimeError)) and lacks_memory(error):
        return f"out of memory: {attempt}{asked(error)}"
    if isinstance(error, OSError):
        return f"{attempt}: {error}" if error.filename is None else about_os_error(error)
    return None
