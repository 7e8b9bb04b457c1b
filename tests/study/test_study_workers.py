"""Jobs run on the devices of this machine, or on a Dask cluster."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from fused_gan.base.errors import UserError
from fused_gan.base.lock import locked
from fused_gan.cli.main import main
from fused_gan.study import Study, StudyFolder, here, load_study, runner, workers
from fused_gan.study.process import Outcome
from helpers.studies import write_grid


class Seen(SchedulerPlugin):  # type: ignore[misc]
    """Which workers have finished a task."""

    def __init__(self) -> None:
        self.workers: set[str] = set()

    def transition(self, key: object, start: str, finish: str, *others: Any, **details: Any) -> None:
        if finish == "memory":
            self.workers.add(details["worker"])


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Two workers, each a process that takes one job at a time."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def test_two_workers_share_the_jobs(cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = write_grid(tmp_path, 20, ["relu", "tanh", "sigmoid"]), tmp_path / "out"
    seen = Seen()
    cluster.scheduler.add_plugin(seen)
    command = ["study", "--config", str(config), "--out", str(out), "--dask", cluster.scheduler_address]
    assert main(command) == 0
    assert "3/3 " in capsys.readouterr().out
    results = StudyFolder(out).results(load_study(config))
    assert [result.settings["activation"] for result in results] == ["relu", "tanh", "sigmoid"]
    assert len(seen.workers) == 2
    assert main(command) == 0
    assert "3 jobs, 0 of them to do" in capsys.readouterr().out


def test_devices_are_dealt_out_and_each_has_one_job_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: Counter[str] = Counter()
    seen: list[tuple[str, int]] = []

    def execute(folder: Path, threads: int, device: str, until: float | None, stop: threading.Event) -> Outcome:
        running[device] += 1
        seen.append((device, running[device]))
        time.sleep(0.02)
        running[device] -= 1
        return "done"

    monkeypatch.setattr(workers, "execute", execute)
    with here(3, 1, ["cuda:0", "cuda:1", "cuda:2"]) as chosen:
        outcomes = [chosen.submit(tmp_path, None) for _ in range(12)]
    assert [outcome.result() for outcome in outcomes] == ["done"] * 12
    assert {device for device, _ in seen} == {"cuda:0", "cuda:1", "cuda:2"}
    assert {together for _, together in seen} == {1}


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "--config", str(write_grid(tmp_path)), "--out", str(tmp_path / "out"), "--dask"]
    assert main([*command, "tcp://127.0.0.1:1"]) == 2
    assert "dask: no scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err


def test_with_a_cluster_what_it_would_not_heed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "--config", str(write_grid(tmp_path)), "--out", str(tmp_path / "out"), "--dask", "x"]
    assert main([*command, "--workers", "2"]) == 2
    assert "workers: with --dask" in capsys.readouterr().err
    assert main([*command, "--devices", "cuda:0", "cuda:1"]) == 2
    assert "devices: with --dask expected one for all jobs, got cuda:0, cuda:1" in capsys.readouterr().err


def test_the_report_is_written_while_no_other_study_is_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, reported = tmp_path / "out", []

    def report(folder: StudyFolder, study: Study) -> bool:
        with pytest.raises(UserError, match="busy"), locked(folder.lock, "busy"):
            pass
        reported.append(folder.path)
        return True

    monkeypatch.setattr(runner, "write_study", report)
    assert main(["study", "--config", str(write_grid(tmp_path)), "--out", str(out), "--max-minutes", "0"]) == 75
    assert reported == [out]


def test_without_dask_the_remedy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    command = ["study", "--config", str(write_grid(tmp_path)), "--out", str(tmp_path / "out"), "--dask", "x"]
    assert main(command) == 2
    assert "pip install 'fused_gan[dask]'" in capsys.readouterr().err
