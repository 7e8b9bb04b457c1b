"""A study comes to its end whatever is killed, does nothing twice, and stops when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fused_gan.cli.main import main
from fused_gan.study import Result
from fused_gan.study.folder import JobFolder, StudyFolder
from helpers.studies import write_grid

LONG = 1500  # steps, some seconds


def start(config: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """The study in a process of its own."""
    command = [sys.executable, "-m", "fused_gan.cli", "study", "--config", str(config), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_training(job: JobFolder) -> bool:
    """Whether it has written a checkpoint, and is not done."""
    return any(job.run.checkpoints.glob("step-*")) and not job.is_done


def process_of(job: JobFolder) -> int:
    return int((job.path / ".lock").read_text())


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def job_in(out: Path, name: str) -> JobFolder:
    return StudyFolder(out).job(name)


def test_whatever_is_killed_the_study_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = write_grid(tmp_path, LONG, ["relu", "tanh"]), tmp_path / "out"
    first, second = job_in(out, "relu+seed0"), job_in(out, "tanh+seed0")
    with start(config, out, "--workers", "1") as study:
        wait_for(lambda: is_training(first))
        os.kill(process_of(first), signal.SIGKILL)
        wait_for(lambda: is_training(second))
        assert main(["study", "--config", str(config), "--out", str(out)]) == 2
        assert f"another study is running in {out}" in capsys.readouterr().err
        orphan = process_of(second)
        study.kill()
    assert "resuming behind step" in first.log.read_text()
    assert Result.read(first.result).steps == LONG
    wait_for(lambda: not is_alive(orphan))
    assert not second.is_done, "a job that was stopped is not done"
    written = first.result.stat().st_mtime_ns
    assert main(["study", "--config", str(config), "--out", str(out)]) == 0
    assert "2 jobs, 1 of them to do" in capsys.readouterr().out
    assert first.result.stat().st_mtime_ns == written
    assert "resuming behind step" in second.log.read_text()
    assert Result.read(second.result).steps == LONG
    for name in ("results.csv", "results.json", "report.html"):
        assert (out / name).is_file()


def test_ctrl_c_saves_every_job(tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = job_in(out, "relu+seed0")
    with start(write_grid(tmp_path, 10_000, ["relu", "tanh"]), out, "--workers", "1") as study:
        wait_for(lambda: is_training(job))
        study.send_signal(signal.SIGINT)
        said, _ = study.communicate()
    assert study.returncode == 128 + signal.SIGINT, said
    assert "relu+seed0  stopped" in said
    assert "tanh+seed0" not in said
    assert "0 jobs done, 2 left; go on with the same command" in said
    assert not is_alive(process_of(job))
    assert not job_in(out, "tanh+seed0").log.exists(), "no other job was begun"


def test_a_study_ends_when_its_minutes_are_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = write_grid(tmp_path, 100_000, ["relu"]), tmp_path / "out"
    job = job_in(out, "relu+seed0")
    minutes = 0.1
    while not any(job.run.checkpoints.glob("step-*")):  # on a machine so busy that nothing was begun, once more
        assert main(["study", "--config", str(config), "--out", str(out), "--max-minutes", str(minutes)]) == 75
        minutes *= 2
    assert not job.is_done
    assert "0 jobs done, 1 left; go on with the same command" in capsys.readouterr().out
    assert main(["study", "--config", str(config), "--out", str(out), "--max-minutes", "0"]) == 75
