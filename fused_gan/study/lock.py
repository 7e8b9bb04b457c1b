"""One process at a time in a folder. The lock goes with the process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from fused_gan.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def alone_in(folder: Path, wait: bool) -> Iterator[None]:
    """Within it, no other process is in here; the file `LOCK` in it holds this one's number.

    Args:
        folder: that exists.
        wait: for the other to leave; otherwise it is an error that there is one.

    Raises:
        UserError: another process is at work here.
    """
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"out: another study is running in {folder}; wait for it, or name a new folder") from None
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        yield
