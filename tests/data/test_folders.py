"""In a folder, only data is taken for data, and what is passed over is counted and named."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fused_gan.base.errors import UserError
from fused_gan.data import ImageData, load
from fused_gan.data.folders import SYSTEM

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def save(folder: Path, *numbers: int) -> Path:
    """Write some of the images as PNGs that are named by their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(IMAGES[number]).save(folder / f"{number}.png")
    return folder


def idx(array: Any) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, name: str, images: Any = IMAGES, labels: Any = LABELS) -> None:
    """Write `NAMEimages-idx3-ubyte` and its labels."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}images-idx3-ubyte").write_bytes(idx(images))
    if labels is not None:
        (folder / f"{name}labels-idx1-ubyte").write_bytes(idx(labels))


def passed_over(data: ImageData) -> list[str]:
    return list(map(str, data.passed_over))


def classes(data: ImageData) -> dict[str, int]:
    return dict(zip(data.class_names, data.class_sizes(), strict=True))


# ---- folders of pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", *sorted(SYSTEM)])
@pytest.mark.parametrize("filled", [False, True])
def test_hidden_and_system_folders_never_count(tmp_path: Path, name: str, filled: bool) -> None:
    save(tmp_path / "apple", 0, 1)
    save(tmp_path / "bee", 2)
    plain = load(str(tmp_path))
    for place in (tmp_path, tmp_path / "bee"):
        save(place / name, *([3, 4] if filled else []))
    read = load(str(tmp_path))
    assert classes(read) == {"apple": 2, "bee": 1}
    assert read.images.equal(plain.images)
    assert read.labels is not None
    assert read.labels.equal(plain.labels)
    assert passed_over(read) == [f"hidden, of the system, or not files: 2 ({name}, bee/{name})"]


def test_a_system_folder_that_nobody_may_read_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "apple", 0)
    for name in ("lost+found", "apricot"):
        (tmp_path / name).mkdir()
    listed = os.scandir

    def refuse(closed: str) -> None:
        def scandir(path: Any) -> Any:
            if Path(path).name == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)

    refuse("lost+found")
    assert classes(load(str(tmp_path))) == {"apple": 1}
    refuse("apricot")
    with pytest.raises(UserError, match="apricot: cannot be read: Permission denied"):
        load(str(tmp_path))


def test_all_that_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    save(tmp_path / "apple" / "more", 0)
    save(tmp_path / "apple", 1)
    save(tmp_path / "empty")
    save(tmp_path / "deep" / "deeper", 2)
    for name in ("notes.txt", "film.mp4", "apple/raw.cr2", "apple/old.png~", ".DS_Store", "apple/._1.png"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "apple" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert passed_over(load(str(tmp_path))) == [
        "hidden, of the system, or not files: 3 (.DS_Store, apple/._1.png, apple/gone.png)",
        "files with other endings: 4 (film.mp4, notes.txt, apple/old.png~ and 1 more)",
        "folders without pictures: 2 (deep, empty)",
        "folders within a class: 1 (apple/more)",
    ]


PARTS = [
    ("train", "val", "test"), ("Training", "Testing"), ("train",), ("trainset", "testset"), ("training", "validation"),
    ("train2017", "valid"), ("train_images", "dev-data"), ("Train Set", "eval"),
    ("train", "t10k"), ("seg_train", "seg_test"), ("X-Train", "X-val", "x-test"),
]  # fmt: skip


@pytest.mark.parametrize("names", PARTS, ids=str)
def test_the_parts_of_a_data_set_are_not_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        save(tmp_path / name, 0, 1)
    with pytest.raises(UserError, match=r"expected one data set, got .*; choose one, as --data .*/(\w+[_-])?[Tt]rain"):
        load(str(tmp_path))
    assert load(str(tmp_path / names[0])).labels is None


def test_parts_beside_another_folder_are_not_classes_either(tmp_path: Path) -> None:
    """As SVHN's train, test and extra."""
    for name in ("train", "test", "extra"):
        save(tmp_path / name, 0)
    with pytest.raises(UserError, match=r"expected one data set, got test, train, which .*--data .*/train$"):
        load(str(tmp_path))


def test_a_class_whose_name_is_not_text_is_refused(tmp_path: Path) -> None:
    """A configuration could not hold the name."""
    save(tmp_path / "bee", 0)
    save(tmp_path / os.fsdecode(b"caf\xe9"), 1)
    with pytest.raises(UserError, match=r"expected names of classes in UTF-8, got caf\\udce9; rename the folders"):
        load(str(tmp_path))


def test_a_class_may_be_called_train_beside_others(tmp_path: Path) -> None:
    for name in ("plane", "train"):
        save(tmp_path / name, 0)
    assert classes(load(str(tmp_path))) == {"plane": 1, "train": 1}


@pytest.mark.parametrize(
    "names",
    [("dataset", "data"), ("train station", "test tube"), ("set", "sunset"), ("1", "2"), ("train_a", "train_b")],
)
def test_other_names_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        save(tmp_path / name, 0)
    assert set(classes(load(str(tmp_path)))) == set(names)


def test_parts_with_classes_inside_are_named_too(tmp_path: Path) -> None:
    for name in ("test/bee", "train/bee"):
        save(tmp_path / name, 0)
    with pytest.raises(UserError, match=r"got neither.*; choose one of train, test, as --data .*/train$"):
        load(str(tmp_path))
    np.savez(tmp_path / "bees.npz", images=IMAGES)
    with pytest.raises(UserError, match=r"choose one of train, bees\.npz, test, as --data"):
        load(str(tmp_path))


def test_a_run_in_its_own_data_folder_is_not_data(tmp_path: Path) -> None:
    save(tmp_path, 0, 1)
    save(tmp_path / "run", 2)
    with pytest.raises(UserError, match="got both"):
        load(str(tmp_path))
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run" / "checkpoints").mkdir()
    assert passed_over(load(str(tmp_path))) == ["run folders: 1 (run)"]


def test_classes_are_ordered_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "part 10", "part 9"):
        save(tmp_path / name, 0)
    assert load(str(tmp_path)).class_names == ("1", "9", "10", "part 9", "part 10")


def test_two_folders_of_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("7", "07"):
        save(tmp_path / name, 0)
    with pytest.raises(UserError, match=r"expected one name per class, got .* for the same class"):
        load(str(tmp_path))


def test_a_folder_named_as_a_picture_or_as_data_is_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 0)
    save(tmp_path / "train-images-idx3-ubyte", 1)
    assert classes(load(str(tmp_path))) == {"a.png": 1, "train-images-idx3-ubyte": 1}


def test_a_line_says_the_classes_with_their_sizes(tmp_path: Path) -> None:
    save(tmp_path / "bee", 0, 1)
    save(tmp_path / "cat", 2)
    (tmp_path / "notes.txt").write_text("?")
    assert load(str(tmp_path)).about("photos") == [
        "3 images of 1×5×4 from photos in 2 classes (bee 2, cat 1)",
        "passed over: files with other endings: 1 (notes.txt)",
    ]
    np.savez(tmp_path / "many.npz", images=IMAGES.repeat(5, 0), labels=np.arange(30))
    [line] = load(str(tmp_path / "many.npz")).about("it")
    assert line.endswith("in 30 classes (0 1, 1 1, 2 1, 3 1, 4 1, 5 1, 6 1, 7 1, 8 1, 9 1, 10 1, 11 1 and 18 more)")


def test_the_home_folder_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "photos", 0)
    np.savez(tmp_path / "a.npz", images=IMAGES)
    assert len(load("~/photos").images) == 1
    assert len(load("~/a.npz").images) == 6


# ---- folders of IDX files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("emnist-letters-train-", "emnist-balanced-train-"),
        ("train-", "emnist-digits-train-"),
        ("qmnist-train-", "xnist-"),
        ("fashion-", "kmnist-"),
    ],
)
def test_several_data_sets_in_a_folder_are_refused_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_idx(tmp_path, name)
    with pytest.raises(
        UserError, match=r"expected one data set, got (.*); choose an image file, as --data (.*)"
    ) as said:
        load(str(tmp_path))
    for name in names:
        assert name.strip("-").removesuffix("train").strip("-") in str(said.value)
    for name in names:
        assert len(load(str(tmp_path / f"{name}images-idx3-ubyte")).images) == 6


@pytest.mark.parametrize("data_set", ["", "qmnist-", "emnist-letters-", "k_"])
@pytest.mark.parametrize("held_out", ["test", "t10k", "val", "test50k"])
def test_of_train_and_others_train_is_read_and_the_others_are_named(
    tmp_path: Path, data_set: str, held_out: str
) -> None:
    write_idx(tmp_path, f"{data_set}{held_out}-", IMAGES[:2], LABELS[:2])
    write_idx(tmp_path, f"{data_set}train-")
    (tmp_path / "readme.txt").write_text("?")
    read = load(str(tmp_path))
    assert len(read.images) == 6
    [note] = passed_over(read)
    assert note.startswith("files of other parts or kinds: 3 (")
    assert f"{data_set}{held_out}-images-idx3-ubyte" in note


def test_two_parts_without_train_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, "val-")
    assert len(load(str(tmp_path)).images) == 6
    write_idx(tmp_path, "test-")
    with pytest.raises(UserError, match="expected files of one part, got test, val and no train; choose an image file"):
        load(str(tmp_path))


def test_the_files_of_one_part_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9):
        write_idx(tmp_path, f"train{number}-", IMAGES[:1] * 0 + number, LABELS[:1])
    assert load(str(tmp_path)).images[:, 0, 0, 0].tolist() == [9, 10]


def test_one_file_in_two_forms_counts_once(tmp_path: Path) -> None:
    write_idx(tmp_path, "train-")
    (tmp_path / "train-images.idx3-ubyte").write_bytes((tmp_path / "train-images-idx3-ubyte").read_bytes())
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    assert len(load(str(tmp_path)).images) == 6


def test_folders_and_hidden_files_with_the_name_of_data_are_not_data(tmp_path: Path) -> None:
    write_idx(tmp_path, "train-")
    (tmp_path / "train-labels.idx1-ubyte").mkdir()
    write_idx(tmp_path / "train-images.idx3-ubyte", "train-")
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"of macOS")
    read = load(str(tmp_path))
    assert len(read.images) == 6
    assert passed_over(read) == [
        "hidden, of the system, or not files: 1 (._train-images-idx3-ubyte)",
        "folders: 2 (train-images.idx3-ubyte, train-labels.idx1-ubyte)",
    ]
