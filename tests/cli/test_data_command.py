"""`fused-gan data` says what a training would read, and a path means what its writer means."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fused_gan.cli.main import main
from fused_gan.data import load
from fused_gan.training import Checkpoints, configure
from helpers.commands import SMALL, refused

IMAGES = np.random.default_rng(0).integers(100, 256, (13, 8, 6, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures of one class and one of another, with things that are not pictures."""
    for index, image in enumerate(IMAGES):
        folder = tmp_path / "photos" / ("bee" if index else "10")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    (tmp_path / "photos" / ".cache").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("?")
    return tmp_path / "photos"


def test_it_says_shape_values_classes_and_what_is_passed_over(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    assert main(["data", "photos"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "images: 13 of 3×8×6 from photos",
        f"values: {IMAGES.min()} … {IMAGES.max()}, mean {IMAGES.mean():.1f}",
        "classes: 2",
        "  10   1",
        "  bee  12",
        "passed over:",
        "  hidden, of the system, or not files: 1 (.cache)",
        "  files with other endings: 1 (notes.txt)",
        "grid: data-photos.png",
    ]


def test_the_grid_has_a_row_for_each_class(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "grid.png"
    assert main(["data", str(photos), "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == ((10 * 8 + 2) * 8, (2 * 10 + 2) * 8)  # enlarged 8 times
        pixels = np.asarray(picture)[::8, ::8]
    rows = pixels[:-2].reshape(2, 10, -1, 3)[:, 2:, :-2].reshape(2, 8, 10, 8, 3)[:, :, :, 2:]
    assert np.array_equal(rows[0][:, 0], IMAGES[0])
    assert (rows[0][:, 1:] == 255).all(), "one image, and white behind it"
    for column, index in enumerate(np.arange(10) * 12 // 10):
        assert np.array_equal(rows[1][:, column], IMAGES[1 + index])


def test_data_without_classes_or_with_many_is_shown_as_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {"images": np.arange(160, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)}
    for name, more in (("none", {}), ("many", {"labels": np.arange(160) % 40})):
        np.savez(tmp_path / f"{name}.npz", **arrays, **more)
        assert main(["data", str(tmp_path / f"{name}.npz"), "--out", str(tmp_path / f"{name}.png")]) == 0
        with Image.open(tmp_path / f"{name}.png") as picture:
            pixels = np.asarray(picture)[::16, ::16][2::6, 2::6]
        assert pixels.ravel().tolist() == [index * 160 // 100 for index in range(100)]
    printed = capsys.readouterr().out
    assert "classes: no labels\npassed over: nothing\n" in printed
    assert "classes: 40\n  0   4\n" in printed


def test_the_grid_has_the_name_of_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("p.npz", train_images=IMAGES, test_images=IMAGES)
    for source, name in (("p.npz/test", "p-test"), ("photos/.", "photos"), ("p.npz", "p")):
        assert main(["data", source]) == 0
        assert Path(f"data-{name}.png").is_file()


def test_the_grid_does_not_become_data(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos / "bee")
    before = sorted(photos.rglob("*"))
    for source in (".", ".."):
        error = refused(capsys, ["data", source])
        assert "out: expected a file outside the folder of the data, got data-" in error
    assert sorted(photos.rglob("*")) == before


def test_what_cannot_be_read_is_one_line_and_no_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"?")
    error = refused(capsys, ["data", str(tmp_path / "broken"), "--out", str(tmp_path / "grid.png")])
    assert "a.png: cannot be read as a picture: not of a kind that Pillow knows, or damaged" in error
    assert not (tmp_path / "grid.png").exists()


def test_the_home_folder_is_meant_wherever_a_path_is_given(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No shell expands the sign within `--out=~/run`, in a file, or in Python."""
    home, elsewhere = tmp_path, tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(home))
    fields = {"data": "~/photos", "out": "~/run", "extractor": "~/no.safetensors", "steps": 1, "tensorboard": False}
    (home / "fields.json").write_text(json.dumps(fields))
    assert main(["train", "mlp-gan", *SMALL, "--config=~/fields.json"]) == 0
    saved = json.loads((home / "run" / "config.json").read_text())["training"]
    assert (saved["data"], saved["out"]) == (str(home / "photos"), str(home / "run"))
    assert saved["extractor"] == str(home / "no.safetensors")
    assert main(["data", "~/photos", "--out=~/grid.png"]) == 0
    assert (home / "grid.png").is_file()
    config = configure("mlp-gan", data="~/photos", out=Path("~/x")).training
    assert (config.data, config.out) == (str(home / "photos"), home / "x")
    assert len(load("~/photos").images) == 13
    assert not any(elsewhere.iterdir())


def test_checkpoints_of_later_steps_are_later_by_number(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    for step in (999_999, 9_999_999, 10_000_000, 20_000_000):
        store.path(step).touch()
    store.forget_after(9_999_999)
    assert list(map(store.step, store.all())) == [999_999, 9_999_999]


@pytest.mark.parametrize(("brightest", "dark"), [(2, True), (63, True), (64, False)])
def test_images_that_leave_their_range_unused_are_called_dark_and_left_as_they_are(
    brightest: int, dark: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As masks of classes 0, 1, 2."""
    path, words = tmp_path / "masks.npz", ["--out", str(tmp_path / "run"), "--steps", "1", "--no-tensorboard"]
    pixels = np.arange(60 * 64).reshape(60, 8, 8) % (brightest + 1)
    np.savez(path, images=pixels.astype(np.uint8))
    line = f"dark: the brightest pixel is {brightest} of 255; scale the images if their white is another value"
    for command in (["data", str(path), "--out", str(tmp_path / "grid.png")],
                    ["train", "mlp-gan", *SMALL, "--data", str(path), *words]):  # fmt: skip
        assert main(command) == 0
        assert (line in capsys.readouterr().out.splitlines()) == dark
    assert int(load(path).images.max()) == brightest


def test_a_folder_with_the_name_of_a_data_set_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for index, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / "digits" / f"{index}.png")
    told = f"the folder of the data set's name, which --data ./digits takes: 1 ({tmp_path / 'digits'})"
    assert main(["data", "digits"]) == 0
    assert f"  {told}" in capsys.readouterr().out.splitlines()
    words = [*SMALL, "--steps", "1", "--no-tensorboard", "--out"]
    assert main(["train", "mlp-gan", "--data", "digits", *words, "run"]) == 0
    assert f"passed over: {told}" in capsys.readouterr().out.splitlines()
    assert main(["extractor", "--data", "digits", "--steps", "2"]) == 0
    assert f"passed over: {told}" in capsys.readouterr().out.splitlines()
    assert main(["train", "mlp-gan", "--data", "./digits", *words, "other"]) == 0
    assert "13 images of 3×8×6 from ./digits" in capsys.readouterr().out
    assert json.loads(Path("other/config.json").read_text())["training"]["data"] == str(tmp_path / "digits")
