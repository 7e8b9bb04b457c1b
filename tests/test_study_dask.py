"""A study runs on a Dask cluster as it runs here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from studies import write_grid

from fused_gan.cli import main
from fused_gan.study import StudyFolder, load_study


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
    config, out = write_grid(tmp_path, 20, ["relu", "tanh", "sigmoid", "identity"]), tmp_path / "out"
    seen = Seen()
    cluster.scheduler.add_plugin(seen)
    command = ["study", "--config", str(config), "--out", str(out), "--dask", cluster.scheduler_address]
    assert main(command) == 0
    assert "4/4 " in capsys.readouterr().out
    results = StudyFolder(out).results(load_study(config))
    assert [result.settings["activation"] for result in results] == ["relu", "tanh", "sigmoid", "identity"]
    assert len(seen.workers) == 2
    assert main(command) == 0
    assert "4 jobs, 0 of them to do" in capsys.readouterr().out


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "--config", str(write_grid(tmp_path)), "--out", str(tmp_path / "out"), "--dask"]
    assert main([*command, "tcp://127.0.0.1:1"]) == 2
    assert "dask: no scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err


def test_without_dask_the_remedy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    command = ["study", "--config", str(write_grid(tmp_path)), "--out", str(tmp_path / "out"), "--dask", "x"]
    assert main(command) == 2
    assert "pip install 'fused_gan[dask]'" in capsys.readouterr().err
