"""The command line does the whole job, and tells a person in one line what is wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fused_gan import doctor
from fused_gan.activations import ACTIVATIONS
from fused_gan.cli import main
from fused_gan.training import GAN, checkpoint, load_checkpoint
from fused_gan.training import config as training_config

SMALL = ["--z-dim", "8", "--generator-widths", "32", "--discriminator-widths", "32", "--device", "cpu"]


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A small data set: 50 random images of 8×6 pixels."""
    path = tmp_path / "patches.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (50, 8, 6), dtype=np.uint8))
    return path


def train(patches: Path, out: Path, *options: str) -> int:
    words = ["--data", str(patches), "--out", str(out), "--steps", "20", "--no-tensorboard"]
    return main(["train", "mlp-gan", *SMALL, *words, *options])


@pytest.fixture
def run(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a finished run."""
    out = tmp_path / "run"
    assert train(patches, out, "--seed", "3") == 0
    capsys.readouterr()
    return out


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line on standard error with which `arguments` are refused, exit status 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fused-gan: error: ")
    assert error.count("\n") == 1
    return error


def test_training_leaves_its_whole_folder_and_prints_the_picture_last(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "run"
    assert train(patches, out, "--log-interval", "8", "--sample-interval", "10", "--lr", "1e-3") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"samples: {out / 'samples.png'}"
    assert any("step 20/20" in line and "images/s" in line and "s left" in line for line in printed)

    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == [
        "checkpoints/best.safetensors", "checkpoints/step-0000020.safetensors", "config.json", "health.jsonl",
        "interpolation.png", "losses.png", "metrics.jsonl", "samples.png", "samples/step-0000010.png",
        "samples/step-0000020.png",
    ]  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert (config["preset"], config["training"]["lr"], config["model"]["z_dim"]) == ("mlp-gan", 1e-3, 8)
    assert config["image_shape"] == [1, 8, 6]
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [8, 16, 20, 20]
    assert set(metrics[3]) == {"step", "sliced_wasserstein"}
    assert set(metrics[0]) == {"step", "discriminator_loss", "generator_loss", "images_per_second", "seconds"}
    saved = load_checkpoint(out / "checkpoints" / "step-0000020.safetensors")
    assert saved.config == config
    assert saved.state["steps_done"] == 20
    with Image.open(out / "samples.png") as picture:
        # 8 × 8 images of 8 × 6 pixels and 2 between them, enlarged 8 times
        assert picture.size == ((8 * 8 + 2) * 8, (8 * 10 + 2) * 8)


def test_without_out_the_folder_is_named_by_preset_and_time(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "mlp-gan", *SMALL, "--data", str(patches), "--steps", "2", "--no-tensorboard"]) == 0
    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mlp-gan-2")
    assert (folder / "samples.png").is_file()


def test_samples_follow_seed_and_index_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sample(count: int, seed: int) -> Any:
        out = tmp_path / "out"
        assert main(["sample", str(run), "--count", str(count), "--seed", str(seed), "--out", str(out)]) == 0
        stem = out / f"samples-seed{seed}-count{count}"
        assert capsys.readouterr().out.splitlines()[-1] == f"samples: {stem}.png"
        with np.load(f"{stem}.npz") as archive:
            assert archive["seed"] == seed
            return archive["images"]

    many = sample(1100, 3)
    assert many.shape == (1100, 8, 6)
    assert many.dtype == np.uint8
    assert np.array_equal(sample(5, 3), many[:5])
    assert not np.array_equal(sample(5, 4), many[:5])
    # The seed of the training draws the training's own last grid.
    sample(64, 3)
    with Image.open(run / "samples.png") as ours, Image.open(tmp_path / "out" / "samples-seed3-count64.png") as again:
        assert np.array_equal(np.asarray(ours), np.asarray(again))


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_ends_the_run_with_everything_saved(
    tmp_path: Path,
    patches: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    name: str,
) -> None:
    step = GAN.step

    def step_and_signal(gan: GAN) -> None:
        if gan.steps_done == 6:
            os.kill(os.getpid(), number)
        step(gan)

    before = signal.getsignal(number)
    monkeypatch.setattr(GAN, "step", step_and_signal)
    assert train(patches, tmp_path / "run") == 128 + number
    assert f"stopped by {name} after step 7; everything is saved" in capsys.readouterr().out
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-0000007.safetensors")
    assert saved.state["steps_done"] == 7
    assert (tmp_path / "run" / "samples.png").is_file()
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["step"] == 7
    assert signal.getsignal(number) == before


def test_a_full_disk_ends_in_one_line_and_no_half_file(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "save_file", fill_the_disk)
    assert train(patches, tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert error.startswith("fused-gan: error: ")
    assert "No space left on device" in error
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


def test_divergence_ends_in_one_line(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(patches, tmp_path / "run", "--lr", "1e30", "--log-interval", "1") == 1
    assert "fused-gan: error: training diverged" in capsys.readouterr().err
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps: expected a positive integer, got 0"),
        (["--activation", "gelu"], "activation: expected one of identity, relu, leaky_relu, tanh, sigmoid, got 'gelu'"),
        (["--z-dim", "-3"], "z_dim: expected a positive integer, got -3"),
        (["--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
        (["--data", "no-such"], "data: 'no-such' is no file, no folder and none of mnist-5k"),
    ],
)
def test_bad_options_are_named(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    out = tmp_path / "run"
    arguments = ["train", "mlp-gan", "--data", str(patches), "--steps", "1", "--device", "cpu", "--out", str(out)]
    assert message in refused(capsys, [*arguments, *options])
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["train"], ["train", "mlp-gan", "--lr", "fast"], ["fly"], ["sample"], []])
def test_words_that_cannot_be_parsed_end_in_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_a_run_is_never_overwritten(run: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "config.json").read_bytes()
    arguments = ["train", "mlp-gan", *SMALL, "--data", str(patches), "--out"]
    assert f"out: {run} is not empty" in refused(capsys, [*arguments, str(run)])
    assert f"out: {patches} is a file" in refused(capsys, [*arguments, str(patches)])
    assert (run / "config.json").read_bytes() == before


def test_a_device_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["train", "mlp-gan", "--device"]
    assert "device: cuda cannot be used: torch finds no CUDA device" in refused(capsys, [*arguments, "cuda"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(training_config.fused_gan, "build_info", lambda: {"cuda": None})
    assert "this build of fused_gan has no CUDA kernels" in refused(capsys, [*arguments, "cuda:0"])
    monkeypatch.setattr(training_config.fused_gan, "build_info", lambda: {"cuda": "13.0"})
    assert "device: cuda:1 asked for, but there are only 1" in refused(capsys, [*arguments, "cuda:1"])


def test_auto_says_why_it_took_the_cpu(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train(patches, tmp_path / "run", "--device", "auto") == 0
    assert "device auto: cpu, as torch finds no CUDA device" in capsys.readouterr().out


def test_sampling_from_what_is_no_finished_run_is_refused(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"run: {tmp_path / 'none'} is no folder" in refused(capsys, ["sample", str(tmp_path / "none")])
    assert "is no run folder, it has no config.json" in refused(capsys, ["sample", str(tmp_path)])
    assert "count: expected a positive integer" in refused(capsys, ["sample", str(run), "--count", "0"])
    assert "is a file, expected a folder" in refused(capsys, ["sample", str(run), "--out", str(run / "config.json")])
    last = run / "checkpoints" / "step-0000020.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    assert f"{last}: damaged" in refused(capsys, ["sample", str(run)])
    last.unlink()
    assert "holds no checkpoint; the run saved none yet" in refused(capsys, ["sample", str(run)])


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "mlp-gan", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("--z-dim", "--lr", "--betas", "--seed", "--device", "--out", "--ema-decay", "--threads", "--data"):
        assert option in text
    words = text.replace(",", " ").split()
    assert set(ACTIVATIONS) <= set(words), "the help lists the activations that there are"


@pytest.mark.parametrize("module", ["tyro", "rich", "safetensors", "PIL", "accelerate"])
def test_a_missing_extra_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    ours = ("commands", "training", "images", "data", "pictures", "models")
    for name in list(sys.modules):
        package, _, rest = name.partition(".")
        if package == module or (package == "fused_gan" and rest.partition(".")[0] in ours):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    error = refused(capsys, ["train", "mlp-gan"])
    assert f"the package {module} is missing; get it with: pip install 'fused_gan[train]'" in error


def test_doctor_reports_versions_build_devices_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("versions", "build", "devices", "data sets", torch.__version__, "mnist-5k", "cuda", "nvcc"):
        assert word in text


def test_doctor_works_without_the_extras(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name: None if name in ("rich", "numpy") else find_spec(name)
    )
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    for module in ("rich", "tyro", "numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "MISSING  safetensors     training needs it: pip install 'fused_gan[train]'" in text
    assert "reading data needs numpy: pip install 'fused_gan[train]'" in text


def test_doctor_says_what_keeps_cuda_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert any("a build without CUDA" in row.finding for row in doctor.device_rows())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert any("finds no working driver and GPU" in row.finding for row in doctor.device_rows())
    monkeypatch.setattr(doctor.shutil, "which", lambda *_, **__: None)
    assert [row.good for row in doctor.tool_rows()] == [False, False]


def test_importing_the_package_imports_no_extra() -> None:
    code = (
        "import sys, fused_gan\n"
        "print([name for name in ('PIL', 'rich', 'tyro', 'safetensors', 'mlxtend') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
