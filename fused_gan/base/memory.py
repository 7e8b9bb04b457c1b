"""Says in the user's terms what memory was lacking for. A library's own error tells of bytes and allocators."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from fused_gan.base.files import size_text

_SAID = (  # by torch for the CPU, by CUDA and its libraries, and by both torch and NumPy about sizes beyond 64 bits
    "can't allocate memory", "out of memory", "ALLOC_FAILED", "Storage size calculation overflowed",
    "Overflow when unpacking", "Maximum allowed dimension exceeded", "array is too big", "too large to convert",
)  # fmt: skip
_ASKED = re.compile(r"allocate (\d[\d.]*) (bytes|[KMGTPE]iB)")


class OutOfMemory(MemoryError):
    """Memory could not be had. The message is one line that says what for, and what takes less."""


@contextlib.contextmanager
def memory_for(attempt: str, less: str) -> Iterator[None]:
    """Say in the error of a block that lacks memory what was attempted. Where blocks are nested, the inner one says it.

    Args:
        attempt: what the block does, in the user's terms, as "64 images of 1×28×28 through mlp-gan".
        less: what a person can do, as "a smaller --batch-size takes less".

    Raises:
        OutOfMemory: the block lacks memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, OutOfMemory) or not lacks_memory(error):
            raise
        raise OutOfMemory(f"out of memory: {attempt}{asked(error)}; {less}") from error


def lacks_memory(error: Exception) -> bool:
    """Whether an error says that memory could not be had, or could never be, of Python, NumPy, torch or CUDA."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in _SAID)


def asked(error: Exception) -> str:
    """Return in words how much memory was asked for at once, or "" if the error does not say it."""
    match = _ASKED.search(str(error))
    if match is None:
        return ""
    amount = size_text(int(match[1])) if match[2] == "bytes" else f"{match[1]} {match[2]}"
    return f" ({amount} at once)"
