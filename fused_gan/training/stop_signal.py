"""Stops a run between two steps, when a person (Ctrl-C) or a scheduler (SIGTERM) asks for it."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignal:
    """A context manager that only notes the first SIGINT or SIGTERM. A second signal acts at once, as without it.

    Outside the main thread it does nothing, because Python delivers signals only there.

    Attributes:
        received: the first signal, or None if no signal has come.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(signum)
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
