"""The command line trains a system, explains each option, and tells a person in one line what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from fused_gan.cli.main import main
from fused_gan.cli.options import field_docstrings
from fused_gan.ops.activations import ACTIVATIONS
from fused_gan.systems import devices, monitor
from fused_gan.training import GAN, PRESETS, load_checkpoint
from helpers.commands import LAST, SMALL, refused, train


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


def test_divergence_ends_in_one_line(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(patches, tmp_path / "run", "--lr", "1e30", "--log-interval", "1") == 1
    assert "fused-gan: error: training diverged" in capsys.readouterr().err
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps: expected a positive integer, got 0"),
        (
            ["--activation", "swish"],
            "activation: expected one of identity, relu, leaky_relu, tanh, sigmoid, relu6, hardtanh",
        ),
        (["--z-dim", "-3"], "z_dim: expected a positive integer, got -3"),
        (["--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
        (["--data", "no-such"], "data: 'no-such' is not a file, a folder or one of mnist-5k"),
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


@pytest.mark.parametrize("module", ["tyro", "rich", "safetensors", "PIL", "accelerate"])
def test_a_missing_extra_says_how_to_get_it(module: str) -> None:
    code = "import sys; sys.modules[sys.argv.pop()] = None; from fused_gan.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "train", "mlp-gan", module], capture_output=True, text=True)
    assert done.returncode == 2
    message = f"the package {module} is missing; get it with: pip install 'fused_gan[train]'"
    assert done.stderr == f"fused-gan: error: {message}\n"


def test_importing_the_package_imports_no_extra() -> None:
    code = (
        "import sys, fused_gan\n"
        "print([name for name in ('PIL', 'rich', 'tyro', 'safetensors', 'mlxtend') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_a_run_stopped_by_the_monitor_says_so(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor.Monitor, "_suspicious", lambda self, look: [monitor.Verdict("collapsed", "1 %")])
    options = ["--health-interval", "2", "--on-collapse", "stop"]
    assert train(patches, tmp_path / "run", *options) == 1
    assert "stopped by the health monitor after step 6; everything is saved" in capsys.readouterr().out


# ---- the help --------------------------------------------------------------------------------------------------------


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "mlp-gan", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("--z-dim", "--lr", "--betas", "--seed", "--device", "--out", "--ema-decay", "--threads", "--data"):
        assert option in text
    words = re.findall(r"\w+", text)
    assert set(ACTIVATIONS) <= set(words), "the help lists the activations that there are"


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
