"""Data that has moved, runs that may only be read, and one meaning of --checkpoint in every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fused_gan.base.errors import UserError
from fused_gan.cli.main import main
from fused_gan.training import resume, train
from fused_gan.training.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from fused_gan.training.evaluate import evaluate
from fused_gan.training.load import load_sampler
from helpers.small_runs import QUIET, options, write_patches


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a run of 20 steps and its data."""
    train(options("mlp-gan", write_patches(tmp_path / "patches.npz"), tmp_path / "run", 20), console=QUIET)
    return tmp_path


def test_data_that_has_moved_is_named_anew(place: Path) -> None:
    (place / "patches.npz").rename(place / "moved.npz")
    with pytest.raises(UserError, match=r"data: .*patches\.npz is not there; if the images have moved, .* with --data"):
        resume(place / "run", steps=22, console=QUIET)
    assert main(["resume", str(place / "run"), "--steps", "25", "--data", str(place / "moved.npz")]) == 0
    assert resume(place / "run", steps=30, console=QUIET).steps_done == 30, "the new place is kept"


def test_other_images_of_the_same_number_and_size_are_refused(place: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(place / "other.npz", images=pixels, labels=np.arange(60) % 3)
    with pytest.raises(UserError, match=r"data: .* does not hold the images that the run was begun with; .* --data"):
        resume(place / "run", steps=30, data=str(place / "other.npz"), console=QUIET)
    shutil.copy(place / "other.npz", place / "patches.npz")
    with pytest.raises(UserError, match="does not hold the images"):
        resume(place / "run", steps=30, console=QUIET)


def test_a_run_that_recorded_no_checksum_goes_on_and_says_that_its_images_are_not_checked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a picture with more than 8 bits per value, an earlier version read other pixels."""
    for file in (place / "run" / "checkpoints").iterdir():
        loaded = load_checkpoint(file)
        del loaded.config["data_sha256"]
        save_checkpoint(file, loaded.config, loaded.state)
    told = (
        f"not checked: the run recorded no checksum of the images in {place / 'patches.npz'}; its version may have read"
    )
    assert main(["resume", str(place / "run"), "--steps", "30"]) == 0
    assert told in capsys.readouterr().out
    assert main(["resume", str(place / "run"), "--steps", "40"]) == 0
    assert "not checked" not in capsys.readouterr().out, "it recorded one when it went on"


@pytest.mark.parametrize("preset", ["mlp-gan", "cgan"])
def test_a_class_that_is_gone_is_named(preset: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    for name, classes in (("all", 3), ("fewer", 2)):
        names = {"class_names": ["ant", "bee", "wasp"][:classes]}
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=np.arange(60) % classes, **names)
    train(options(preset, str(tmp_path / "all.npz"), tmp_path / "run", 10), console=QUIET)
    message = r"fewer\.npz does not hold the images .*: it lacks the class wasp, and has ant, bee; .* --data"
    with pytest.raises(UserError, match=message):
        resume(tmp_path / "run", steps=20, data=str(tmp_path / "fewer.npz"), console=QUIET)


def test_a_relative_path_survives_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_patches(tmp_path / "patches.npz")
    monkeypatch.chdir(tmp_path)
    train(options("mlp-gan", "patches.npz", Path("run"), 10), console=QUIET)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert resume(tmp_path / "run", steps=20, console=QUIET).steps_done == 20


NAMES: dict[str, Callable[[Path], str]] = {
    "last": lambda run: "last",
    "best": lambda run: "best",
    "a name": lambda run: "step-0000010.safetensors",
    "a name without its ending": lambda run: "step-0000010",
    "a name without its zeros": lambda run: "step-10",
    "a path": lambda run: str(run / "checkpoints" / "step-0000010.safetensors"),
    "a path without its ending": lambda run: str(run / "checkpoints" / "step-0000010"),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_command_means_the_same_by_a_checkpoint(name: Callable[[Path], str], place: Path) -> None:
    run = place / "run"
    given = name(run)
    expected = {"last": "step-0000020.safetensors", "best": "best.safetensors"}.get(given, "step-0000010.safetensors")
    weights = load_checkpoint(run / "checkpoints" / expected).state["averaged_generator"]
    found = load_sampler(run, torch.device("cpu"), given).network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights.items())
    for command in ("sample", "interpolate"):
        assert main([command, str(run), "--checkpoint", given, "--out", str(place / command)]) == 0
    with pytest.raises(UserError, match=r"^extractor: none ships"):
        evaluate(run, checkpoint=given, samples=20)
    copy = place / "copy"
    shutil.copytree(run, copy)
    assert resume(copy, steps=30, checkpoint=name(copy), console=QUIET).steps_done == 30


def test_a_run_goes_on_from_its_own_checkpoints_alone(place: Path) -> None:
    other = place / "other"
    shutil.copytree(place / "run", other)
    path = Checkpoints(other / "checkpoints", keep=1).last()
    expected = rf"checkpoint: expected a file in .*run/checkpoints \(best, .*{path.stem}\), got {path}"
    with pytest.raises(UserError, match=expected):
        resume(place / "run", steps=30, checkpoint=str(path), console=QUIET)
    with pytest.raises(UserError, match=expected):
        load_sampler(place / "run", torch.device("cpu"), str(path))
    with pytest.raises(UserError, match=expected):
        evaluate(place / "run", checkpoint=str(path), samples=20)
    with pytest.raises(UserError, match=r"expected a file in .*, got nonsense"):
        load_sampler(place / "run", torch.device("cpu"), "nonsense")


def test_an_evaluation_without_the_images_says_where_to_name_them(place: Path) -> None:
    (place / "patches.npz").unlink()
    with pytest.raises(UserError, match=r"^data: .*patches.npz is not there; if the images have moved, .* --data"):
        evaluate(place / "run", samples=20)


def test_a_run_that_saved_its_best_alone_says_how_to_take_that(place: Path) -> None:
    run = place / "run"
    for path in Checkpoints(run / "checkpoints", keep=1).all():
        path.unlink()
    with pytest.raises(UserError, match=r"holds no checkpoint but best.safetensors; take it with --checkpoint best"):
        resume(run, steps=30, console=QUIET)
    assert resume(run, steps=30, checkpoint="best", console=QUIET).steps_done == 30


@pytest.mark.parametrize("change", ["a field of the model", "a field of the training", "the state"])
def test_a_run_of_a_newer_version_says_so_in_every_command(change: str, place: Path) -> None:
    run = place / "run"
    for file in (run / "checkpoints").iterdir():
        loaded = load_checkpoint(file)
        loaded.config["versions"]["fused_gan"] = "99.1"
        if change == "the state":
            loaded.state["generator"] = {"stem.weight": torch.ones(3)}
            loaded.state["averaged_generator"] = {"stem.weight": torch.ones(3)}
        else:
            loaded.config[change.split()[-1]]["of_tomorrow"] = 1
        save_checkpoint(file, loaded.config, loaded.state)
    commands: dict[str, Callable[[], object]] = {
        "resume": lambda: resume(run, steps=30, console=QUIET),
        "sample": lambda: load_sampler(run, torch.device("cpu")),
        "evaluate": lambda: evaluate(run, samples=20),
    }
    if change == "a field of the training":
        del commands["sample"]  # which does not read it
    for command in commands.values():
        with pytest.raises(UserError, match=r"written by fused_gan 99\.1, "):
            command()


def test_a_run_that_may_only_be_read_is_evaluated_into_another_file(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "scores.json"
    train(options("mlp-gan", "digits", run, 10), console=QUIET)
    before = sorted(run.rglob("*"))
    assert main(["extractor", "--data", "digits", "--steps", "3", "--out", str(tmp_path / "e.safetensors")]) == 0
    words = ["--extractor", str(tmp_path / "e.safetensors"), "--samples", "100", "--device", "cpu", "--out", str(out)]
    assert main(["evaluate", str(run), *words]) == 0
    assert json.loads(out.read_text())["evaluations"][0]["settings"]["checkpoint"] == "step-0000010.safetensors"
    assert sorted(run.rglob("*")) == before
