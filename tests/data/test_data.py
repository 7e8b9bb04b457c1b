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
from PIL import Image

from fused_gan.base.errors import UserError
from fused_gan.data import datasets, load
from fused_gan.data.images import from_uint8, make_grid, save_samples, to_uint8

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
    missing = datasets.DataSet("pictures", datasets._fashion_mnist, (tmp_path / "none").is_dir, "apt install pictures")
    monkeypatch.setitem(datasets.DATA_SETS, "fashion-mnist", missing)
    with pytest.raises(UserError, match=r"^data: fashion-mnist is not installed; get it with: apt install pictures$"):
        load("fashion-mnist")


def test_fashion_mnist_is_read_from_debians_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(datasets, "FASHION_MNIST", folder)
    assert np.array_equal(datasets._fashion_mnist().images[:, 0], IMAGES)


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
    with pytest.raises(UserError, match="'mnist' is not a file, a folder or one of mnist-5k, fashion-mnist, digits"):
        load("mnist")
    with pytest.raises(UserError, match=r"expected pictures .*, or folders of them, one per class, got neither"):
        load(str(tmp_path))
    (tmp_path / "photo.txt").write_bytes(b"BM")
    with pytest.raises(UserError, match=r"photo\.txt: expected an \.npz, an IDX file named .* or a folder"):
        load(str(tmp_path / "photo.txt"))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:0]))
    with pytest.raises(UserError, match="holds no pixels"):
        load(str(tmp_path))


def test_images_shown_are_spread_over_the_data() -> None:
    assert datasets.evenly_spaced(4, 10).tolist() == [0, 2, 5, 7]
    assert datasets.evenly_spaced(9, 3).tolist() == [0, 1, 2]


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
        (b"", "broken, or not an .npz"),
        (npy(IMAGES), "broken, or not an .npz"),
        (npz(images=IMAGES)[:-30], "broken, or not an .npz"),
        (npz(pictures=IMAGES, other=LABELS), "it has no array 'images', only pictures, other"),
        (npz(images=IMAGES.astype(np.float32)), "images must be uint8 .* got float32"),
        (npz(images=IMAGES[0]), r"images must be .* got shape \(5, 4\)"),
        (npz(images=IMAGES[..., None].repeat(2, -1)), r"images must be .* got shape \(6, 5, 4, 2\)"),
        (npz(images=IMAGES[:, :0]), "it holds no pixels"),
        (npz(images=IMAGES, labels=LABELS[:3]), r"labels must be 6 integers, one per image, got uint8 \(3,\)"),
        (npz(images=IMAGES, labels=LABELS / 2), "labels must be 6 integers, one per image, got float64"),
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
        save_samples(tmp_path / "samples.npz", [images[:4], images[4:]], len(images), seed=4)
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
    wide = make_grid(IMAGES[:5, None], columns=5, padding=1)
    assert wide.shape == (1 * 6 + 1, 5 * 5 + 1, 1)
    assert np.array_equal(wide[1:6, 21:25, 0], IMAGES[4])


# ---- folders of pictures --------------------------------------------------------------------------------------------


def save_pictures(folder: Path, images: Any, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}{suffix}")


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    save_pictures(tmp_path, IMAGES)
    (tmp_path / "notes.txt").write_text("no picture")
    read = load(str(tmp_path))
    assert np.array_equal(read.images[:, 0].numpy(), IMAGES)
    assert read.labels is None
    colours = load(str(tmp_path), channels=3).images
    assert colours.shape == (6, 3, 5, 4)
    assert np.array_equal(colours[:, 2].numpy(), IMAGES)


def test_folders_of_pictures_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    save_pictures(tmp_path / "cats", IMAGES[:2])
    save_pictures(tmp_path / "apples", IMAGES[2:3], ".bmp")
    (tmp_path / "empty").mkdir()
    read = load(str(tmp_path))
    assert read.labels is not None
    assert read.labels.tolist() == [0, 1, 1]
    assert np.array_equal(read.images[:, 0].numpy(), IMAGES[[2, 0, 1]])


def test_size_and_colour_follow_the_stated_rules(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:20, :40]
    wide = np.stack([rows * 12, columns * 6, rows * 0], -1).astype(np.uint8)
    clear = np.concatenate([wide, np.zeros((20, 40, 1), np.uint8)], -1)  # transparent all over
    save_pictures(tmp_path, [wide, clear])
    read = load(str(tmp_path), image_size=10).images
    assert read.shape == (2, 3, 10, 10)
    middle = wide[:, 10:30].reshape(10, 2, 10, 2, 3).mean((1, 3))  # the largest square, halved
    assert np.abs(read[0].permute(1, 2, 0).numpy()[1:-1, 1:-1] - middle[1:-1, 1:-1]).max() <= 1.5
    assert (read[1] == 255).all(), "transparency is laid over white"
    grey = load(str(tmp_path), image_size=10, channels=1).images
    luma = np.tensordot([0.299, 0.587, 0.114], read[0].numpy(), 1)
    assert grey.shape == (2, 1, 10, 10)
    assert np.abs(grey[0, 0].numpy() - luma).max() <= 1.5


def test_arrays_are_resized_and_coloured_by_the_same_rules(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=IMAGES, labels=LABELS)
    read = load(str(tmp_path / "images.npz"), image_size=8, channels=3)
    save_pictures(tmp_path / "folder", IMAGES)
    assert torch.equal(read.images, load(str(tmp_path / "folder"), image_size=8, channels=3).images)
    assert read.labels is not None
    assert read.labels.tolist() == LABELS.tolist()


def test_wrong_pictures_are_named(tmp_path: Path) -> None:
    save_pictures(tmp_path / "mixed", [IMAGES[0], IMAGES[1][:, :3]])
    with pytest.raises(UserError, match=r"1\.png: it is 5×3, 0\.png 5×4; give one size to all with --image-size"):
        load(str(tmp_path / "mixed"))
    assert load(str(tmp_path / "mixed"), image_size=4).images.shape == (2, 1, 4, 4)
    whole = (tmp_path / "mixed" / "0.png").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no picture at all"):
        (tmp_path / "mixed" / "0.png").write_bytes(content)
        with pytest.raises(UserError, match=r"0\.png: cannot be read as a picture"):
            load(str(tmp_path / "mixed"), image_size=4)
    save_pictures(tmp_path / "both", IMAGES[:1])
    save_pictures(tmp_path / "both" / "class", IMAGES[:1])
    with pytest.raises(UserError, match=r"both: expected pictures .*, got both"):
        load(str(tmp_path / "both"))


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_no_image_has_is_refused(tmp_path: Path, size: int) -> None:
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(UserError, match=f"image_size: expected a positive integer, got {size}"):
        load(str(tmp_path / "images.npz"), image_size=size)
