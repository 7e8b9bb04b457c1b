"""An extractor is trained from a seed, measured on images it has not seen, and read from a file that is checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fused_gan.base.errors import UserError
from fused_gan.cli.main import main
from fused_gan.data import load
from fused_gan.data.datasets import FASHION_MNIST
from fused_gan.evaluation import SHIPPED, Extractor, ExtractorError, load_extractor, train_extractor
from fused_gan.evaluation.classifier import Classifier
from helpers.saved import Payload
from helpers.small_data import small_extractor, write_squares


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_squares(tmp_path_factory.mktemp("data") / "squares.npz")


@pytest.fixture(scope="module")
def trained(squares: str) -> tuple[Path, Extractor]:
    path = Path(squares).with_name("squares.safetensors")
    return path, small_extractor(squares, path)


def test_training_learns_the_classes_and_says_how_well(squares: str, trained: tuple[Path, Extractor]) -> None:
    _, extractor = trained
    about = extractor.about
    assert (about.data, about.image_shape, about.classes) == ("squares.npz", (1, 8, 8), 4)
    assert (about.trained_on, about.held_out, about.seed) == (320, 80, 0)
    assert about.accuracy > 0.9
    data = load(squares)
    assert data.labels is not None
    right = (extractor.logits(data.images).argmax(1) == data.labels).double().mean().item()
    assert right == pytest.approx(about.accuracy, abs=0.06)


def test_features_are_what_the_logits_come_from(squares: str, trained: tuple[Path, Extractor]) -> None:
    _, extractor = trained
    images = load(squares).images
    features = extractor.features(images)
    assert features.shape == (400, extractor.about.num_features)
    assert features.min() >= 0
    assert features.square().mean().item() == pytest.approx(1, abs=0.1), "one scale for all extractors"
    assert torch.equal(extractor.logits_of(features), extractor.logits(images))
    torch.testing.assert_close(extractor.features(images[7:9]), features[7:9], rtol=1e-4, atol=1e-5)


def test_a_file_gives_back_what_was_trained(squares: str, trained: tuple[Path, Extractor]) -> None:
    path, extractor = trained
    again = load_extractor(path)
    assert (again.about, again.hash, again.name) == (extractor.about, extractor.hash, extractor.name)
    assert again.name == f"squares.npz classifier {again.hash[:8]}"
    images = load(squares).images
    assert torch.equal(again.features(images), extractor.features(images))


def test_the_seed_decides_and_nothing_else_does(squares: str, tmp_path: Path) -> None:
    def made(seed: int) -> str:
        return train_extractor(squares, tmp_path / "made.safetensors", steps=3, seed=seed).hash

    before = torch.get_rng_state()
    first = made(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert made(1) == first
    assert made(2) != first


@pytest.mark.parametrize(("name", "accuracy"), [("mnist-5k", 0.97), ("fashion-mnist", 0.88)])
def test_those_that_ship_are_small_and_good(name: str, accuracy: float) -> None:
    extractor = load_extractor(name)
    assert extractor.about.data == name
    assert extractor.about.image_shape == (1, 28, 28)
    assert extractor.about.accuracy > accuracy
    assert SHIPPED[name].stat().st_size < 300_000


def test_the_digits_one_reads_digits() -> None:
    data = load("mnist-5k")
    assert data.labels is not None
    extractor = load_extractor("mnist-5k")
    assert (extractor.logits(data.images).argmax(1) == data.labels).double().mean().item() > 0.97


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="apt install dataset-fashion-mnist")
def test_the_fashion_one_reads_the_test_images_of_its_data() -> None:
    data = load(str(FASHION_MNIST / "t10k-images-idx3-ubyte.gz"))
    assert data.labels is not None
    extractor = load_extractor("fashion-mnist")
    right = (extractor.logits(data.images).argmax(1) == data.labels).double().mean().item()
    assert right > 0.88
    assert right == pytest.approx(extractor.about.accuracy, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (1, 5, 7), (3, 64, 64)])
def test_any_shape_of_images_has_its_classifier(shape: tuple[int, int, int]) -> None:
    assert Classifier(shape, 3)(torch.zeros(2, *shape)).shape == (2, 3)


def test_images_of_another_shape_are_refused(trained: tuple[Path, Extractor]) -> None:
    _, extractor = trained
    with pytest.raises(UserError, match=r"takes images of 1×8×8, got 3×9×9; train one .*--channels 3 --image-size 9"):
        extractor.features(torch.zeros(2, 3, 9, 9, dtype=torch.uint8))


def test_a_foreign_or_damaged_file_is_named(tmp_path: Path, trained: tuple[Path, Extractor]) -> None:
    whole = trained[0].read_bytes()
    path, trap = tmp_path / "bad.safetensors", tmp_path / "trap"
    torch.save(Payload(trap), tmp_path / "malicious")
    for content in (b"", whole[:500], whole[:-1], b"no extractor" * 99, (tmp_path / "malicious").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ExtractorError, match=r"bad\.safetensors: damaged, cut short, or not a safetensors file"):
            load_extractor(path)
    assert not trap.exists()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(ExtractorError, match="damaged, its weights do not match their checksum"):
        load_extractor(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ExtractorError, match="expected a file of format 'fused_gan extractor 1', got None"):
        load_extractor(path)
    weights = load_file(trained[0])
    metadata = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    save_file(weights, path, metadata | {"about": metadata["about"].replace('"classes": 4', '"classes": 5')})
    with pytest.raises(ExtractorError, match="its weights and its description do not fit"):
        load_extractor(path)
    with pytest.raises(ExtractorError, match="none of fashion-mnist, mnist-5k and cannot be read as a file: No such"):
        load_extractor("cifar")


def test_data_that_teaches_no_classes_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "made.safetensors"
    path = tmp_path / "data.npz"
    for labels, message in (
        (np.zeros(50, np.int64), "has one class only"),
        (np.arange(50) // 48, "has 2 images of class 1; each needs 5 or more"),
        (np.arange(50) % 4 - 1, "has a negative class label"),
    ):
        np.savez(path, images=np.zeros((50, 8, 8), np.uint8), labels=labels)
        with pytest.raises(UserError, match=message):
            train_extractor(str(path), out)
    with pytest.raises(UserError, match=r"expected a name ending in \.safetensors, got made\.pth"):
        train_extractor(str(path), tmp_path / "made.pth")
    with pytest.raises(UserError, match="steps: expected a positive integer, got 0"):
        train_extractor(str(path), out, steps=0)
    assert not out.exists()


def test_the_command_trains_one_and_prints_its_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_squares(tmp_path / "squares.npz", size=6)
    assert main(["extractor", "--data", "squares.npz", "--image-size", "8", "--steps", "60", "--device", "cpu"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    made = load_extractor(Path("extractor-squares.safetensors"))
    assert made.about.image_shape == (1, 8, 8)
    assert first == f"{made.name}: accuracy {made.about.accuracy:.2%} on 80 images held out of squares.npz"
    assert last == "extractor: extractor-squares.safetensors"
    elsewhere = tmp_path / "new" / "made.safetensors"
    words = ["extractor", "--data", "squares.npz", "--steps", "1", "--device", "cpu", "--out", str(elsewhere)]
    assert main(words) == 0
    assert elsewhere.is_file()
    assert main(["extractor", "--data", "nothing"]) == 2
    assert "data: 'nothing' is not a file, a folder" in capsys.readouterr().err
