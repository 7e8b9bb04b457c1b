"""Stops a run between two steps, when a person (Ctrl-C), a scheduler (SIGTERM) or a closing terminal asks for it."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """A context manager that only notes the first of `SIGNALS`. A second signal acts at once, as without it.

    A signal that the process ignores stays ignored, as SIGHUP under ``nohup``. Outside the main thread it does nothing,
    because Python delivers signals only there.

    Attributes:
        received: the first signal, or None if no signal has come.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def note(self, received: signal.Signals) -> None:
        """Note a signal that did not come as one: SIGPIPE, where the reader of the output has gone."""
        self.received = self.received or received

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.note(signal.Signals(signum))
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
