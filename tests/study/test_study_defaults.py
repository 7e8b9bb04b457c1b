"""A study's folder knows every field of its jobs: a default that has changed since is noticed, and named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fused_gan.base.json_files import read_json, write_json
from fused_gan.cli.main import main
from fused_gan.study import StudyFolder, load_study
from fused_gan.study.folder import JobFolder
from fused_gan.systems.presets import PRESETS
from fused_gan.training.description import RunDescription
from helpers.studies import result, write_grid

CHANGED = "was begun with other fields than grid has now: lr was 0.0002, is 0.0003"


@pytest.fixture
def begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Begin the study of a file, without time to run a job; returns the status and what was said."""

    def run(config: Path) -> tuple[int, str]:
        status = main(["study", "--config", str(config), "--out", str(tmp_path / "out"), "--max-minutes", "0"])
        return status, "".join(capsys.readouterr())

    return run


@pytest.fixture
def change_default(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the preset mlp-gan another step size, as another version of the package may."""

    def change() -> None:
        training = dataclasses.replace(PRESETS["mlp-gan"].training, lr=3e-4)
        monkeypatch.setitem(PRESETS, "mlp-gan", dataclasses.replace(PRESETS["mlp-gan"], training=training))

    return change


def relu(tmp_path: Path) -> JobFolder:
    return StudyFolder(tmp_path / "out").job("relu+seed0")


def finish(job: JobFolder) -> None:
    """Write a result for the job that a study has made a folder for."""
    told = job.read_job()
    made = result((), told.seed, 1.0)
    made.evaluation["settings"]["reals"] = told.fields["data"]
    dataclasses.replace(made, settings=told.settings).write(job.result)


def age(job: JobFolder) -> None:
    """Make it a job of before job.json held all fields."""
    told = read_json(job.job)
    del told["configuration"]
    write_json(job.job, told)


def fields(config: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config.read_text())["fields"]
    return found


def test_a_configuration_that_is_none_is_named(tmp_path: Path, begin: Any) -> None:
    config = write_grid(tmp_path, 20)
    assert begin(config)[0] == 75
    file = relu(tmp_path).job
    write_json(file, read_json(file) | {"configuration": [1]})
    status, said = begin(config)
    assert status == 2
    assert f"{file}: configuration: expected an object, got [1]" in " ".join(said.split())


@pytest.mark.parametrize("done", [False, True])
def test_a_changed_default_is_named_and_its_old_value_goes_on(
    tmp_path: Path, begin: Any, change_default: Any, done: bool
) -> None:
    config = write_grid(tmp_path, 20)
    assert begin(config)[0] == 75
    if done:
        finish(relu(tmp_path))
    assert begin(config)[0] == 75
    change_default()
    status, said = begin(config)
    assert status == 2
    assert f"out: {relu(tmp_path).path} {CHANGED}. Write the old values into the study" in said
    config = write_grid(tmp_path, 20, fields=fields(config) | {"lr": 2e-4})
    assert begin(config)[0] == 75, "all is as it was, if it is said otherwise"
    write_grid(tmp_path, 25)
    assert "steps was 20, is 25; lr was 0.0002, is 0.0003. " in begin(config)[1]


def test_a_job_is_trained_as_it_was_begun(tmp_path: Path, begin: Any, change_default: Any) -> None:
    begin(write_grid(tmp_path, 20))
    change_default()
    assert relu(tmp_path).read_job().configured().training.lr == 2e-4


def test_where_it_computes_is_no_part_of_a_job(tmp_path: Path, begin: Any) -> None:
    config = write_grid(tmp_path, 20)
    begin(config)
    write_grid(tmp_path, 20, fields=fields(config) | {"data_place": "host", "cuda_graph": "off"})
    assert begin(config)[0] == 75


def test_other_labels_and_other_axes_are_other_jobs(tmp_path: Path, begin: Any) -> None:
    begin(write_grid(tmp_path, 20))
    axes = {"act": {label: {"activation": label} for label in ("relu", "tanh")}}
    assert 'settings was {"activation": "relu"}, is {"act": "relu"}' in begin(write_grid(tmp_path, 20, axes=axes))[1]


def test_in_an_older_folder_the_run_says_what_the_defaults_were(
    tmp_path: Path, begin: Any, change_default: Any
) -> None:
    config = write_grid(tmp_path, 20)
    begin(config)
    finish(relu(tmp_path))
    [job] = [job for job in load_study(config).jobs() if job.name == "relu+seed0"]
    run = relu(tmp_path).run
    facts = {"image_shape": (1, 28, 28), "images": 600, "classes": 0, "plans": None, "versions": {}}
    run.create(RunDescription.of(job.configured(out=run.path, device="cpu", threads=1), {}, **facts))
    age(relu(tmp_path))
    status, said = begin(config)
    assert status == 75
    assert "not checked" not in said
    change_default()
    status, said = begin(config)
    assert status == 2
    assert CHANGED in said


def test_in_an_older_folder_without_the_run_it_is_said_that_nobody_knows(
    tmp_path: Path, begin: Any, change_default: Any
) -> None:
    config = write_grid(tmp_path, 20)
    begin(config)
    for name in ("relu+seed0", "tanh+seed0"):
        job = StudyFolder(tmp_path / "out").job(name)
        finish(job)
        age(job)
        shutil.rmtree(job.run.path, ignore_errors=True)
    change_default()
    status, said = begin(config)
    assert status == 0
    assert said.count("not checked: relu+seed0, tanh+seed0 were done by a version that did not write its") == 1
    write_grid(tmp_path, 25)
    assert "has now: steps was 20, is 25. " in begin(config)[1]


def test_another_evaluation_of_what_is_done_is_named(tmp_path: Path, begin: Any) -> None:
    begin(write_grid(tmp_path, 20))
    finish(relu(tmp_path))
    status, said = begin(write_grid(tmp_path, 20, evaluation={"samples": 200}))
    assert status == 2
    assert 'was evaluated with {"samples": 300, "extractor": "mnist-5k"}, grid has now {"samples": 200}: remove' in said


def test_a_broken_record_is_named(tmp_path: Path, begin: Any) -> None:
    config = write_grid(tmp_path, 20)
    begin(config)
    relu(tmp_path).job.write_text("{}")
    status, said = begin(config)
    assert status == 2
    assert "job.json: it was written by another version" in said
