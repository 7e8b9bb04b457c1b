"""A lock that one process at a time can hold.

The operating system releases the lock when the process ends, even after SIGKILL. A child forked while the lock is held,
by other means than `subprocess`, keeps the lock until the child ends too. On NFS the server must support locks. A
client that only emulates locks does not exclude other machines.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fused_gan.base.errors import UserError
from fused_gan.base.files import writing


@contextlib.contextmanager
def locked(file: Path, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock of this file while the block runs, and write this process's number into the file.

    The file stays, because a process that waits for the lock has the file open already.

    Args:
        file: in a folder that exists; created if it is missing.
        refusal: the error message where another process has the lock; None waits until that process releases the lock.

    Raises:
        UserError: another process has the lock, or this system has no POSIX file locks.
        OSError: from the file system.
    """
    try:
        import fcntl  # at the top, commands could not be imported where the module is missing
    except ModuleNotFoundError as error:
        raise UserError(f"{file}: it cannot be locked, as this system has no POSIX file locks") from error
    with file.open("ab", buffering=0) as opened:  # a buffer would be written once more, and fail, when it is closed
        try:
            fcntl.flock(opened, fcntl.LOCK_EX if refusal is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert refusal is not None
            raise UserError(refusal) from None
        with writing(file):
            opened.truncate(0)
            opened.write(f"{os.getpid()}\n".encode())
        yield
