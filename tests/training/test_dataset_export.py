"""A conditional system's images leave as a labelled data set that is read back as it was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fused_gan.cli.main import main
from fused_gan.data import load
from fused_gan.training import load_sampler, train
from helpers.small_runs import QUIET, options


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 random images of 12 classes."""
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(60) % 12)
    return path


@pytest.fixture(scope="module")
def cgan(data: Path) -> Path:
    """The folder of a run."""
    preset = options("cgan", str(data), data.parent / "cgan", 10)
    train("cgan", preset.model, preset.training, QUIET)
    return data.parent / "cgan"


def test_what_is_written_is_read_back(cgan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fakes"
    assert main(["sample", str(cgan), "--as-dataset", str(out), "--count", "1500", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"data set: {out}"
    read = load(str(out))
    made = load_sampler(cgan, torch.device("cpu")).sample(1500, seed=3)  # class i % 12, in more than one chunk
    by_class = np.concatenate([made[label::12] for label in range(12)])
    assert torch.equal(read.images, torch.from_numpy(by_class))
    assert read.labels is not None
    assert read.labels.tolist() == sorted(index % 12 for index in range(1500))
    about = json.loads((out / "dataset.json").read_text())
    assert about["format"] == "fused_gan dataset 1"
    assert about["classes"] == {f"{label:02d}": 125 for label in range(12)}, "names that sort as the classes do"
    assert (about["system"], about["seed"], about["checkpoint"]) == ("cgan", 3, "step-0000010.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fakes"], "nothing half done lies beside it"


def test_single_classes_keep_their_names(cgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(cgan), "--as-dataset", ".", "--count", "5", "--labels", "3", "11"]) == 0
    counts = {path.name: len(list(path.iterdir())) for path in Path().iterdir() if path.is_dir()}
    assert counts == {f"{label:02d}": {3: 3, 11: 2}.get(label, 0) for label in range(12)}
    read = load(".")
    assert read.labels is not None
    assert [read.class_names[label] for label in read.labels] == ["03", "03", "03", "11", "11"]


def test_what_cannot_be_done_is_said(
    cgan: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert main(["sample", str(cgan), "--as-dataset", str(full)]) == 2
    assert f"{full} exists and is not an empty folder" in capsys.readouterr().err
    assert main(["sample", str(cgan), "--as-dataset", str(tmp_path / "new"), "--labels", "12"]) == 2
    assert "labels: expected classes of the run (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), got" in capsys.readouterr().err
    assert main(["sample", str(cgan), "--as-dataset", str(tmp_path / "new"), "--out", str(tmp_path)]) == 2
    assert "it takes the place of --out and --pngs" in capsys.readouterr().err
    preset = options("mlp-gan", str(data), tmp_path / "gan", 10)
    train("mlp-gan", preset.model, preset.training, QUIET)
    assert main(["sample", str(tmp_path / "gan"), "--as-dataset", str(tmp_path / "new")]) == 2
    assert "it needs a conditional system, as cgan" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
