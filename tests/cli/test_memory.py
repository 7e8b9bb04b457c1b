"""Memory that is not there ends a command in one line: what was attempted, in the user's terms, and what takes less."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fused_gan.base.memory import OutOfMemory, memory_for
from fused_gan.cli import data as data_command
from fused_gan.cli.main import main
from fused_gan.evaluation import Evaluator
from fused_gan.models.sampler import Sampler
from fused_gan.study import job
from fused_gan.systems import batches
from fused_gan.systems.system import System
from helpers.commands import train
from helpers.small_data import small_extractor, write_squares
from helpers.small_runs import options
from helpers.small_runs import run as train_small

ERRORS = (  # as torch, CUDA and NumPy say it
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 1610612736 bytes. Error code 12 (Cannot allocate memory)"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.5 GiB. GPU 0 has a total capacity of 1.00 GiB"),
    MemoryError("Unable to allocate 1.5 GiB for an array with shape (9, 9) and data type uint8"),
)  # fmt: skip
BATCH = "64 images of 1×8×6 at a time through mlp-gan (z_dim 8, generator_widths 32, discriminator_widths 32)"


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line in which a command that lacks memory ends, without its beginning."""
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("fused-gan: error: out of memory: ")
    assert error.count("\n") == 1
    return error.removeprefix("fused-gan: error: out of memory: ").removesuffix("\n")


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], None]:
    """Let a function of an object lack memory."""

    def let(owner: object, name: str, error: Exception = ERRORS[0]) -> None:
        def lack(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(owner, name, lack)

    return let


def test_networks_that_are_too_large(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for width in (2**40, 2**62, 2**70):  # of which torch says something else each
        assert train(patches, tmp_path / "run", "--generator-widths", str(width)) == 1
        assert re.fullmatch(
            rf"fused-gan: error: out of memory: networks with z_dim 8, generator_widths {width}, "
            r"discriminator_widths 32 for images of 1×8×6 on cpu( \(32\.0 TiB at once\))?; smaller networks or images "
            r"take less\n",
            capsys.readouterr().err,
        )


def test_batches_and_pictures_that_are_too_many(
    run: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = 2**40
    assert train(patches, tmp_path / "other", "--batch-size", str(many)) == 1
    batch = r"1,099,511,627,776 images of 1×8×6 at a time through networks with z_dim 8, .* on cpu"
    less = "a smaller --batch-size or smaller networks take less"
    assert re.search(rf"out of memory: {batch} \(8\.0 TiB at once\); {less}\n", capsys.readouterr().err)
    assert "images of 1×8×6 at once (" in told(capsys, ["interpolate", str(run), "--rows", str(many)])
    found = told(capsys, ["sample", str(run), "--grid", str(many), "--count", str(many)])
    assert "and 1,099,511,627,776 in a grid (" in found


def test_images_that_are_too_large(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the first of them is resized. Linux would kill the process where they come one by one."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("L", (8, 8)).save(pictures / "0.png")
    for data, count in ((patches, 50), (pictures, 1)):
        for size in (2**25, 2**40, 2**70):
            words = ["--data", str(data), "--image-size", str(size)]
            for command in (["train", "mlp-gan", *words], ["data", *words[1:], "--out", str(tmp_path / "grid.png")]):
                pattern = rf"{count} images of 1×{size}×{size}( \(.*iB at once\))?; a smaller --image-size takes less"
                assert re.fullmatch(pattern, told(capsys, command))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_step(
    error: Exception, run: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: Callable
) -> None:
    lacking(System, "step", error)
    assert train(patches, tmp_path / "other") == 1
    less = "a smaller --batch-size, a higher --gradient-accumulation, --data-place host, another --device may help"
    assert capsys.readouterr().err == f"fused-gan: error: out of memory: {BATCH} (1.5 GiB at once); {less}\n"
    less = "--data-place host, another --device may help"  # the batch of a run that goes on stays
    assert told(capsys, ["resume", str(run), "--steps", "30"]) == f"{BATCH} (1.5 GiB at once); {less}"


def test_images_on_the_device(run: Path, capsys: pytest.CaptureFixture[str], lacking: Callable) -> None:
    lacking(batches, "from_uint8")
    found = told(capsys, ["resume", str(run), "--steps", "30"])
    assert found == "50 images of 1×8×6 on cpu (1.5 GiB at once); --data-place host takes less"


def test_pictures(run: Path, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: Callable) -> None:
    lacking(Sampler, "images")
    lacking(Sampler, "reconstruct")
    assert told(capsys, ["sample", str(run), "--count", "3000"]) == (
        "3,000 images of 1×8×6, 1,024 at a time, and 64 in a grid (1.5 GiB at once); a smaller --count or --grid, or "
        "another --device, may help"
    )
    assert told(capsys, ["interpolate", str(run)]) == (
        "80 images of 1×8×6 at once (1.5 GiB at once); fewer --rows or --columns take less"
    )
    assert told(capsys, ["reconstruct", str(vae), "--count", "9"]) == (
        "9 images of 3×8×6 and their reconstructions (1.5 GiB at once); a smaller --count takes less"
    )


def test_data_and_reports(
    run: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: Callable
) -> None:
    lacking(data_command, "save_grid")
    assert told(capsys, ["data", str(patches), "--out", str(tmp_path / "grid.png")]) == (
        "a grid of images of 1×8×6 (1.5 GiB at once); a smaller --image-size takes less"
    )
    lacking(sys.modules["fused_gan.training.report"], "read_lines")  # a command without words of its own for it
    assert told(capsys, ["report", str(run)]) == f"fused-gan report {run} (1.5 GiB at once)"


def test_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: Callable) -> None:
    data, extractor = write_squares(tmp_path / "squares.npz"), str(tmp_path / "squares.safetensors")
    small_extractor(data, Path(extractor))
    for name in ("mlp-gan", "mlp-vae"):
        train_small(name, options(name, data, tmp_path / name, 10))
    lacking(Evaluator, "scores")
    scores = "scores of 100 generated and 200 real images of 1×8×8"
    words = ["--extractor", extractor, "--samples", "100", "--device", "cpu"]
    found = told(capsys, ["evaluate", str(tmp_path / "mlp-gan"), *words])
    assert found == f"{scores} (1.5 GiB at once); fewer --samples take less"
    found = told(capsys, ["evaluate", str(tmp_path / "mlp-vae"), *words])
    assert found == f"{scores}, 50 latents each (1.5 GiB at once); fewer --samples or a smaller --iwae-k take less"
    words = ["--data", data, "--extractor", extractor, "--evaluate-every", "5", "--evaluate-samples", "100"]
    found = told(
        capsys, ["train", "mlp-gan", *words, "--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "9"]
    )
    less = "fewer --evaluate-samples, or --evaluate-every 0, take less"
    assert found == f"an evaluation of 100 images during training (1.5 GiB at once); {less}"
    lacking(sys.modules["fused_gan.evaluation.train_extractor"], "fit_classifier")
    found = told(capsys, ["extractor", "--data", data, "--out", extractor])
    assert found == (
        "an extractor for 400 images of 1×8×8, 128 at a time (1.5 GiB at once); a smaller --image-size takes less"
    )


def test_a_job_of_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its standard error is its log."""
    lacking(job, "run_job")
    monkeypatch.setattr(job, "stop_with_parent", lambda until: None)
    threads = str(torch.get_num_threads())
    monkeypatch.setattr(sys, "argv", ["job", str(tmp_path), "--threads", threads, "--device", "cpu"])
    assert job.main() == 1
    assert capsys.readouterr().err == f"error: out of memory: the job in {tmp_path} (1.5 GiB at once)\n"


def test_the_innermost_attempt_is_named_and_other_errors_pass() -> None:
    told = r"^out of memory: inner \(1\.5 GiB at once\); less$"
    with pytest.raises(OutOfMemory, match=told) as raised, memory_for("outer", "more"), memory_for("inner", "less"):
        raise ERRORS[1]
    assert raised.value.__cause__ is ERRORS[1]
    with pytest.raises(RuntimeError, match=r"^other$"), memory_for("a", "b"):
        raise RuntimeError("other")
