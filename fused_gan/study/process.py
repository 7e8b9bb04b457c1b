"""Starts a job's process, and ends it with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Literal

from fused_gan.study.folder import JobFolder

ATTEMPTS = 3  # starts of a job whose process is killed, by lack of memory, a person or a scheduler
POLLED = 0.1  # seconds between two checks whether a process has ended or has to end
# Numerical libraries read these variables at import. A job with threads on all cores would slow the other jobs down.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Outcome = Literal["done", "stopped", "failed", "not begun"]


def execute(
    folder: Path, threads: int, device: str, until: float | None, stop: threading.Event | None = None
) -> Outcome:
    """Run one job in a process of its own.

    A job whose process is killed is started again, and continues from its last checkpoint.

    Args:
        folder: the job's folder.
        threads: CPU threads of torch in the job.
        device: the device, as in a training's configuration.
        until: the time at which the job has to stop, in seconds since the epoch.
        stop: stops the job when it is set.
    """
    job = JobFolder(folder)
    stop = stop or threading.Event()
    for attempt in range(ATTEMPTS):
        if stop.is_set() or (until is not None and time.time() >= until):
            return "stopped" if attempt else "not begun"
        status = _run(job, threads, device, until, stop)
        if job.is_done:
            return "done"
        if status >= 0:  # a negative status means that a signal killed it
            return "stopped" if status == STOPPED else "failed"
    return "failed"


def _run(job: JobFolder, threads: int, device: str, until: float | None, stop: threading.Event) -> int:
    command = [sys.executable, "-m", "fused_gan.study.job", str(job.path), f"--threads={threads}", f"--device={device}"]
    command += [] if until is None else [f"--until={until}"]
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    with (
        job.log.open("ab") as log,
        # The job has a session of its own, so that Ctrl-C reaches only the study. Leaving this block closes the job's
        # input, which ends the job.
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        ) as process,
    ):
        while process.poll() is None and not stop.wait(POLLED):
            pass
    return process.returncode


STOPPED = 75  # exit status of a job that was stopped; sysexits.h calls it a temporary failure


def stop_with_parent(until: float | None) -> None:
    """Send this process SIGTERM when its standard input closes, and at the time `until` (seconds since the epoch).

    The input closes when the parent dies or lets go. While a system trains, SIGTERM ends the training with everything
    saved. Otherwise the process exits with `STOPPED`.
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


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(STOPPED)
