"""Data is read as it is, and a file that is wrong is named."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fused_gan import data
from fused_gan.data import load
from fused_gan.errors import UserError
from fused_gan.images import from_uint8, make_grid, save_samples, to_uint8

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)


def idx(array: Any) -> bytes:
    """An array of uint8 as the bytes of an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    return tmp_path


def test_mnist_5k_is_five_thousand_real_digits() -> None:
    digits = load("mnist-5k")
    assert digits.images.shape == (5000, 1, 28, 28)
    assert digits.images.dtype == torch.uint8
    assert digits.labels is not None
    assert torch.bincount(digits.labels).tolist() == [500] * 10
    # A one is thinner than a zero.
    ink = [digits.images[digits.labels == label].float().mean().item() for label in (0, 1)]
    assert ink[0] > 2 * ink[1]


def test_digits() -> None:
    pytest.importorskip("sklearn")
    digits = load("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.max() == 255
    assert digits.labels is not None
    assert digits.labels.unique().tolist() == list(range(10))


def test_a_data_set_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = data.DataSet("pictures", data._fashion_mnist, (tmp_path / "none").is_dir, "apt install pictures")
    monkeypatch.setitem(data.DATA_SETS, "fashion-mnist", missing)
    with pytest.raises(UserError, match=r"^data: fashion-mnist is not installed; get it with: apt install pictures$"):
        load("fashion-mnist")


def test_fashion_mnist_is_read_from_debians_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(data, "FASHION_MNIST", folder)
    assert np.array_equal(data._fashion_mnist().images[:, 0], IMAGES)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_of_idx_files(folder: Path, compressed: bool) -> None:
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:2]))
    if compressed:
        for path in list(folder.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    read = load(str(folder))
    assert read.images.shape == (6, 1, 5, 4), "the test images stay out"
    assert np.array_equal(read.images[:, 0], IMAGES)
    assert read.labels is not None
    assert read.labels.tolist() == LABELS.tolist()
    assert read.labels.dtype == torch.int64


def test_a_file_that_is_there_plain_and_compressed_counts_once(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(load(str(folder)).images) == 6


def test_several_image_files_and_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx(IMAGES[:4]))
    (tmp_path / "b-images-idx3-ubyte").write_bytes(idx(IMAGES[4:]))
    read = load(str(tmp_path))
    assert np.array_equal(read.images[:, 0], IMAGES)
    assert read.labels is None
    assert len(load(str(tmp_path / "b-images-idx3-ubyte")).images) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "wrong magic number, expected 0x00000803"),
        (b"\x00\x00\x0d\x03" + idx(IMAGES)[4:], "wrong magic number, expected 0x00000803 .* got 0x00000d03"),
        (idx(LABELS), "wrong magic number, expected 0x00000803 .* got 0x00000801"),
        (idx(IMAGES)[:9], "too short, it ends within its header of 16 bytes"),
        (idx(IMAGES)[:-1], "too short, its header promises 6 × 5 × 4 bytes, 119 follow"),
        (idx(IMAGES) + b"x", "too long, its header promises 6 × 5 × 4 bytes, 121 follow"),
        (idx(IMAGES)[:4] + b"\xff" * 12, "too short, its header promises 4294967295 × 4294967295 × 4294967295 bytes"),
        (gzip.compress(idx(IMAGES))[:-9], "cannot be read: "),
        (gzip.compress(idx(IMAGES))[:20] + bytes(40), "cannot be read: "),
        (b"\x1f\x8bnot gzip", "cannot be read: "),
    ],
)
def test_a_broken_idx_file_is_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=f"train-images-idx3-ubyte: {message}"):
        load(str(folder))


def test_idx_files_that_do_not_fit_each_other_are_named(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:5]))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: 5 labels for the 6 images"):
        load(str(folder))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    (folder / "train2-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(UserError, match="some image files have a label file, others none"):
        load(str(folder))
    (folder / "train2-images-idx3-ubyte").write_bytes(idx(IMAGES[:, :3]))
    with pytest.raises(UserError, match=r"train2-images-idx3-ubyte: its images are 3×4, those of train-images.* 5×4"):
        load(str(folder))


def test_sources_that_are_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'mnist' is no file, no folder and none of mnist-5k, fashion-mnist, digits"):
        load("mnist")
    with pytest.raises(UserError, match="no IDX image file in this folder"):
        load(str(tmp_path))
    (tmp_path / "photo.bmp").write_bytes(b"BM")
    with pytest.raises(UserError, match=r"photo\.bmp: expected an \.npz or an IDX file"):
        load(str(tmp_path / "photo.bmp"))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:0]))
    with pytest.raises(UserError, match="holds no pixels"):
        load(str(tmp_path))


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 1), (2, 5, 4, 3)])
def test_npz(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = IMAGES.reshape(shape)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(len(images)))
    read = load(str(tmp_path / "images.npz"))
    assert np.array_equal(read.images.permute(0, 2, 3, 1).numpy().reshape(shape), images)
    assert read.labels is not None
    assert read.labels.tolist() == list(range(len(images)))


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes((content[position] ^ 0xFF,)) + content[position + 1 :]


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "broken, or no .npz"),
        (npy(IMAGES), "broken, or no .npz"),
        (npz(images=IMAGES)[:-30], "broken, or no .npz"),
        (npz(pictures=IMAGES, other=LABELS), "it has no array 'images', only pictures, other"),
        (npz(images=IMAGES.astype(np.float32)), "images must be uint8 .* got float32"),
        (npz(images=IMAGES[0]), r"images must be .* got shape \(5, 4\)"),
        (npz(images=IMAGES[..., None].repeat(2, -1)), r"images must be .* got shape \(6, 5, 4, 2\)"),
        (npz(images=IMAGES[:, :0]), "it holds no pixels"),
        (npz(images=IMAGES, labels=LABELS[:3]), r"labels must be 6 integers, one an image, got uint8 \(3,\)"),
        (npz(images=IMAGES, labels=LABELS / 2), "labels must be 6 integers, one an image, got float64"),
        (npz(images=np.array([{"a": 1}], dtype=object)), "cannot be read as an .npz of plain arrays"),
        (flipped(npz(images=IMAGES), 200), "cannot be read as an .npz of plain arrays"),
        (zipped(images=b"not an array"), "images must be uint8"),
        (zipped(images=npy(IMAGES)[:150]), "cannot be read as an .npz of plain arrays"),
        (zipped(images=npy(IMAGES).replace(b"(6, 5, 4)", b"(9**9,5,)")), "cannot be read as an .npz of plain arrays"),
    ],
)  # fmt: skip
def test_a_broken_npz_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "my.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"my\.npz: ({message})"):
        load(str(path))


def test_samples_written_are_data_that_can_be_read(tmp_path: Path) -> None:
    for images in (IMAGES[:, None], np.stack([IMAGES, IMAGES // 2, 255 - IMAGES], axis=1)):
        save_samples(tmp_path / "samples.npz", images, seed=4)
        assert np.array_equal(load(str(tmp_path / "samples.npz")).images, images)
        with np.load(tmp_path / "samples.npz") as archive:
            assert archive["seed"] == 4


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_pixels_survive_the_way_to_the_model_and_back(value_range: tuple[float, float]) -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    values = from_uint8(pixels, value_range)
    assert (values[0].item(), values[-1].item()) == pytest.approx(value_range, abs=1e-6)
    assert np.array_equal(to_uint8(values, value_range), pixels)
    outside = torch.tensor([value_range[0] - 3, value_range[1] + 3])
    assert to_uint8(outside, value_range).tolist() == [0, 255]


def test_a_grid_shows_every_image_in_its_place() -> None:
    grid = make_grid(IMAGES[:5, None], padding=2)
    assert grid.shape == (2 * 7 + 2, 3 * 6 + 2, 1)
    for index, image in enumerate(IMAGES[:5]):
        top, left = 2 + index // 3 * 7, 2 + index % 3 * 6
        assert np.array_equal(grid[top : top + 5, left : left + 4, 0], image)
    assert (grid[9:14, 14:18] == 255).all(), "the place of the sixth stays white"
