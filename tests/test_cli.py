"""The command line does the whole job, and tells a person in one line what is wrong."""

from __future__ import annotations

import dataclasses
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

from fused_gan.cli import doctor
from fused_gan.cli.main import main
from fused_gan.cli.options import field_docstrings
from fused_gan.models.sampler import truncated
from fused_gan.ops.activations import ACTIVATIONS
from fused_gan.systems import devices, monitor
from fused_gan.training import GAN, PRESETS, Sampler, checkpoint, load_checkpoint, load_sampler

LAST = "checkpoints/step-0000020.safetensors"
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
        ".lock", "checkpoints/best.safetensors", "checkpoints/step-0000020.safetensors", "config.json", "health.jsonl",
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
    monkeypatch.setattr(devices, "build_info", lambda: {"cuda": None})
    assert "this build of fused_gan has no CUDA kernels" in refused(capsys, [*arguments, "cuda:0"])
    monkeypatch.setattr(devices, "build_info", lambda: {"cuda": "13.0"})
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
    ours = ("cli", "study", "training", "systems", "evaluation", "models", "data")
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
    assert [row.good for row in doctor.tool_rows()] == [False, False, False]


def test_importing_the_package_imports_no_extra() -> None:
    code = (
        "import sys, fused_gan\n"
        "print([name for name in ('PIL', 'rich', 'tyro', 'safetensors', 'mlxtend') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the other commands ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a VAE on 40 RGB images, whose data lies beside it."""
    folder = tmp_path_factory.mktemp("vae")
    np.savez(folder / "p.npz", images=np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), dtype=np.uint8))
    options = ["--data", str(folder / "p.npz"), "--out", str(folder / "run"), "--steps", "20", "--widths", "16"]
    assert main(["train", "mlp-vae", *options, "--device", "cpu", "--no-tensorboard"]) == 0
    return folder / "run"


def test_a_vae_leaves_reconstructions_too(vae: Path) -> None:
    names = {path.name for path in vae.iterdir()}
    assert {"reconstructions.png", "reconstructions", "samples.png", "interpolation.png", "losses.png"} <= names
    metrics = [json.loads(line) for line in (vae / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "reconstruction", "kl"} <= set(metrics[0])
    assert set(metrics[1]) == {"step", "negative_elbo"}


def test_reconstruct_shows_each_image_beside_its_reconstruction(
    vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "pairs.png"
    assert main(["reconstruct", str(vae), "--count", "8", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == f"reconstructions: {out}"
    with np.load(vae.parent / "p.npz") as archive, Image.open(out) as picture:
        assert picture.size == ((8 * 8 + 2) * 8, (2 * 10 + 2) * 8)  # 16 images in rows of 8, enlarged 8 times
        first = np.asarray(picture)[16 : 10 * 8 : 8, 16 : 8 * 8 : 8]
        assert np.array_equal(first, archive["images"][0])
    np.savez(tmp_path / "wide.npz", images=np.zeros((3, 9, 9), np.uint8))
    error = refused(capsys, ["reconstruct", str(vae), "--data", str(tmp_path / "wide.npz")])
    assert "data: expected images of (3, 8, 6), got (1, 9, 9)" in error


def test_a_gan_cannot_reconstruct(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "reconstruct: it needs a VAE; a GAN has no encoder" in refused(capsys, ["reconstruct", str(run)])


def test_interpolation_begins_and_ends_with_samples(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "way.png"
    assert main(["interpolate", str(run), "--rows", "3", "--columns", "5", "--seed", "7", "--out", str(out)]) == 0
    ends = load_sampler(run, torch.device("cpu")).sample(6, seed=7)
    with Image.open(out) as picture:
        assert picture.size == ((5 * 8 + 2) * 8, (3 * 10 + 2) * 8)
        pixels = np.asarray(picture)
    for row in range(3):
        for column, expected in ((0, ends[row, 0]), (4, ends[3 + row, 0])):
            shown = pixels[(row * 10 + 2) * 8 : (row + 1) * 80 : 8, (column * 8 + 2) * 8 : (column + 1) * 64 : 8]
            assert np.abs(shown.astype(int) - expected).max() <= 1  # the great circle's ends, but for rounding


def test_a_conditional_system_is_asked_for_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "labelled.npz", tmp_path / "run"
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(30) % 4)
    options = ["--data", str(path), "--out", str(out), "--steps", "5", "--no-tensorboard"]
    assert main(["train", "cgan", *SMALL, *options]) == 0
    assert main(["sample", str(out), "--count", "6", "--labels", "3", "1"]) == 0
    assert main(["sample", str(out), "--count", "9", "--seed", "1"]) == 0
    with np.load(out / "samples-seed0-count6.npz") as archive:
        assert archive["labels"].tolist() == [3, 1, 3, 1, 3, 1]
    with np.load(out / "samples-seed1-count9.npz") as archive:
        assert archive["labels"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    capsys.readouterr()
    assert "labels: expected 64 of 0 … 3, got [4, 4" in refused(capsys, ["sample", str(out), "--labels", "4"])
    np.savez(path, images=images)
    options = ["--data", str(path), "--out", str(tmp_path / "second"), "--steps", "5"]
    assert "has no class labels, which a conditional GAN needs" in refused(capsys, ["train", "cgan", *SMALL, *options])


def test_an_unconditional_system_takes_no_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, ["sample", str(run), "--labels", "1"])
    assert "labels: this system is not conditional, it takes none" in error


def test_samples_as_pictures_and_by_the_hundred_thousand(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sample", str(run), "--count", "3", "--pngs", "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "samples-seed0-count3.npz") as archive:
        images = archive["images"]
    for index in range(3):
        with Image.open(tmp_path / "samples-seed0-count3" / f"{index:06d}.png") as picture:
            assert np.array_equal(np.asarray(picture), images[index])
    largest = []
    make = Sampler.images

    def noted(sampler: Sampler, noise: Any, labels: Any = None) -> Any:
        largest.append(len(noise))
        return make(sampler, noise, labels)

    monkeypatch.setattr(Sampler, "images", noted)
    assert main(["sample", str(run), "--count", "100000", "--out", str(tmp_path)]) == 0
    assert max(largest) <= 1024, "no more than this is in memory at once"
    with np.load(tmp_path / "samples-seed0-count100000.npz") as archive:
        many = archive["images"]
    assert many.shape == (100000, 8, 6)
    assert np.array_equal(many[:3], images)


def test_truncated_noise_is_cut_off_and_otherwise_normal() -> None:
    noise = torch.randn(200_000, dtype=torch.float64)
    cut = truncated(noise, 0.7)
    assert cut.abs().max().item() <= 0.7
    assert torch.equal(cut.argsort(), noise.argsort())
    inside = noise[noise.abs() < 0.7]  # what throwing away the others would give
    assert cut.std().item() == pytest.approx(inside.std().item(), rel=0.02)
    torch.testing.assert_close(truncated(noise, 8.0), noise, rtol=1e-6, atol=1e-6)


def test_options_come_from_a_file_and_words_win(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "fields.json", tmp_path / "run"
    file.write_text(json.dumps({"z_dim": 5, "lr": 0.01, "generator_widths": [9], "betas": [0.1, 0.2]}))
    assert train(patches, out, "--config", str(file), "--lr", "0.02") == 0
    config = json.loads((out / "config.json").read_text())
    # z_dim and the widths are given in words, too.
    assert (config["model"]["z_dim"], config["model"]["generator_widths"]) == (8, [32])
    assert (config["training"]["lr"], config["training"]["betas"]) == (0.02, [0.1, 0.2])
    # A run's own configuration makes the same run again.
    assert main(["train", "mlp-gan", f"--config={out / 'config.json'}", "--out", str(tmp_path / "again")]) == 0
    states = [load_checkpoint(tmp_path / name / LAST).state["generator"] for name in ("run", "again")]
    assert all(torch.equal(weight, states[1][key]) for key, weight in states[0].items())
    capsys.readouterr()
    for content, message in (
        ('{"no_such": 1}', "no_such: mlp-gan has no such field"),
        ('{"lr": "fast"}', "lr: expected a number, got 'fast'"),
        ('{"preset": "dcgan", "lr": 1}', "preset: mlp-gan has no such field"),
        ('{"steps": 20.5}', "steps: expected an integer, got 20.5"),
        ('{"steps": true}', "steps: expected an integer, got True"),
        ('{"data": 5}', "data: expected text, got 5"),
        ('{"betas": [0.5, "x"]}', "betas: expected a list of 2 numbers, got [0.5, 'x']"),
        ('{"channels": 2}', "channels: expected one of 1, 3 or null, got 2"),
        ("[1]", "expected a JSON object, got list"),
        ("{", "cannot be read as JSON"),
    ):
        file.write_text(content)
        assert message in refused(capsys, ["train", "mlp-gan", "--config", str(file)])
    assert "expected a file after --config" in refused(capsys, ["train", "mlp-gan", "--config"])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_help_of_a_preset_explains_every_field_with_its_default(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", preset, "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    found = PRESETS[preset]
    for part in (found.model, found.training):
        for field in dataclasses.fields(part):
            option = f"--{field.name.replace('_', '-')} "
            if f"--no-{option[2:]}" in text:
                option = f"--no-{option[2:]}"
            explanation, default, value = text.partition(option)[2].partition(" (default: ")
            assert default, f"{option} shows its default"
            assert "--" not in explanation, f"{option} shows its default itself"
            assert len(explanation.split()) >= 3, f"{option} is explained"
            shown = getattr(part, field.name)
            if isinstance(shown, (str, int, float)) and not isinstance(shown, bool) and shown != "":
                assert value.startswith(f"{shown})"), option


def test_help_reads_as_prose_at_any_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "900")
    with pytest.raises(SystemExit):
        main(["train", "wgan-gp", "--help"])
    lines = capsys.readouterr().out
    texts = field_docstrings(type(PRESETS["wgan-gp"].model)) | field_docstrings(type(PRESETS["wgan-gp"].training))
    assert len(texts) > 40
    for name, text in texts.items():
        assert text in lines, f"{name}: on one line where there is room"


def test_the_list_of_presets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in PRESETS)
    assert "A Wasserstein GAN whose critic is bounded by a gradient penalty." in " ".join(text.replace("│", "").split())


def test_a_run_stopped_by_the_monitor_says_so(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor.Monitor, "_suspicious", lambda self, look: [monitor.Verdict("collapsed", "1 %")])
    options = ["--health-interval", "2", "--on-collapse", "stop"]
    assert train(patches, tmp_path / "run", *options) == 1
    assert "stopped by the health monitor after step 6; everything is saved" in capsys.readouterr().out
