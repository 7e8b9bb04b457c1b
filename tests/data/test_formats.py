"""The formats in which people have data are read as their publishers describe them, and nothing is unpickled."""

from __future__ import annotations

import gzip
import lzma
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fused_gan.base.errors import UserError
from fused_gan.data import load
from helpers.saved import Payload

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 28, 28), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 28, 28, 3), dtype=np.uint8)
TRAIN = Path(__file__).parents[2] / "docs" / "train.md"


def idx(array: Any, code: int = 8) -> bytes:
    kind = {8: ">u1", 12: ">i4"}[code]
    return bytes((0, 0, code, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(kind).tobytes()


def labels_of(read: Any) -> list[str]:
    """The names of the images' classes."""
    return [read.class_names[label] for label in read.labels]


# ---- EMNIST, QMNIST --------------------------------------------------------------------------------------------------


def test_emnist_is_upright_and_its_letters_have_26_classes(tmp_path: Path) -> None:
    letters = np.arange(1, 27).repeat(2)
    images = np.stack([np.full((28, 28), letter * 9, np.uint8) for letter in letters])
    images[:, 20:, :4] = 255  # as it is stored; shown upright, the bright part is at the top right
    (tmp_path / "emnist-letters-train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(letters)))
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n")
    read = load(str(tmp_path))
    assert read.class_names == tuple(map(str, range(1, 27)))
    assert labels_of(read) == [str(letter) for letter in letters]
    assert read.images[:, 0, :4, 20:].eq(255).all()
    assert not read.images[:, 0, 20:, :4].eq(255).any()


@pytest.mark.parametrize("name", ["emnist-letters-train.csv", "EMNIST_balanced.csv", "femnist.csv", "mnist_train.csv"])
def test_emnist_is_transposed_as_a_csv_too(tmp_path: Path, name: str) -> None:
    rows = np.concatenate([np.arange(6)[:, None], GREY.reshape(6, -1)], 1)
    np.savetxt(tmp_path / name, rows, "%d", ",")
    expected = GREY.transpose(0, 2, 1) if name.lower().startswith("emnist") else GREY
    assert np.array_equal(load(str(tmp_path / name)).images[:, 0], expected)


@pytest.mark.parametrize(("end", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_qmnist_has_its_classes_in_rows_of_integers(tmp_path: Path, end: str, pack: Callable[[bytes], bytes]) -> None:
    digits = np.array([5, 0, 4, 1, 9, 2])
    rows = np.concatenate([digits[:, None], RANDOM.integers(-1, 100_000, (6, 7))], 1)
    for split in ("train", "test"):
        (tmp_path / f"qmnist-{split}-images-idx3-ubyte{end}").write_bytes(pack(idx(GREY)))
        (tmp_path / f"qmnist-{split}-labels-idx2-int{end}").write_bytes(pack(idx(rows, 12)))
    read = load(str(tmp_path))
    assert np.array_equal(read.images[:, 0], GREY)
    assert labels_of(read) == list(map(str, digits))
    (tmp_path / f"qmnist-train-labels-idx2-int{end}").write_bytes(pack(idx(rows, 12)[:-1]))
    with pytest.raises(UserError, match=r"too short, its header promises 6 × 8 × 4 bytes, 191 follow"):
        load(str(tmp_path))


# ---- .npz ------------------------------------------------------------------------------------------------------------


def test_kmnist_has_images_and_labels_in_two_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        np.savez(tmp_path / f"kmnist-{split}-imgs.npz", GREY)
        np.savez(tmp_path / f"kmnist-{split}-labels.npz", np.array([8, 7, 0, 1, 4, 8], np.uint8))
    read = load(str(tmp_path / "kmnist-train-imgs.npz"))
    assert np.array_equal(read.images[:, 0], GREY)
    assert labels_of(read) == ["8", "7", "0", "1", "4", "8"]
    with pytest.raises(
        UserError, match=r"choose one of kmnist-train-imgs\.npz, .*, as --data .*kmnist-train-imgs\.npz"
    ):
        load(str(tmp_path))
    with pytest.raises(UserError, match=r"kmnist-train-labels\.npz: images must be"):
        load(str(tmp_path / "kmnist-train-labels.npz"))
    (tmp_path / "kmnist-train-labels.npz").unlink()
    assert load(str(tmp_path / "kmnist-train-imgs.npz")).labels is None


def test_unnamed_arrays_are_images_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", COLOUR, np.arange(6) % 2)
    assert labels_of(load(str(tmp_path / "samples.npz"))) == ["0", "1"] * 3
    np.savez(tmp_path / "samples.npz", COLOUR, RANDOM.normal(size=(6, 8)))
    read = load(str(tmp_path / "samples.npz"))
    assert read.labels is None
    assert list(map(str, read.passed_over)) == ["labels of 8 values per image: 1 (arr_1)"]


@pytest.mark.parametrize(("images", "labels"), [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_the_parts_of_an_archive_are_chosen_by_name(tmp_path: Path, images: str, labels: str) -> None:
    arrays = {}
    for number, split in enumerate(("train", "val", "test")):
        arrays[images.format(split)] = COLOUR[: 6 - number]
        arrays[labels.format(split)] = np.arange(6 - number)[:, None] % 3 + 4
    path = tmp_path / "pathmnist.npz"
    np.savez(path, **arrays)
    read = load(str(path))
    assert np.array_equal(read.images.permute(0, 2, 3, 1), COLOUR)
    assert labels_of(read) == ["4", "5", "6", "4", "5", "6"]
    others = [name.format(split) for split in ("val", "test") for name in (images, labels)]
    assert list(map(str, read.passed_over)) == [
        f"arrays of other parts or kinds: 4 ({', '.join(others[:3])} and 1 more)"
    ]
    assert len(load(f"{path}/test").images) == 4
    with pytest.raises(UserError, match="expected one of the parts train, val, test, got tset"):
        load(f"{path}/tset")
    np.savez(path, **{name: array for name, array in arrays.items() if "train" not in name})
    with pytest.raises(UserError, match=r"it has val, test and no train; choose one, as --data .*pathmnist\.npz/test"):
        load(str(path))
    np.savez(path, images=GREY, **arrays)
    with pytest.raises(UserError, match=f"expected one data set, got the images images, {images.format('train')}"):
        load(str(path))


def test_several_labels_per_image_are_passed_over_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "chestmnist.npz", train_images=GREY, train_labels=np.ones((6, 14), np.uint8))
    read = load(str(tmp_path / "chestmnist.npz"))
    assert read.labels is None
    assert list(map(str, read.passed_over)) == ["labels of 14 values per image: 1 (train_labels)"]


def test_volumes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "organmnist3d.npz", train_images=RANDOM.integers(0, 256, (4, 28, 28, 28), dtype=np.uint8))
    with pytest.raises(UserError, match=r"organmnist3d\.npz: images must be .* got shape \(4, 28, 28, 28\)"):
        load(str(tmp_path / "organmnist3d.npz"))


def test_an_archive_of_zeros_and_ones_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "binary.npz", images=GREY >> 7)
    with pytest.raises(UserError, match=r"binary\.npz: expected pixels of 0…255, got 0 and 1 alone; multiply"):
        load(str(tmp_path / "binary.npz"))


def test_labels_are_named_by_an_array_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "named.npz"
    np.savez(path, images=GREY, labels=[2, 0, 0, 2, 0, 0], class_names=["bee", "cat", "dog"])
    read = load(str(path))
    assert read.class_names == ("bee", "cat", "dog")
    assert labels_of(read) == ["dog", "bee", "bee", "dog", "bee", "bee"]
    for names, message in (
        (["bee"], r"expected labels of 0 … 0, the indices of class_names, got 0 … 2"),
        ([1, 2, 3], "class_names must be a list of texts"),
        (["7", "07", "8"], "expected one name per class, got 7 and 07"),
    ):
        np.savez(path, images=GREY, labels=[2, 0, 0, 2, 0, 0], class_names=names)
        with pytest.raises(UserError, match=message):
            load(str(path))


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def write_cifar(path: Path, pixels: Any, *labels: Any) -> None:
    flat = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    np.concatenate([*(np.array(one, np.uint8)[:, None] for one in labels), flat], 1).tofile(path)


def test_cifar_10_is_read_in_the_order_of_its_batches(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    for number in range(1, 6):
        write_cifar(tmp_path / f"data_batch_{number}.bin", pixels[number - 1 : number], [number + 4])
    write_cifar(tmp_path / "test_batch.bin", pixels[5:], [0])
    read = load(str(tmp_path))
    assert np.array_equal(read.images.permute(0, 2, 3, 1), pixels[:5])
    assert labels_of(read) == ["5", "6", "7", "8", "9"]
    assert list(map(str, read.passed_over)) == ["files of other parts or kinds: 1 (test_batch.bin)"]
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    assert labels_of(load(str(tmp_path))) == names[5:]
    assert labels_of(load(str(tmp_path / "test_batch.bin"))) == ["airplane"]


def test_cifar_100_is_read_with_its_fine_labels(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    write_cifar(tmp_path / "train.bin", pixels, [19, 0, 1], [99, 0, 50])
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"fine{index}" for index in range(100)) + "\n")
    read = load(str(tmp_path))
    assert np.array_equal(read.images.permute(0, 2, 3, 1), pixels)
    assert labels_of(read) == ["fine99", "fine0", "fine50"]
    assert len(read.class_names) == 100


def test_broken_files_of_cifar_are_named(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    write_cifar(tmp_path / "data_batch_1.bin", pixels, [1, 10, 1])
    with pytest.raises(UserError, match=r"data_batch_1\.bin: expected labels of 0 … 9, got 10"):
        load(str(tmp_path))
    for name in ("train.bin", "data_batch_2.bin"):
        (tmp_path / name).write_bytes(bytes(5000))
        with pytest.raises(UserError, match=rf"{name}: expected records of 307[34] bytes, .* got 5,000 bytes"):
            load(str(tmp_path / name))
    with pytest.raises(UserError, match="expected one data set, got CIFAR-10 and CIFAR-100"):
        load(str(tmp_path))


# ---- CSV -------------------------------------------------------------------------------------------------------------


HEADS = {  # the first line, and where the label stands
    "Kaggle's MNIST": ("label," + ",".join(f"pixel{index}" for index in range(784)), 0),
    "MNIST in CSV": ("label," + ",".join(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)), 0),
    "quoted": ('"label",' + ",".join(f'"pixel{index}"' for index in range(784)), 0),
    "label at the end": (",".join(f"pixel{index}" for index in range(784)) + ",label", 784),
    "names of other words": ("0," + ",".join(f"0.{index}" for index in range(784)), 0),
    "none": ("", 0),
    "no labels": (",".join(f"pixel{index}" for index in range(784)), None),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_csv_is_read_with_any_first_line(tmp_path: Path, head: str) -> None:
    first, place = HEADS[head]
    pixels, digits = GREY.reshape(6, -1).astype(int), np.array([3, 1, 4, 1, 5, 9])
    rows = pixels if place is None else np.insert(pixels, place, digits, axis=1)
    lines = ([first] if first else []) + [",".join(map(str, row)) for row in rows]
    for end, mark in (("\n", ""), ("\r\n", "\ufeff")):
        (tmp_path / "train.csv").write_bytes((mark + end.join(lines) + end).encode())
        read = load(str(tmp_path / "train.csv"))
        assert np.array_equal(read.images[:, 0], GREY)
        assert (place is None) == (read.labels is None)
        assert place is None or labels_of(read) == list(map(str, digits))


@pytest.mark.parametrize(("head", "counts"), [("id", "id"), ("", "the first"), ('"Unnamed: 0"', "unnamed: 0")])
def test_a_column_that_counts_the_rows_is_neither_label_nor_pixel(tmp_path: Path, head: str, counts: str) -> None:
    """As in Kannada-MNIST's test.csv, and in what pandas writes."""
    names, label = ",".join(f"pixel{index}" for index in range(GREY[0].size)), 7
    for first, values in ((f"{head},{names}", []), (f"{head},label,{names}", [label])):
        rows = [[index, *values, *image.ravel()] for index, image in enumerate(GREY)]
        (tmp_path / "my.csv").write_text("\n".join([first, *(",".join(map(str, row)) for row in rows)]))
        read = load(str(tmp_path / "my.csv"))
        assert np.array_equal(read.images[:, 0], GREY)
        assert read.class_names == tuple(map(str, values))
        assert list(map(str, read.passed_over)) == [f"columns that count the rows: 1 ({counts})"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it holds no images"),
        ("label,a,b,c,d\n", "it holds no images"),
        ("label,a,b,c,d\n1,2,3,4\n", "expected 5 values per line, as in the first, got 4"),
        ("label,a,b,c,d\n1,2,3,4,5\n1,2,3\n", "cannot be read as a CSV of integers: .*row 2"),
        ("label,a,b,c,d\n1,0.5,3,4,5\n", "cannot be read as a CSV of integers: .*0.5"),
        ("label,a,b,c,d\n1,2,3,4,256\n", "expected pixels of 0…255, got 2 … 256"),
        ("label,a,b,c,d\n1,2,-3,4,25\n", "expected pixels of 0…255, got -3 … 25"),
        ("1,2,3\n1,2,3\n", "expected as many pixels per line as a square grey image has, .* got 3"),
        ("cat,1,2,3,4\ncat,1,2,3,4\n", "cannot be read as a CSV of integers: .*cat"),
        ("\x00\xff", "cannot be read as a CSV of integers"),
    ],
)
def test_a_csv_of_other_things_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "my.csv").write_bytes(content.encode("latin-1" if "\xff" in content else "utf-8"))
    with pytest.raises(UserError, match=rf"my\.csv: ({message})"):
        load(str(tmp_path / "my.csv"))


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    pickled = pickle.dumps(Payload(tmp_path / "ran"))
    python_version = tmp_path / "cifar-10-batches-py"
    python_version.mkdir()
    for name in ("batches.meta", "data_batch_1", "test_batch"):
        (python_version / name).write_bytes(pickled)
    with pytest.raises(UserError, match=r"this is CIFAR's Python version.* give its binary version"):
        load(str(python_version))
    for name in ("data_batch_1", "mnist.pkl", "a.npz", "a.csv", "train.bin", "train-images-idx3-ubyte"):
        (tmp_path / name).write_bytes(pickled)
        with pytest.raises(UserError, match=re.escape(name)):
            load(str(tmp_path / name))
    with pytest.raises(UserError, match=r"data_batch_1: expected an \.npz.*; this is a pickle"):
        load(str(tmp_path / "data_batch_1"))
    np.savez(tmp_path / "b.npz", images=GREY, class_names=np.array([Payload(tmp_path / "ran")], object))
    with pytest.raises(UserError, match=r"b\.npz: cannot be read as an \.npz of plain arrays"):
        load(str(tmp_path / "b.npz"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "remedy"), [("a.zip", "; unpack it"), ("a.png", " of pictures, as "), ("a.mat", "")])
def test_other_files_are_refused_with_what_is_expected(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(UserError, match=rf"{name}: expected an \.npz, .* or a folder{remedy}"):
        load(str(tmp_path / name))


def test_labels_far_apart_are_as_many_classes_as_there_are_values(tmp_path: Path) -> None:
    np.savez(tmp_path / "far.npz", images=GREY, labels=[1, 10**9 + 1, 1, 1, 1, 1])
    read = load(str(tmp_path / "far.npz"))
    assert read.class_names == ("1", "1000000001")
    assert read.class_sizes() == [5, 1]
    np.savez(tmp_path / "far.npz", images=GREY, labels=np.array([1, 2**63, 1, 1, 1, 1], np.uint64))
    with pytest.raises(UserError, match="expected labels below 2⁶³, got 9223372036854775808"):
        load(str(tmp_path / "far.npz"))


def test_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    names = np.array(["bee", "bee"])
    np.savez(tmp_path / "twice.npz", images=GREY, labels=np.zeros(len(GREY), np.int64), class_names=names)
    with pytest.raises(UserError, match=r"twice.npz: class_names must differ from each other, got bee, bee$"):
        load(str(tmp_path / "twice.npz"))
