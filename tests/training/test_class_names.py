"""A class keeps its meaning: names go with labels through training, samples, evaluation and resumption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fused_gan.base.errors import UserError
from fused_gan.cli.main import main
from fused_gan.data import ImageData, load
from fused_gan.evaluation import evaluate, train_extractor
from fused_gan.training import Checkpoint, Checkpoints, load_checkpoint, load_sampler, resume, save_checkpoint, train
from helpers.commands import refused
from helpers.small_data import write_squares
from helpers.small_runs import QUIET, options

NAMES = ("ant", "bee", "2", "10")  # in the order of a folder's classes: 2, 10, ant, bee
CLASSES = ("2", "10", "ant", "bee")


def write_folders(folder: Path, count: int, without: tuple[str, ...] = (), seed: int = 0) -> str:
    """One folder of squares per class, each class with its square in a corner of its own."""
    folder.mkdir(exist_ok=True)
    data = load(write_squares(folder / "squares.npz", count, seed=seed))
    (folder / "squares.npz").unlink()
    assert data.labels is not None
    for index, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        if NAMES[label] not in without:
            (folder / NAMES[label]).mkdir(exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / NAMES[label] / f"{index:04d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with training data, a run of 20 steps, held-out data without a class, and an extractor."""
    place = tmp_path_factory.mktemp("classes")
    data = write_folders(place / "data", 400)
    train(options("cgan", data, place / "run", 20), console=QUIET)
    write_folders(place / "held-out", 400, without=("2",), seed=1)
    train_extractor(data, place / "squares.safetensors", steps=60)
    return place


def before_names(run: Path) -> None:
    """Make a run's files as they were before names were recorded."""
    config = json.loads((run / "config.json").read_text())
    assert config.pop("class_names")
    (run / "config.json").write_text(json.dumps(config))
    for path in (run / "checkpoints").iterdir():
        loaded = load_checkpoint(path)
        del loaded.config["class_names"]
        save_checkpoint(path, loaded.config, loaded.state)


def with_classes_reversed(state: Any) -> Any:
    """A state whose embeddings of the four classes, and what optimizers know of them, are in the reverse order."""
    if isinstance(state, dict):
        return {name: with_classes_reversed(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(with_classes_reversed, state))
    return state.flip(0) if isinstance(state, torch.Tensor) and state.shape == (4, 16) else state


def asked_classes(monkeypatch: pytest.MonkeyPatch, run: Path, **arguments: Any) -> set[int]:
    """The labels whose images an evaluation asks the generator for."""
    from fused_gan.models.sampler import Sampler

    asked: set[int] = set()
    sample = Sampler.sample

    def noted(sampler: Sampler, count: int, seed: int, labels: Any = None, truncation: Any = None) -> Any:
        asked.update(labels.tolist())
        return sample(sampler, count, seed, labels, truncation)

    monkeypatch.setattr(Sampler, "sample", noted)
    evaluate(run, device="cpu", samples=129, **arguments)
    return asked


def test_names_are_in_the_configuration_and_in_the_checkpoint(place: Path) -> None:
    config = json.loads((place / "run" / "config.json").read_text())
    assert config["class_names"] == list(CLASSES)
    assert config["classes"] == 4
    last = Checkpoints(place / "run" / "checkpoints", keep=1).last()
    assert load_checkpoint(last).config["class_names"] == list(CLASSES)
    assert load_sampler(place / "run", torch.device("cpu")).class_names == CLASSES


def test_the_first_line_of_a_run_says_the_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data" / "notes [old].txt").write_text("?")
    options = ["--data", str(place / "data"), "--steps", "1", "--out", str(place / "short"), "--no-tensorboard"]
    assert main(["train", "cgan", *options, "--device", "cpu"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert f"400 images of 1×8×8 from {place / 'data'} in 4 classes (2 100, 10 100, ant 100, bee 100)" in first
    assert second == "passed over: files with other endings: 1 (notes [old].txt)"


def test_samples_are_asked_for_by_name(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(place / "run"), str(tmp_path)
    assert main(["sample", run, "--count", "4", "--labels", "bee", "10", "--out", out, "--device", "cpu"]) == 0
    read = load(str(tmp_path / "samples-seed0-count4.npz"))
    assert read.labels is not None
    assert [read.class_names[label] for label in read.labels] == ["bee", "10", "bee", "10"]
    made = load_sampler(place / "run", torch.device("cpu")).sample(4, 0, torch.tensor([3, 1, 3, 1]))
    assert np.array_equal(read.images, made)
    capsys.readouterr()
    error = refused(capsys, ["sample", run, "--labels", "bee", "wasp", "0", "--device", "cpu"])
    assert "labels: expected classes of the run (2, 10, ant, bee), got wasp, 0" in error


def test_a_labelled_data_set_has_folders_of_these_names(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    arguments = ["--as-dataset", str(out), "--count", "6", "--labels", "bee", "2", "--device", "cpu"]
    assert main(["sample", str(place / "run"), *arguments]) == 0
    assert {path.name: len(list(path.iterdir())) for path in out.iterdir() if path.is_dir()} == {
        "002": 3, "010": 0, "ant": 0, "bee": 3,
    }  # fmt: skip
    assert set(load(str(out)).matched(CLASSES, "made").labels.tolist()) == {0, 3}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "lost+found"])
def test_a_name_that_no_folder_can_have_is_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(60) % 2, class_names=["bee", name])
    train(options("cgan", str(tmp_path / "a.npz"), tmp_path / "run", 1), console=QUIET)
    error = refused(capsys, ["sample", str(tmp_path / "run"), "--as-dataset", str(tmp_path / "new" / "set")])
    assert f"as_dataset: expected names of classes that folders can have, got {name!r}" in error
    assert not (tmp_path / "new").exists()


def test_held_out_data_that_lacks_a_class_is_matched_by_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"data": str(place / "held-out"), "extractor": place / "squares.safetensors"}
    assert asked_classes(monkeypatch, place / "run", **arguments) == {1, 2, 3}


def test_an_unknown_class_is_an_error_that_names_it(place: Path, tmp_path: Path) -> None:
    write_folders(tmp_path / "more", 400, seed=1)
    (tmp_path / "more" / "ant").rename(tmp_path / "more" / "wasp")
    with pytest.raises(UserError, match=r"data: expected classes of the run \(2, 10, ant and 1 more\), got wasp in "):
        evaluate(
            place / "run",
            device="cpu",
            samples=129,
            data=str(tmp_path / "more"),
            extractor=place / "squares.safetensors",
        )


def test_a_run_goes_on_with_its_own_numbers(place: Path, tmp_path: Path) -> None:
    """Even if the checkpoint's order of classes is not that of a new run."""
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-0000010.safetensors"
    loaded = load_checkpoint(path)
    loaded.config["class_names"] = list(reversed(CLASSES))
    assert loaded.state["generator"]["embedding.weight"].shape == (4, 16)
    loaded = Checkpoint(loaded.config, with_classes_reversed(loaded.state))
    save_checkpoint(path, loaded.config, loaded.state)
    resume(tmp_path / "run", checkpoint=path.name, console=QUIET)
    states = [
        load_checkpoint(folder / "run" / "checkpoints" / "step-0000020.safetensors").state["generator"]
        for folder in (place, tmp_path)
    ]
    assert torch.equal(states[0]["embedding.weight"], states[1]["embedding.weight"].flip(0))
    assert load_sampler(tmp_path / "run", torch.device("cpu")).class_names == tuple(reversed(CLASSES))


def test_a_run_that_recorded_no_names_goes_on_as_it_was_numbered(place: Path, tmp_path: Path) -> None:
    """Then text ordered the folders: 10, 2, ant, bee."""
    shutil.copytree(place / "run", tmp_path / "run")
    before_names(tmp_path / "run")
    assert load_sampler(tmp_path / "run", torch.device("cpu")).class_names == ("0", "1", "2", "3")
    resume(tmp_path / "run", steps=30, console=QUIET)
    assert load_sampler(tmp_path / "run", torch.device("cpu")).class_names == ("10", "2", "ant", "bee")


def test_a_run_that_recorded_no_names_is_evaluated_by_the_names_of_its_data(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    before_names(tmp_path / "run")
    arguments = {"data": str(place / "held-out"), "extractor": place / "squares.safetensors"}
    assert asked_classes(monkeypatch, tmp_path / "run", **arguments) == {0, 2, 3}, "2 was the second"


def test_values_of_labels_are_the_numbers_of_a_run_that_recorded_no_names(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    data = ImageData.from_arrays("a", images, np.arange(60) % 2 * 2 + 1)
    assert data.former_names(5, "a") == ("unnamed 0", "1", "unnamed 2", "3", "unnamed 4")
    with pytest.raises(UserError, match="data: the run knows 3 classes and not their names, a has other ones: 1, 3"):
        data.former_names(3, "a")


def test_a_run_on_emnist_as_it_was_read_before_says_that_it_cannot_go_on(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    path = tmp_path / "emnist-letters-train-images-idx3-ubyte"
    path.write_bytes(bytes((0, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 8, 0, 0, 0, 8)) + images.tobytes())
    for name in ("mlp-gan", "mlp-vae"):
        out = tmp_path / name
        train(options(name, str(path), out, 10, health_interval=0), console=QUIET)
        resume(out, steps=20, console=QUIET)
        for file in (out / "checkpoints").iterdir():
            loaded = load_checkpoint(file)
            loaded.config.pop("class_names")
            save_checkpoint(file, loaded.config, loaded.state)
        with pytest.raises(
            UserError, match=r"data: the run was begun by a version that read the images of .* transposed"
        ):
            resume(out, steps=30, console=QUIET)
        load_sampler(out, torch.device("cpu")).sample(1, 0)


def test_few_classes_with_distant_labels_make_few_weights(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "far.npz", images=images, labels=np.arange(60) % 2 * 10**9 + 1)
    train(options("cgan", str(tmp_path / "far.npz"), tmp_path / "run", 2), console=QUIET)
    sampler = load_sampler(tmp_path / "run", torch.device("cpu"))
    assert (sampler.classes, sampler.class_names) == (2, ("1", "1000000001"))
    assert main(["sample", str(tmp_path / "run"), "--count", "4", "--device", "cpu"]) == 0
    with np.load(tmp_path / "run" / "samples-seed0-count4.npz") as archive:
        assert archive["labels"].tolist() == [1, 1000000001] * 2
