"""A run can be evaluated as it goes, keep its best checkpoint by any score, and be the same run to the bit."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fused_gan.base.errors import UserError
from fused_gan.base.scores import SAMPLE_SCORES, SCORES, VAE_SCORES
from fused_gan.cli.main import main
from fused_gan.evaluation import Evaluator, evaluate
from fused_gan.training import GAN, configure, load_checkpoint, resume, train
from helpers.saved import last_state, numbers
from helpers.small_data import small_extractor, write_squares
from helpers.small_runs import QUIET, options, run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and an extractor for it."""
    folder = tmp_path_factory.mktemp("evaluate")
    small_extractor(write_squares(folder / "squares.npz"), folder / "squares.safetensors")
    return folder


def evaluating(place: Path, name: str, out: Path, steps: int, **changes: Any) -> Any:
    """A preset for a small run, evaluated every 10 steps."""
    extras = {"evaluate_every": 10, "evaluate_samples": 100, "extractor": str(place / "squares.safetensors")}
    return options(name, str(place / "squares.npz"), out, steps, **extras | changes)


def evaluations(out: Path) -> list[dict[str, Any]]:
    return [line for line in numbers(out) if "fd" in line]


def without_scores(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if not line.keys() & SCORES.keys()]


@pytest.mark.parametrize("name", ["dcgan", "mlp-vae"])
def test_a_run_with_evaluations_is_the_run_without(place: Path, tmp_path: Path, name: str) -> None:
    run(name, evaluating(place, name, tmp_path / "with", 30))
    run(name, evaluating(place, name, tmp_path / "without", 30, evaluate_every=0))
    ours, theirs = (last_state(tmp_path / folder) for folder in ("with", "without"))
    # What is remembered of the log is all that differs.
    kept = [[entry for entry in state if not any(score in str(entry) for score in SCORES)] for state in (ours, theirs)]
    assert kept[0] == kept[1]
    assert without_scores(numbers(tmp_path / "with")) == numbers(tmp_path / "without")
    assert [line["step"] for line in evaluations(tmp_path / "with")] == [10, 20, 30]
    wanted = SAMPLE_SCORES.keys() | (VAE_SCORES.keys() - {"ssim"} if name == "mlp-vae" else set())
    assert all(line.keys() == wanted | {"step"} for line in evaluations(tmp_path / "with"))


@pytest.mark.parametrize("name", ["cgan", "mlp-vae"])
def test_stopped_and_resumed_with_evaluations(
    place: Path,
    tmp_path: Path,
    interrupted: Any,
    name: str,
) -> None:
    changes = {"best_metric": "fd", "evaluate_every": 15}
    run(name, evaluating(place, name, tmp_path / "straight", 40, **changes))
    interrupted(20)
    run(name, evaluating(place, name, tmp_path / "stopped", 40, **changes))
    assert resume(tmp_path / "stopped", console=QUIET).steps_done == 40
    assert last_state(tmp_path / "stopped") == last_state(tmp_path / "straight")
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "straight")
    # Every 15 steps, at the end, and at each checkpoint, every 10, of which the best is chosen; but once a step.
    assert [line["step"] for line in evaluations(tmp_path / "straight")] == [10, 15, 20, 30, 40]


@pytest.mark.parametrize("metric", ["fd", "coverage", "elbo", "mse"])
def test_the_best_checkpoint_is_the_best_by_the_score_asked_for(place: Path, tmp_path: Path, metric: str) -> None:
    run("mlp-vae", evaluating(place, "mlp-vae", tmp_path, 50, best_metric=metric, evaluate_every=0, lr=0.03))
    values = {line["step"]: line[metric] for line in evaluations(tmp_path)}
    assert sorted(values) == [10, 20, 30, 40, 50]
    best = max(values.values()) if SCORES[metric].larger_is_better else min(values.values())
    kept = load_checkpoint(tmp_path / "checkpoints" / "best.safetensors").state["steps_done"]
    assert kept == min(step for step in values if values[step] == best)


def test_a_score_that_is_no_number_is_not_the_best_nor_the_last_word(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, math.nan, 1.0, 2.0])
    monkeypatch.setattr(GAN, "scores", lambda gan: {"sliced_wasserstein": next(scores)})
    run("mlp-gan", options("mlp-gan", str(place / "squares.npz"), tmp_path / "run", 40))
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert best.state["steps_done"] == 30


def test_what_the_run_logs_is_what_evaluate_finds(place: Path, tmp_path: Path) -> None:
    run("mlp-gan", evaluating(place, "mlp-gan", tmp_path, 20, seed=7))
    found = evaluate(tmp_path, samples=100, seed=7, device="cpu")
    assert found.values == pytest.approx({key: evaluations(tmp_path)[-1][key] for key in found.values})


def test_a_score_is_known_again_after_a_rollback(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fused_gan.systems.monitor import Monitor, Verdict

    look = Monitor.look
    fatal = iter([[], [Verdict("collapsed", "for the test")], [], []])
    monkeypatch.setattr(Monitor, "look", lambda monitor: (look(monitor)[0], next(fatal)))
    run("mlp-gan", evaluating(place, "mlp-gan", tmp_path, 20, health_interval=10, on_collapse="rollback"))
    assert [line["step"] for line in evaluations(tmp_path)] == [10, 20]
    assert load_checkpoint(tmp_path / "checkpoints" / "step-0000020.safetensors").state["run"]["rollbacks"] == 1


def test_scores_go_to_tensorboard_and_the_report(place: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("mlp-vae", evaluating(place, "mlp-vae", tmp_path, 20, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for key in (*SAMPLE_SCORES, "elbo", "iwae", "active_units"):
        found = {event.step: event.value for event in events.Scalars(key)}
        assert found == pytest.approx({line["step"]: line[key] for line in evaluations(tmp_path)})
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    for title in ("FD", "KID", "classifier score", "precision, recall, density, coverage", "PSNR, dB"):
        assert f'alt="{title}"' in page


def test_two_processes_are_evaluated_once(place: Path, tmp_path: Path) -> None:
    words = ["--data", str(place / "squares.npz"), "--extractor", str(place / "squares.safetensors"), "--device", "cpu"]
    words += ["--steps", "20", "--batch-size", "8", "--evaluate-every", "10", "--evaluate-samples", "100"]
    words += ["--checkpoint-interval", "5", "--best-metric", "recall", "--no-tensorboard", "--dtype", "float64"]
    words += ["--generator-widths", "16", "--discriminator-widths", "16", "--z-dim", "4", "--threads", "1"]
    assert main(["train", "mlp-gan", *words, "--out", str(tmp_path / "one")]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "fused_gan.cli", "train", "mlp-gan", *words, "--out", str(tmp_path / "two")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    one, two = (evaluations(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in two] == [5, 10, 15, 20]
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=0.02)  # a pixel may round to the other side


def test_the_better_trained_the_better_the_scores(tmp_path: Path) -> None:
    """A VAE of real digits after few, some and many steps, by the extractor that ships."""
    preset = configure(
        "mlp-vae", out=tmp_path / "run", steps=1200, evaluate_every=400, evaluate_samples=1000, device="cpu",
        tensorboard=False, health_interval=0,
    )  # fmt: skip
    train("mlp-vae", preset.model, preset.training, Console(quiet=True))
    found = evaluations(tmp_path / "run")
    assert [line["step"] for line in found] == [400, 800, 1200]
    for name in ("fd", "kid", "classifier_score", "coverage", "elbo", "iwae", "mse", "psnr", "ssim"):
        values = [line[name] for line in found]
        assert values == sorted(values, reverse=SCORES[name].larger_is_better is False), (name, values)
        assert len(set(values)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate_samples": 300}, "has 400 images; give 200 or fewer"),
        ({"evaluate_samples": 0}, "evaluate_samples: expected a positive integer, got 0"),
        ({"evaluate_every": -1}, "evaluate_every: expected 0 or a positive integer, got -1"),
        ({"extractor": None}, "extractor: none ships for"),
        ({"extractor": "mnist-5k"}, "takes images of 1×28×28"),
        ({"best_metric": "elbo"}, "best_metric: expected one of sliced_wasserstein, .*coverage, got 'elbo'"),
        ({"best_metric": "fd", "evaluate_every": 0, "extractor": None}, "extractor: none ships for"),
    ],
)
def test_a_run_that_could_not_be_evaluated_does_not_begin(
    place: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run("mlp-gan", evaluating(place, "mlp-gan", tmp_path / "run", 10, **changes))
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_evaluated_needs_no_extractor(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "of", None)
    run("mlp-gan", evaluating(place, "mlp-gan", tmp_path / "run", 10, evaluate_every=0, extractor=None))
    assert evaluations(tmp_path / "run") == []


def test_without_an_extractor_a_vae_is_scored_and_a_gan_refused(place: Path, tmp_path: Path) -> None:
    run("mlp-vae", evaluating(place, "mlp-vae", tmp_path / "vae", 10, extractor="none"))
    [line] = [line for line in numbers(tmp_path / "vae") if "elbo" in line]
    assert line.keys() == (VAE_SCORES.keys() - {"ssim"}) | {"step"}
    words = ["train", "mlp-gan", "--data", str(place / "squares.npz"), "--extractor", "none", "--steps", "10"]
    words += ["--out", str(tmp_path / "gan"), "--device", "cpu", "--no-tensorboard"]
    assert main([*words, "--evaluate-every", "5"]) == 2
    assert not (tmp_path / "gan").exists()
    for preset, fields, refusal in (
        ("mlp-gan", {"evaluate_every": 5}, "evaluate_every: an evaluation of a GAN during training needs an extractor"),
        ("mlp-gan", {"best_metric": "fd"}, "best_metric: fd is computed with an extractor, got extractor none"),
        ("mlp-vae", {"best_metric": "kid"}, "best_metric: kid is computed with an extractor, got extractor none"),
    ):
        with pytest.raises(UserError, match=f"^{refusal}"):
            configure(preset, extractor="none", **fields)
    assert main(words) == 0
    with pytest.raises(UserError, match=r"^evaluate_every: an evaluation of a GAN"):
        resume(tmp_path / "gan", steps=20, evaluate_every=5, console=QUIET)
