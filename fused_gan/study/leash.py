"""What ends a job gently: its starter has gone, or its time is up."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

STOPPED = 75  # exit status of a job that was ended so; sysexits.h calls it a temporary failure


def hold(until: float | None) -> None:
    """From here on SIGTERM comes when standard input ends (its writer, the starter, has died or closed it), and at
    `until` (seconds since the epoch). While a system trains, SIGTERM saves it; elsewhere the process exits with
    `STOPPED`.
    """
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_when_input_ends, daemon=True).start()
    if until is not None:
        timer = threading.Timer(max(0.0, until - time.time()), _end)
        timer.daemon = True
        timer.start()


def _when_input_ends() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(STOPPED)
