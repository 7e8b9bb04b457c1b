"""Pictures without labels are evaluated too, with an extractor that learned in which position an image is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fused_gan.cli.main import main
from fused_gan.data import load
from fused_gan.evaluation import load_extractor
from fused_gan.evaluation.train_extractor import in_positions, train_extractor


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Digits of scikit-learn without their labels."""
    digits = load("digits")
    np.savez(tmp_path / "pictures.npz", images=digits.images[:, 0].numpy())
    return str(tmp_path / "pictures.npz")


@pytest.mark.parametrize("size", [(4, 4), (4, 6)], ids=str)
def test_each_image_is_shown_in_four_positions(size: tuple[int, int]) -> None:
    images = torch.arange(2 * 3 * size[0] * size[1], dtype=torch.uint8).reshape(2, 3, *size)
    shown, positions = in_positions(images)
    assert shown.shape == (8, 3, *size)
    assert positions.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(shown[:2], images)
    assert len({tuple(image.flatten().tolist()) for image in shown}) == 8


def test_an_extractor_learns_without_labels(pictures: str, tmp_path: Path) -> None:
    about = train_extractor(pictures, tmp_path / "extractor.safetensors", steps=300).about
    assert about.told_apart == "positions"
    assert about.accuracy > 0.5, "a guess is right in a quarter of all cases"
    assert load_extractor(tmp_path / "extractor.safetensors").about == about


def test_the_remedy_that_evaluate_names_works(
    pictures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--steps", "5", "--device", "cpu", "--no-tensorboard", "--generator-widths", "16"]
    assert main(["train", "mlp-gan", "--data", pictures, "--out", "run", *small]) == 0
    capsys.readouterr()
    evaluate = ["evaluate", "run", "--samples", "100", "--device", "cpu"]
    assert main(evaluate) == 2
    _, remedy = capsys.readouterr().err.split("train one with: fused-gan ")
    words = remedy.split(", and give it")[0].replace("FILE", "extractor.safetensors").split()
    assert main([*words, "--steps", "30"]) == 0
    assert main([*evaluate, "--extractor", "extractor.safetensors"]) == 0
    [found] = json.loads(Path("run", "evaluation.json").read_text())["evaluations"]
    assert math.isfinite(found["values"]["fd"])
    assert "classifier_score" not in found["values"], "there are no classes"
    best = ["--best-metric", "classifier_score", "--extractor", "extractor.safetensors"]
    assert main(["train", "mlp-gan", "--data", pictures, "--out", "other", *small, *best]) == 2
    assert "best_metric: classifier_score needs classes, and the pictures.npz classifier" in capsys.readouterr().err
