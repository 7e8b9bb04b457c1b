"""Lets SIGTERM and SIGHUP end a command as an exception does, so that what is half written is removed on the way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal that ends the command. Like KeyboardInterrupt it is no Exception, so that nothing goes on after it."""

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(by.name)
        self.by = by


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` in the block when one of `SIGNALS` comes.

    A signal that the process ignores or handles already is left so, as SIGHUP under ``nohup``. Outside the main thread
    this does nothing, because Python delivers signals only there.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [signum for signum in SIGNALS if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in taken:
        signal.signal(signum, _end)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def _end(signum: int, frame: FrameType | None) -> None:
    raise Ended(signal.Signals(signum))
