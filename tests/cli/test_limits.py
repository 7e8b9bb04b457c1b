"""What the machine does not give ends in one line and leaves nothing half-written: disk, and too large numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fused_gan.base.errors import UserError
from fused_gan.base.files import NotWritten
from fused_gan.base.json_files import write_json
from fused_gan.base.lock import locked
from fused_gan.base.seeds import require_seed
from fused_gan.cli.main import main
from fused_gan.data.images import save_pngs
from fused_gan.evaluation import evaluate, load_extractor, read_evaluations, train_extractor
from fused_gan.models import MLPGANConfig
from fused_gan.study import StudyFolder
from fused_gan.systems.config import GANTraining
from fused_gan.training import (
    Checkpoints,
    RunFolder,
    configure,
    load_checkpoint,
    load_sampler,
    resume,
    save_checkpoint,
)
from fused_gan.training import folder as folder_module
from fused_gan.training import train as train_a_preset
from fused_gan.training.export import export_dataset
from fused_gan.training.report import write_report
from helpers.commands import LAST, SMALL, refused, train
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


FULL = r"cannot be written: No space left on device \([\d.]+ \w+ free in {folder}\)\n"


def test_a_full_disk(small_disk: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["--generator-widths", "300", "300", "--steps", "20"]
    assert train(patches, small_disk / "run", *wide) == 1
    folder = small_disk / "run" / "checkpoints"
    told = rf"fused-gan: error: {folder}/\S+\.safetensors: {FULL.format(folder=folder)}"
    assert re.fullmatch(told, capsys.readouterr().err)
    assert not any(folder.iterdir())


def test_a_data_set_for_which_the_disk_is_too_small(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_a_preset(options("cgan", write_patches(tmp_path / "patches.npz"), tmp_path / "run", 1), console=QUIET)
    words = ["sample", str(tmp_path / "run"), "--as-dataset", str(small_disk / "set"), "--count", "2000"]
    assert main(words) == 1
    assert re.fullmatch(rf"fused-gan: error: .*/\d+\.png: {FULL.format(folder='.*')}", capsys.readouterr().err)
    assert list(small_disk.iterdir()) == []


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITERS: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "whole": lambda path, patch: (patch.setattr(Path, "write_text", full_disk), write_json(path, {})),
    "a line": lambda path, patch: (
        patch.setattr(folder_module, "to_json_text", full_disk), RunFolder(path.parent).add_line(path, {}),
    ),
    "a picture": lambda path, patch: (
        patch.setattr(Image.Image, "save", full_disk),
        save_pngs(path.parent, np.zeros((1, 1, 4, 4), np.uint8), int(path.stem)),
    ),
    "a lock": lambda path, patch: (patch.setattr(os, "getpid", full_disk), locked(path).__enter__()),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_way_of_writing_names_the_file_and_the_free_space(
    write: Callable[[Path, pytest.MonkeyPatch], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "000001.png"
    with pytest.raises(NotWritten) as raised:
        write(path, monkeypatch)
    assert re.fullmatch(rf"{path}: {FULL.format(folder=tmp_path)}", f"{raised.value}\n")
    assert raised.value.errno == errno.ENOSPC


def test_a_data_set_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_a_preset(options("cgan", write_patches(tmp_path / "patches.npz"), tmp_path / "run", 1), console=QUIET)
    monkeypatch.setattr(Image.Image, "save", full_disk)
    before = sorted(tmp_path.iterdir())
    assert main(["sample", str(tmp_path / "run"), "--as-dataset", str(tmp_path / "set")]) == 1
    assert sorted(tmp_path.iterdir()) == before


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
    assert ".safetensors: cannot be written: File too large\n" in process.stderr
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("seed", [2**63, -1])
def test_a_seed_that_no_file_holds(
    seed: int, tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In each command and in Python, before anything is made."""
    run = tmp_path / "run"
    assert train(patches, run) == 0
    before = sorted(tmp_path.rglob("*"))
    commands = [["train", "mlp-gan"], ["extractor", "--data", str(patches)]]
    commands += [[name, str(run)] for name in ("sample", "interpolate", "evaluate")]
    for command in commands:
        out = ["--out", str(tmp_path / "new" / "out.safetensors")]
        assert f"seed: expected an integer of 0 … 2⁶³ − 1, got {seed}" in refused(
            capsys, [*command, *out, "--seed", str(seed)]
        )
    sampler = load_sampler(run, torch.device("cpu"))
    calls: tuple[Callable[[], object], ...] = (
        lambda: configure("mlp-vae", seed=seed),
        lambda: evaluate(run, seed=seed),
        lambda: train_extractor(str(patches), tmp_path / "e.safetensors", seed=seed),
        lambda: export_dataset(tmp_path / "set", dataclasses.replace(sampler, classes=2), 4, seed),
        lambda: sampler.sample(4, seed),
        lambda: sampler.interpolate(2, 2, seed),
    )
    for call in calls:
        with pytest.raises(UserError, match=r"^seed: expected an integer of 0 … 2⁶³ − 1, got"):
            call()
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["sample", str(run), "--seed", str(2**63 - 1), "--count", "4"]) == 0


@pytest.mark.parametrize("seed", [1.0, True, "1", None])
def test_a_seed_is_an_integer(seed: object) -> None:
    with pytest.raises(UserError, match=r"^seed: expected an integer"):
        require_seed(seed)
    require_seed(np.uint8(7))


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


@pytest.mark.parametrize("kind", [str, Path])
def test_each_function_of_runs_takes_a_path_as_text_or_path(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "e.safetensors"
    train_a_preset(options("cgan", write_patches(tmp_path / "patches.npz"), kind(run), 10), console=QUIET)
    assert resume(kind(run), steps=20, console=QUIET).folder.path == run
    assert Checkpoints(kind(run / "checkpoints"), keep=1).last() == run / LAST
    assert RunFolder(kind(run)).read_config().preset == "cgan"
    save_checkpoint(kind(tmp_path / "copy"), {}, load_checkpoint(kind(run / LAST)).state)
    sampler = load_sampler(kind(run), torch.device("cpu"))
    assert export_dataset(kind(tmp_path / "set"), sampler, 6, seed=0) == {"0": 2, "1": 2, "2": 2}
    found = train_extractor(str(tmp_path / "patches.npz"), kind(out), steps=1)
    assert load_extractor(kind(out)).hash == found.hash
    assert read_evaluations(kind(tmp_path / "none.json")) == []
    assert write_report(kind(run), kind(tmp_path / "page.html")) == tmp_path / "page.html"
    assert StudyFolder(kind(tmp_path)).job("a").path == tmp_path / "jobs" / "a"


def test_the_home_folder_is_meant_in_python_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    train_a_preset(options("cgan", write_patches(tmp_path / "patches.npz"), tmp_path / "run", 10), console=QUIET)
    assert resume("~/run", steps=20, console=QUIET).steps_done == 20


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


def test_a_lock_that_a_full_disk_does_not_take_is_named(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb") as filler, contextlib.suppress(OSError):
        while True:
            os.write(filler.fileno(), bytes(512))
    with (
        pytest.raises(NotWritten, match=r"run.lock: cannot be written: No space left on device"),
        locked(small_disk / "run.lock"),
    ):
        pass


def test_more_threads_than_a_process_gets_are_refused() -> None:
    with pytest.raises(UserError, match=r"^threads: expected at most 1,024, got 1000000$"):
        GANTraining(threads=1_000_000)


def test_more_images_than_memory_holds_are_refused_before_the_first(tmp_path: Path, patches: Path) -> None:
    train_a_preset(options("mlp-gan", patches, tmp_path / "run", 2), console=QUIET)
    sampler = load_sampler(tmp_path / "run", torch.device("cpu"))
    with pytest.raises(MemoryError):
        sampler.sample(10**13, 0)
