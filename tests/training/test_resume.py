"""A run that was stopped, or killed at any moment, goes on as if it never had been."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fused_gan.base.errors import UserError
from fused_gan.base.lock import locked
from fused_gan.cli.main import main
from fused_gan.data import load
from fused_gan.systems.system import System
from fused_gan.training import PRESETS, CheckpointError, Checkpoints, load_checkpoint, resume
from fused_gan.training.folder import read_lines
from helpers.saved import Payload, last_state, numbers
from helpers.small_runs import QUIET, SMALL, go_on, options, run


@pytest.mark.parametrize("name", SMALL)
def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path, patches: str, interrupted: Any, name: str) -> None:
    run(name, options(name, patches, tmp_path / "straight", 40))
    interrupted(20)
    run(name, options(name, patches, tmp_path / "stopped", 40))
    result = resume(tmp_path / "stopped", console=QUIET)
    assert (result.steps_done, result.stopped_by) == (40, None)
    assert last_state(tmp_path / "stopped") == last_state(tmp_path / "straight")
    for file in ("metrics.jsonl", "health.jsonl"):
        assert numbers(tmp_path / "stopped", file) == numbers(tmp_path / "straight", file)
    for picture in ("samples.png", "interpolation.png", "checkpoints/best.safetensors"):
        ours, theirs = (tmp_path / folder / picture for folder in ("stopped", "straight"))
        assert picture.endswith("safetensors") or ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(("times", "steps"), [(4, 300), pytest.param(20, 1500, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_still_bit_for_bit(tmp_path: Path, patches: str, times: int, steps: int) -> None:
    lives = random.Random(times)
    dense = {"checkpoint_interval": 5, "log_interval": 2, "sample_interval": 50, "health_interval": 40}
    straight, killed = (options("mlp-gan", patches, tmp_path / name, steps, **dense) for name in ("straight", "killed"))
    context = multiprocessing.get_context("forkserver")  # a fork of this process would inherit torch's threads
    context.set_forkserver_preload(["fused_gan.training"])

    reached, kills = [0], 0
    process = context.Process(target=run, args=("mlp-gan", killed))
    process.start()
    folder = Checkpoints(tmp_path / "killed" / "checkpoints", keep=1)
    while kills < times:
        before = reached[-1]
        while process.is_alive() and (not folder.all() or int(folder.all()[-1].stem[5:]) <= before):
            time.sleep(0.002)  # every life gets one checkpoint further, so that the run goes on
        time.sleep(lives.uniform(0, 0.04))
        assert process.is_alive(), "it ended before it could be killed that often: give it more steps"
        process.kill()
        process.join()
        kills += 1
        reached.append(int(folder.all()[-1].stem[5:]))
        process = context.Process(target=go_on, args=(str(tmp_path / "killed"),))
        process.start()
    process.join()
    assert process.exitcode == 0
    assert reached == sorted(reached)
    run("mlp-gan", straight)
    assert last_state(tmp_path / "killed") == last_state(tmp_path / "straight")
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "straight")
    assert not list((tmp_path / "killed").rglob(".*.tmp")), "half written files are cleared away"


def test_the_last_few_and_the_best_stay(tmp_path: Path, patches: str) -> None:
    run("mlp-vae", options("mlp-vae", patches, tmp_path / "run", 50, keep_checkpoints=2))
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best.safetensors", "step-0000040.safetensors", "step-0000050.safetensors"]
    scores = {line["step"]: line["negative_elbo"] for line in numbers(tmp_path / "run") if "negative_elbo" in line}
    assert sorted(scores) == [10, 20, 30, 40, 50]
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors").state["steps_done"]
    assert best == min(scores, key=scores.__getitem__)


def test_the_best_is_not_simply_the_last(tmp_path: Path, patches: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fused_gan.systems.vae import VAE

    monkeypatch.setattr(VAE, "scores", lambda vae: {"negative_elbo": abs(vae.steps_done - 20.0)})
    run("mlp-vae", options("mlp-vae", patches, tmp_path / "run", 50))
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors").state["steps_done"] == 20


def test_a_damaged_checkpoint_is_named_and_the_one_before_offered(
    tmp_path: Path, patches: str, capsys: pytest.CaptureFixture[str], interrupted: Any
) -> None:
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "straight", 40))
    interrupted(30)
    out, trap = tmp_path / "run", tmp_path / "trap"
    run("mlp-gan", options("mlp-gan", patches, out, 40))
    last = out / "checkpoints" / "step-0000030.safetensors"
    whole = last.read_bytes()
    torch.save(Payload(trap), tmp_path / "malicious")
    foreign = [b"", whole[:1000], whole[:-1], b"not a checkpoint" * 99, (tmp_path / "malicious").read_bytes()]
    for content in foreign:
        last.write_bytes(content)
        assert main(["resume", str(out)]) == 2
        error = capsys.readouterr().err
        assert f"fused-gan: error: {last}: damaged" in error
        assert "the one before is sound, take it with: --checkpoint step-0000020.safetensors" in error
    assert not trap.exists()
    assert main(["resume", str(out), "--checkpoint", "step-0000020.safetensors"]) == 130  # at step 30, again
    assert main(["resume", str(out)]) == 0
    assert last_state(out) == last_state(tmp_path / "straight")


def test_what_cannot_be_resumed_is_refused(tmp_path: Path, patches: str, interrupted: Any) -> None:
    with pytest.raises(UserError, match="none is not a folder"):
        resume(tmp_path / "none")
    with pytest.raises(UserError, match=r"is not a run folder, it has no config\.json"):
        resume(tmp_path)
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "done", 10))
    with pytest.raises(UserError, match="has done its 10 steps; give more with --steps"):
        resume(tmp_path / "done")
    assert resume(tmp_path / "done", steps=20, console=QUIET).steps_done == 20
    assert json.loads((tmp_path / "done" / "config.json").read_text())["training"]["steps"] == 20
    interrupted(10)
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "run", 40))
    np.savez(patches, images=np.zeros((60, 9, 9), np.uint8))
    with pytest.raises(UserError, match=r"data: .* does not hold the images that the run was begun with"):
        resume(tmp_path / "run", console=QUIET)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="holds no checkpoint; the run saved none yet"):
        resume(tmp_path / "run")


def test_a_run_that_is_being_trained_is_left_alone(
    tmp_path: Path, patches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, take, refusals = tmp_path / "run", System.step, []

    def step_and_resume(system: System) -> None:
        take(system)
        if system.steps_done == 25:
            with pytest.raises(UserError, match="another process is training in") as raised:
                resume(out, console=QUIET)
            refusals.append(str(raised.value))

    monkeypatch.setattr(System, "step", step_and_resume)
    run("mlp-gan", options("mlp-gan", patches, out, 30))
    assert refusals == [f"run: another process is training in {out}; wait for it, or end it"]
    assert [line["step"] for line in numbers(out) if "generator_loss" in line] == [5, 10, 15, 20, 25, 30]
    assert resume(out, steps=40, console=QUIET).steps_done == 40


@pytest.mark.parametrize("checkpoint", [None, "step-0000010.safetensors"])
def test_a_run_that_was_trained_on_meanwhile_is_left_as_it_is(
    tmp_path: Path, patches: str, monkeypatch: pytest.MonkeyPatch, checkpoint: str | None
) -> None:
    """Between the reading of a checkpoint and the lock lies the reading of the data."""
    out = tmp_path / "run"
    run("mlp-gan", options("mlp-gan", patches, out, 20))

    def load_and_train_on(*words: Any) -> Any:
        monkeypatch.undo()
        resume(out, steps=30, console=QUIET)
        return load(*words)

    monkeypatch.setattr("fused_gan.training.run.load", load_and_train_on)
    with pytest.raises(UserError, match=r"run: another process has trained on in .* meanwhile; resume it again"):
        resume(out, steps=40, checkpoint=checkpoint, console=QUIET)
    assert [line["step"] for line in numbers(out) if "generator_loss" in line] == [5, 10, 15, 20, 25, 30]
    assert resume(out, steps=40, console=QUIET).steps_done == 40


def test_of_two_runs_that_begin_in_one_new_folder_one_is_refused(
    tmp_path: Path, patches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    preset = options("mlp-gan", patches, out, 10)

    def load_and_train(*words: Any) -> Any:
        monkeypatch.undo()
        run("mlp-gan", preset)
        return load(*words)

    monkeypatch.setattr("fused_gan.training.run.load", load_and_train)
    with pytest.raises(UserError, match=r"out: .* is not empty"):
        run("mlp-gan", preset)

    assert numbers(out)[-1]["step"] == 10
    beside = tmp_path / "beside"
    beside.mkdir()
    with locked(beside / ".lock"), pytest.raises(UserError, match="run: another process is training in"):
        run("mlp-gan", options("mlp-gan", patches, beside, 10))
    assert [path.name for path in beside.iterdir()] == [".lock"]
    run("mlp-gan", options("mlp-gan", patches, beside, 10))


@pytest.mark.parametrize("content", ["{}", '{"preset": "mlp-gan", "image_shape": [], "images": 1, "model": {}}', "[]"])
@pytest.mark.parametrize("command", ["evaluate", "report", "reconstruct"])
def test_a_broken_configuration_ends_in_one_line(
    tmp_path: Path, patches: str, capsys: pytest.CaptureFixture[str], command: str, content: str
) -> None:
    run("mlp-vae", options("mlp-vae", patches, tmp_path / "run", 1))
    (tmp_path / "run" / "config.json").write_text(content)
    assert main([command, str(tmp_path / "run")]) == 2
    assert "config.json: " in capsys.readouterr().err


def test_a_run_killed_while_writing_a_line_reads_on(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_lines(file) == [{"step": 1, "loss": 2.0}]
    file.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is not a JSON object with a step"):
        read_lines(file)


def test_the_presets_here_cover_every_kind_of_state() -> None:
    kinds = {type(preset.model) for preset in PRESETS.values()}
    assert {type(PRESETS[name].model) for name in SMALL} >= kinds - {type(PRESETS["conv-vae"].model)}
