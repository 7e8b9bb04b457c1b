"""What the machine does not give ends in one line and leaves nothing half-written: disk, memory, too large numbers."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fused_gan.base.errors import UserError
from fused_gan.cli.main import main
from fused_gan.models import MLPGANConfig
from fused_gan.systems.config import GANTraining
from fused_gan.training import configure
from fused_gan.training import train as train_a_preset
from helpers.commands import SMALL, refused, train
from helpers.small_runs import QUIET, options, write_patches

COMMAND = [sys.executable, "-m", "fused_gan.cli"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", disk], capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk(small_disk: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["--generator-widths", "300", "300", "--steps", "20"]
    assert train(patches, small_disk / "run", *wide) == 1
    error = capsys.readouterr().err
    assert error.startswith("fused-gan: error: ")
    assert error.count("\n") == 1
    assert "No space left on device" in error
    assert not any((small_disk / "run" / "checkpoints").iterdir())


def test_files_that_may_not_grow(tmp_path: Path, patches: Path) -> None:
    """The limit stands for a full disk where no file system can be mounted."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ["train", "mlp-gan", *SMALL, "--generator-widths", "300", "300", "--data", str(patches), "--steps", "5"]
    process = subprocess.run(
        [*COMMAND, *words, "--out", str(tmp_path / "run"), "--no-tensorboard"],
        capture_output=True, text=True, preexec_fn=limit,
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert process.stderr.startswith("fused-gan: error: ")
    assert process.stderr.count("\n") == 1
    assert "File too large" in process.stderr
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


def test_memory_that_is_not_there(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(patches, tmp_path / "run", "--generator-widths", str(2**40)) == 1
    error = capsys.readouterr().err
    assert error.startswith("fused-gan: error: out of memory: ")
    assert "a smaller --batch-size" in error
    assert error.count("\n") == 1


def test_images_that_memory_cannot_hold(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the first of them is resized. Linux would kill the process where they come one by one."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("L", (8, 8)).save(pictures / "0.png")
    for data in (patches, pictures):
        assert train(data, tmp_path / "run", "--image-size", str(2**25)) == 1
        assert re.fullmatch(r"fused-gan: error: out of memory: .*33554432, 33554432.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("seed", [2**63, -1])
def test_a_seed_that_no_file_holds(
    seed: int, tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(patches, tmp_path / "run") == 0
    before = sorted((tmp_path / "run").rglob("*"))
    assert "seed: expected an integer of 0" in refused(capsys, ["sample", str(tmp_path / "run"), "--seed", str(seed)])
    assert sorted((tmp_path / "run").rglob("*")) == before
    assert main(["sample", str(tmp_path / "run"), "--seed", str(2**63 - 1), "--count", "4"]) == 0


def test_numbers_and_paths_of_other_libraries(tmp_path: Path) -> None:
    data = write_patches(tmp_path / "patches.npz")
    model = MLPGANConfig(generator_widths=[np.int64(16)], discriminator_widths=(16,), z_dim=np.int32(4))
    training = GANTraining(
        data=Path(data), out=str(tmp_path / "run"), steps=np.int64(5), lr=np.float32(1e-3), device="cpu",
        tensorboard=False, log_interval=np.uint8(2),
    )  # fmt: skip
    assert (type(training.steps), type(training.lr), type(training.data)) == (int, float, str)
    assert training.out == tmp_path / "run"
    assert train_a_preset("mlp-gan", model, training, QUIET).steps_done == 5


def test_configure_takes_paths_as_text_or_path_too(tmp_path: Path) -> None:
    preset = configure("mlp-gan", data=tmp_path / "patches.npz", out=str(tmp_path / "run"))
    assert preset.training.data == str(tmp_path / "patches.npz")
    assert preset.training.out == tmp_path / "run"


@pytest.mark.parametrize(
    "fields", [{"steps": 5.5}, {"lr": "small"}, {"data": 7}, {"out": 3}, {"betas": (0.5,)}], ids=str
)
def test_fields_of_another_kind_are_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(fields))}: expected "):
        GANTraining(**fields)  # type: ignore[arg-type]


def test_a_batch_that_batch_norm_cannot_take_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    data = write_patches(tmp_path / "patches.npz")  # 8 × 8 pixels, which three convolutions bring to one
    with pytest.raises(UserError, match="batch_size: "):
        train_a_preset(options("dcgan", data, tmp_path / "run", 5, batch_size=1), console=QUIET)
    with pytest.raises(UserError, match="batch_size: "):
        train_a_preset(options("dcgan", data, tmp_path / "run", 5, gradient_accumulation=8), console=QUIET)
    assert not (tmp_path / "run").exists()
