"""The workers that run the jobs: processes on this machine, or a Dask cluster."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from fused_gan.base.errors import UserError
from fused_gan.study.process import ATTEMPTS, Outcome, execute


class Workers(Protocol):
    """Runs jobs, several at a time."""

    def submit(self, folder: Path, until: float | None) -> Future[Outcome]:
        """Run the job in this folder when a worker is free, and stop it at `until` (seconds since the epoch)."""

    def stop(self) -> None:
        """Stop the running jobs, as far as this process can."""


class Here:
    """Processes on this machine.

    Args:
        pool: one thread for each job at a time. The thread only waits for the job's process.
        threads: CPU threads of torch in each job.
        devices: one device for each job at a time.
    """

    def __init__(self, pool: ThreadPoolExecutor, threads: int, devices: Sequence[str]) -> None:
        self._pool, self._threads = pool, threads
        self._stopping = threading.Event()
        self._free: queue.SimpleQueue[str] = queue.SimpleQueue()
        for device in devices:
            self._free.put(device)

    def submit(self, folder: Path, until: float | None) -> Future[Outcome]:
        """Run a job, as `Workers.submit` says."""
        return self._pool.submit(self._run, folder, until)

    def stop(self) -> None:
        """Stop the running jobs."""
        self._stopping.set()

    def _run(self, folder: Path, until: float | None) -> Outcome:
        device = self._free.get()
        try:
            return execute(folder, self._threads, device, until, self._stopping)
        finally:
            self._free.put(device)


class Cluster:
    """The workers of a Dask cluster. Each worker takes as many jobs at a time as it has threads.

    Args:
        client: the client of the cluster.
        threads: CPU threads of torch in each job.
        device: the device of each job. CUDA_VISIBLE_DEVICES of the worker decides which GPU that is.
    """

    def __init__(self, client: Any, threads: int, device: str) -> None:
        # Not pure, because Dask would otherwise return the outcome of an earlier call for the same job.
        self._executor = client.get_executor(pure=False, retries=ATTEMPTS - 1)
        self._threads, self._device = threads, device

    def submit(self, folder: Path, until: float | None) -> Future[Outcome]:
        """Run a job, as `Workers.submit` says."""
        submitted: Future[Outcome] = self._executor.submit(
            execute, folder.absolute(), self._threads, self._device, until
        )
        return submitted

    def stop(self) -> None:
        """Do nothing. Running jobs continue to their end, and the next call of the study finds them done."""


@contextlib.contextmanager
def here(count: int, threads: int, devices: Sequence[str]) -> Iterator[Workers]:
    """Give `count` workers on this machine.

    Args:
        count: the number of jobs at a time.
        threads: CPU threads of torch in each job.
        devices: the devices, as in a training's configuration. The workers take them in turn.
    """
    with ThreadPoolExecutor(count) as pool:
        workers = Here(pool, threads, [devices[index % len(devices)] for index in range(count)])
        try:
            yield workers
        finally:
            workers.stop()  # because the pool waits for its threads even after an error


@contextlib.contextmanager
def on_cluster(address: str, threads: int, device: str) -> Iterator[Workers]:
    """Give the workers of a Dask cluster. They must see the study's folder under the same path.

    Args:
        address: the address of the scheduler, as tcp://host:8786.
        threads: CPU threads of torch in each job.
        device: the device of each job, as in a training's configuration.

    Raises:
        UserError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise UserError(
            "dask: the package distributed is missing, get it with: pip install 'fused_gan[dask]'"
        ) from error
    try:
        client = Client(address, timeout=5)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError(f"dask: no scheduler answers at {address}: {error}") from error
    with client:
        yield Cluster(client, threads, device)
