"""One process at a time. The lock goes with the process, however that ends: none is left behind.

A process forked within it, by other means than `subprocess`, holds it too until that ends as well. On NFS it is a lock
of the server's: one that has none refuses it, and where a client keeps its own, other machines do not meet it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fused_gan.base.errors import UserError


@contextlib.contextmanager
def locked(file: Path, refusal: str | None = None) -> Iterator[None]:
    """Within it, nobody else has the lock of this file, which holds this process's number.

    The file stays: whoever removed it would take it from under one that waits for it.

    Args:
        file: in a folder that exists; made if need be.
        refusal: the error where another has the lock; None waits for the other to leave.

    Raises:
        UserError: another has it, or this system has no such locks.
        OSError: from the file system.
    """
    try:
        import fcntl  # at the top it would keep whole commands from being imported where there is none
    except ModuleNotFoundError as error:
        raise UserError(f"{file}: it cannot be locked, as this system has no POSIX file locks") from error
    with file.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX if refusal is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert refusal is not None
            raise UserError(refusal) from None
        opened.truncate(0)
        print(os.getpid(), file=opened, flush=True)
        yield
