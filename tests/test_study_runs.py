"""A study comes to its end whatever is killed, does nothing twice, and stops when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import write_grid

from fused_gan.cli import main
from fused_gan.study import Result
from fused_gan.study.folder import JobFolder, StudyFolder
from fused_gan.study.grid import load_study
from fused_gan.study.job import run_job

LONG = 3000  # steps, some seconds


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


def test_a_job_that_is_killed_goes_on_and_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = job_in(out, "relu+seed0")
    with start(write_grid(tmp_path, LONG, ["relu"]), out) as study:
        wait_for(lambda: is_training(job))
        os.kill(process_of(job), signal.SIGKILL)
        said, _ = study.communicate()
    assert study.returncode == 0, said
    assert "1/1  relu+seed0  done  fd " in said
    assert "resuming behind step" in job.log.read_text()
    assert Result.read(job.result).steps == LONG
    for name in ("results.csv", "results.json", "report.html"):
        assert (out / name).is_file()


def test_a_study_that_is_killed_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = write_grid(tmp_path, LONG, ["relu", "tanh"]), tmp_path / "out"
    first, second = job_in(out, "relu+seed0"), job_in(out, "tanh+seed0")
    with start(config, out, "--workers", "1") as study:
        wait_for(lambda: is_training(second))
        assert main(["study", "--config", str(config), "--out", str(out)]) == 2
        assert f"another study is running in {out}" in capsys.readouterr().err
        orphan = process_of(second)
        study.kill()
    wait_for(lambda: not is_alive(orphan))
    assert first.is_done
    assert not second.is_done, "a job that was stopped is not done"
    written = first.result.stat().st_mtime_ns
    assert main(["study", "--config", str(config), "--out", str(out)]) == 0
    assert "2 jobs, 1 of them to do" in capsys.readouterr().out
    assert first.result.stat().st_mtime_ns == written
    assert "resuming behind step" in second.log.read_text()
    assert Result.read(second.result).steps == LONG
    assert main(["study", "--config", str(config), "--out", str(out)]) == 0
    assert "2 jobs, 0 of them to do" in capsys.readouterr().out


def test_ctrl_c_saves_every_job(tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = job_in(out, "relu+seed0")
    with start(write_grid(tmp_path, 20_000, ["relu", "tanh"]), out, "--workers", "1") as study:
        wait_for(lambda: is_training(job))
        study.send_signal(signal.SIGINT)
        said, _ = study.communicate()
    assert study.returncode == 128 + signal.SIGINT, said
    assert "relu+seed0  stopped" in said
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


def test_a_job_that_fails_is_named_and_holds_up_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = {"data": {"none": {"data": str(tmp_path / "none.npz")}, "some": {}}}
    config, out = write_grid(tmp_path, 20, axes=axes), tmp_path / "out"
    assert main(["study", "--config", str(config), "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert f"failed: {job_in(out, 'none+seed0').path}; see its log.txt" in said
    assert "none.npz' is no file" in job_in(out, "none+seed0").log.read_text()
    assert job_in(out, "some+seed0").is_done


def test_a_result_holds_what_the_questions_need(tmp_path: Path) -> None:
    study = load_study(write_grid(tmp_path, 30, ["relu"]))
    folder = StudyFolder(tmp_path / "out")
    folder.make()
    folder.begin(study)
    job = folder.job("relu+seed0")
    job.create(study.jobs()[0])
    assert run_job(job, 1, "cpu") == 0
    [result] = folder.results(study)
    assert result.settings == {"activation": "relu"}
    assert (result.start["step"], result.end["step"], result.steps) == (1, 30, 30)
    looks = [json.loads(line) for line in job.run.health.read_text().splitlines()]
    assert result.end == looks[-1]
    assert set(result.start["gradient_norms"]) == set(result.end["gradient_norms"])
    assert set(result.end["dead"]) == {"generator.0"}
    assert set(result.end["negative"]) == {"discriminator.1"}
    assert result.value("fd") > 0
    assert result.seconds > 0
    assert result.succeeded(study.success) == (not result.verdicts)
    written = job.result.stat().st_mtime_ns
    assert run_job(job, 1, "cpu") == 0
    assert job.result.stat().st_mtime_ns == written


def test_a_run_that_diverges_is_a_result_without_a_score(tmp_path: Path) -> None:
    grid = json.loads(write_grid(tmp_path, 30, ["relu"]).read_text())
    study = load_study(write_grid(tmp_path, fields=grid["fields"] | {"lr": 1e30}))
    folder = StudyFolder(tmp_path / "out")
    folder.job("relu+seed0").create(study.jobs()[0])
    assert run_job(folder.job("relu+seed0"), 1, "cpu") == 0
    [result] = folder.results(study)
    assert "training diverged" in result.diverged
    assert result.value("fd") != result.value("fd")
    assert not result.succeeded(study.success)


def test_folders_of_something_else_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = write_grid(tmp_path, 20, ["relu"]), tmp_path / "out"
    command = ["study", "--config", str(config), "--out", str(out), "--max-minutes", "0"]
    out.mkdir()
    (out / "thesis.tex").write_text("all of it")
    assert main(command) == 2
    assert f"{out} is neither empty nor the folder of a study" in capsys.readouterr().err
    (out / "thesis.tex").unlink()
    assert main(command) == 75
    write_grid(tmp_path, 25, ["relu"])
    assert main(command) == 2
    assert "was begun with other fields than grid has now; name a new folder" in capsys.readouterr().err
    write_grid(tmp_path, 20, ["relu", "tanh"], seeds=2)
    assert main(command) == 75, "more settings and more seeds are welcome"
    job = job_in(out, "relu+seed0")
    job.result.write_text('{"format": "fused_gan study result 0"}')
    assert main(command) == 2
    assert "expected 'fused_gan study result 1', got 'fused_gan study result 0'; remove it" in capsys.readouterr().err
