"""Stopping a run between two steps, when a person (Ctrl-C) or a scheduler (SIGTERM) asks for it."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignal:
    """Within it, the first SIGINT or SIGTERM is only noted, a second one acts at once as it would have before.

    Use as a context manager. Outside the main thread, where Python delivers no signals, it does nothing.

    Attributes:
        received: the signal, or None so far.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
