"""A job's result holds what the questions need, and what cannot be used is named."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fused_gan.cli.main import main
from fused_gan.evaluation import Evaluation, evaluate
from fused_gan.study import StudyFolder, job, load_study, process
from fused_gan.study.folder import JobFolder
from fused_gan.study.job import run_job
from fused_gan.systems.system import System
from helpers.studies import write_grid


def first_job(config: Path, out: Path) -> JobFolder:
    """The folder of a study's first job, which is told what to do."""
    folder, study = StudyFolder(out), load_study(config)
    folder.make()
    folder.begin(study)
    first = folder.job(study.jobs()[0].name)
    first.create(study.jobs()[0])
    return first


def test_a_job_that_fails_is_named_and_holds_up_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = {"data": {"none": {"data": str(tmp_path / "none.npz")}, "some": {}}}
    config, out = write_grid(tmp_path, 20, axes=axes), tmp_path / "out"
    assert main(["study", "--config", str(config), "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert f"failed: {StudyFolder(out).job('none+seed0').path}; see its log.txt" in said
    assert "none.npz' is not a file" in StudyFolder(out).job("none+seed0").log.read_text()
    assert StudyFolder(out).job("some+seed0").is_done


def test_a_result_holds_what_the_questions_need(tmp_path: Path) -> None:
    config, out = write_grid(tmp_path, 30, ["relu"]), tmp_path / "out"
    only, study = first_job(config, out), load_study(config)
    assert run_job(only, 1, "cpu") == 0
    [result] = StudyFolder(out).results(study)
    assert result.settings == {"activation": "relu"}
    assert (result.start["step"], result.end["step"], result.steps) == (1, 30, 30)
    looks = [json.loads(line) for line in only.run.health.read_text().splitlines()]
    assert result.end == looks[-1]
    assert set(result.start["gradient_norms"]) == set(result.end["gradient_norms"])
    assert set(result.end["dead"]) == {"generator.1"}
    assert set(result.end["negative"]) == {"discriminator.2"}
    assert result.value("fd") > 0
    assert result.seconds > 0
    assert result.succeeded(study.success) == (not result.verdicts)
    written = only.result.stat().st_mtime_ns
    assert run_job(only, 1, "cpu") == 0
    assert only.result.stat().st_mtime_ns == written


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


def test_a_job_is_evaluated_where_it_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def seen(run: Path, **options: Any) -> Evaluation:
        devices.append(options["device"])
        return evaluate(run, **options)

    monkeypatch.setattr(job, "evaluate", seen)
    assert run_job(first_job(write_grid(tmp_path, 20), tmp_path / "out"), 1, "cpu") == 0
    assert devices == ["cpu"]


def test_a_job_goes_on_with_the_threads_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, threads = first_job(write_grid(tmp_path, 20), tmp_path / "out"), torch.get_num_threads()
    take = System.step

    def interrupted(system: System) -> None:
        take(system)
        if system.steps_done == 10:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(System, "step", interrupted)
            assert run_job(begun, 1, "cpu") == process.STOPPED
        assert run_job(begun, 2, "cpu") == 0
        assert torch.get_num_threads() == begun.run.read_config().training["threads"] == 2
    finally:
        torch.set_num_threads(threads)


def test_what_a_killed_job_left_is_removed_by_the_next_process_of_the_job(tmp_path: Path) -> None:
    begun = first_job(write_grid(tmp_path, 20), tmp_path / "out")
    (begun.path / ".result.json.1.tmp").write_text("half of it")
    begun.create(begun.read_job())
    assert (begun.path / ".result.json.1.tmp").is_file(), "a study does not know whether its writer still writes it"
    assert run_job(begun, 1, "cpu") == 0
    assert not (begun.path / ".result.json.1.tmp").exists()


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
    assert "was begun with other fields than grid has now: steps was 20, is 25" in capsys.readouterr().err
    write_grid(tmp_path, 20, ["relu", "tanh"], seeds=2, evaluation={"samples": 200, "extractor": "mnist-5k"})
    assert main(command) == 75, "more settings, more seeds and another evaluation are welcome"
    StudyFolder(out).job("relu+seed0").result.write_text('{"format": "fused_gan study result 0"}')
    assert main(command) == 2
    assert "expected 'fused_gan study result 1', got 'fused_gan study result 0'; remove it" in capsys.readouterr().err
