"""Who runs the jobs: this machine, or a Dask cluster."""

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
    """Take jobs, some at a time."""

    def submit(self, folder: Path, until: float | None) -> Future[Outcome]:
        """Run the job of this folder when its turn comes, and stop it at `until` (seconds since the epoch)."""

    def stop(self) -> None:
        """Stop the jobs that run, as far as that can be done from here."""


class Here:
    """Processes on this machine.

    Args:
        pool: of a thread for each job at a time; it does no more than wait for the job's process.
        threads: of torch in each job.
        devices: one for each job at a time.
    """

    def __init__(self, pool: ThreadPoolExecutor, threads: int, devices: Sequence[str]) -> None:
        self._pool, self._threads = pool, threads
        self._stopping = threading.Event()
        self._free: queue.SimpleQueue[str] = queue.SimpleQueue()
        for device in devices:
            self._free.put(device)

    def submit(self, folder: Path, until: float | None) -> Future[Outcome]:
        """As `Workers` has it."""
        return self._pool.submit(self._run, folder, until)

    def stop(self) -> None:
        """As `Workers` has it."""
        self._stopping.set()

    def _run(self, folder: Path, until: float | None) -> Outcome:
        device = self._free.get()
        try:
            return execute(folder, self._threads, device, until, self._stopping)
        finally:
            self._free.put(device)


class Cluster:
    """The workers of a Dask cluster; each takes as many jobs at a time as it has threads.

    Args:
        client: of the cluster.
        threads: of torch in each job.
        device: of each job; which GPU that is, the worker's environment says (CUDA_VISIBLE_DEVICES).
    """

    def __init__(self, client: Any, threads: int, device: str) -> None:
        # Not pure: Dask would take the outcome of an earlier call for that of the same job, called again.
        self._executor = client.get_executor(pure=False, retries=ATTEMPTS - 1)
        self._threads, self._device = threads, device

    def submit(self, folder: Path, until: float | None) -> Future[Outcome]:
        """As `Workers` has it."""
        submitted: Future[Outcome] = self._executor.submit(
            execute, folder.absolute(), self._threads, self._device, until
        )
        return submitted

    def stop(self) -> None:
        """Nothing: what runs goes on to its end, and is found done by the next call."""


@contextlib.contextmanager
def here(count: int, threads: int, devices: Sequence[str]) -> Iterator[Workers]:
    """`count` workers on this machine.

    Args:
        count: jobs at a time.
        threads: of torch in each.
        devices: as in a training's configuration, dealt out to the workers.
    """
    with ThreadPoolExecutor(count) as pool:
        workers = Here(pool, threads, [devices[index % len(devices)] for index in range(count)])
        try:
            yield workers
        finally:
            workers.stop()  # the pool waits for its threads, whatever went wrong


@contextlib.contextmanager
def on_cluster(address: str, threads: int, device: str) -> Iterator[Workers]:
    """The workers of a Dask cluster, which must see the study's folder under the same path.

    Args:
        address: of its scheduler, as tcp://host:8786.
        threads: of torch in each job.
        device: as in a training's configuration.

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
