"""A study is written down as a grid, and what is wrong with it is said before anything runs."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fused_gan.base.errors import UserError
from fused_gan.cli.main import main
from fused_gan.study import Study, Success, load_study, shipped_studies
from helpers.studies import write_grid

SHIPPED = ["gan-activations", "gan-smooth-activations", "vae-activations", "vae-smooth-activations"]


def test_every_setting_meets_every_other_from_every_seed(tmp_path: Path) -> None:
    axes = {
        "activation": ["relu", "tanh"],
        "depth": {"1": {"generator_widths": [8]}, "2": {"generator_widths": [8, 8], "lr": 1e-3}},
        "loss": {"hinge": {"loss": "hinge"}, "wgan-gp": {"preset": "wgan-gp", "n_critic": 2}},
    }
    jobs = load_study(write_grid(tmp_path, axes=axes), seeds=3).jobs()
    assert len(jobs) == len({job.name for job in jobs}) == 2 * 2 * 2 * 3
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs), "cut short, it has compared everything once"
    [job] = [job for job in jobs if job.name == "tanh+2+wgan-gp+seed1"]
    preset = job.configured(threads=1)
    assert job.preset == "wgan-gp"
    assert preset.model.activation == "tanh"
    assert preset.model.generator_widths == (8, 8)
    training: Any = preset.training
    assert (training.lr, training.seed, training.n_critic, training.gradient_penalty) == (1e-3, 1, 2, 10.0)
    assert load_study(write_grid(tmp_path, axes=axes)).jobs()[0].configured().training.loss == "hinge"


def test_the_shipped_studies_ask_what_they_promise() -> None:
    assert shipped_studies() == SHIPPED
    gan, gan_smooth, vae, vae_smooth = (load_study(name) for name in SHIPPED)
    assert set(gan.axes["activation"]) == {"sigmoid", "tanh", "relu", "leaky_relu"}
    assert set(gan.axes["output"]) == {"tanh", "sigmoid"}
    assert set(gan.axes["loss"]) == {"non-saturating", "wgan-gp"}
    assert gan.seeds >= 5
    assert set(vae.axes["activation"]) == {"identity", "sigmoid", "tanh", "relu", "leaky_relu"}
    assert vae.seeds >= 8
    for job in gan.jobs():
        model: Any = job.configured().model
        assert model.activation == model.discriminator_activation == job.settings["activation"]
        assert model.output_activation == job.settings["output"]
    for study, before in ((gan_smooth, gan), (vae_smooth, vae)):
        assert set(study.axes["activation"]) == {"leaky_relu", "elu", "selu", "softplus", "gelu", "silu"}
        assert study.seeds >= 5
        assert (study.metrics, study.success) == (before.metrics, before.success)
        # Their tables may be read side by side, as the setting that both have is the same.
        shared = {"activation": "leaky_relu", "output": "tanh", "loss": "non-saturating"}
        [ours, *_], [theirs, *_] = (
            [job.configured() for job in one.jobs() if job.settings.items() <= shared.items()]
            for one in (study, before)
        )
        assert ours == theirs


def test_the_documented_study_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.json").write_text(example)
    assert len(load_study(tmp_path / "mine.json").jobs()) == 3 * 2 * 5


def test_the_jobs_are_listed_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["study", "--config", str(write_grid(tmp_path)), "--out", str(out), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("relu+seed0  to do  mlp-gan ")
    assert "activation=relu" in lines[0]
    assert lines[-1] == f"2 jobs, 0 of them done, in {out}"
    assert not out.exists()


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "unknown entry": ({"epochs": 3}, "unknown: epochs; there are about, preset"),
    "unknown system": ({"preset": "gan"}, "gan"),
    "unknown field": ({"fields": {"width": 3}}, "width"),
    "value out of range": ({"fields": {"steps": 0}}, "steps: expected a positive integer, got 0"),
    "field of the study's own": ({"fields": {"seed": 3}}, "fields: seed cannot be set here"),
    "no monitor": ({"fields": {"health_interval": 0}}, "health_interval: expected a positive integer, got 0"),
    "runs cut short": ({"fields": {"on_collapse": "stop"}}, "on_collapse: expected warn, got stop"),
    "runs that may be cut short": ({"fields": {"on_collapse": "rollback"}}, "on_collapse: expected warn, got rollback"),
    "bar of text": (
        {"success": {"metric": "fd", "at_most": "3"}},
        "expected a finite number as the bar, got '3'",
    ),
    "bar that all pass": ({"success": {"metric": "fd", "at_most": math.inf}}, "success: expected a finite number"),
    "unknown argument of the evaluation": ({"evaluation": {"sample": 3}}, "evaluation: expected some of checkpoint, "),
    "evaluation on a device of its own": (
        {"evaluation": {"device": "cuda:0"}},
        "evaluation: expected some of checkpoint, ",
    ),
    "a VAE's score of a GAN": ({"metrics": ["fd", "elbo"]}, "metrics: no evaluation of relu+seed0 gives elbo"),
    "Inception's score without its weights": (
        {"metrics": ["fd", "fid"]},
        "metrics: no evaluation of relu+seed0 gives fid",
    ),
    "a classifier's score without a classifier": (
        {"evaluation": {"extractor": "none"}},
        "metrics: no evaluation of relu+seed0 gives fd",
    ),
    "SSIM of images smaller than its window": (
        {"preset": "mlp-vae", "fields": {"image_size": 8}, "metrics": ["fd", "mse", "ssim"]},
        "metrics: no evaluation of relu+seed0 gives ssim",
    ),
    "no axes": ({"axes": {}}, "axes: expected at least one"),
    "empty axis": ({"axes": {"activation": []}}, "axes: activation has no settings"),
    "axis of text": ({"axes": {"activation": "relu"}}, "axes: activation: expected a list of values, or an object"),
    "label that is no file name": ({"axes": {"lr": {"1/2": {}}}}, "got '1/2'"),
    "no seeds": ({"seeds": 0}, "seeds: expected a positive integer, got 0"),
    "seeds as text": ({"seeds": "five"}, "seeds: expected an integer, got 'five'"),
    "no bar": ({"success": {"metric": "fd"}}, "success: expected at_most or at_least"),
    "no score": ({"success": {"at_most": 3}}, "success: expected metric and"),
    "metric that there is not": ({"metrics": ["fd", "beauty"]}, "expected some of fd, classifier_score"),
    "score not measured": ({"success": {"metric": "kid", "at_most": 3}}, "success: expected one of the metrics fd"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    changes, message = BROKEN[name]
    path = write_grid(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"study: {path}: ")
    assert message in str(caught.value)


def test_an_evaluation_that_is_no_mapping_is_named() -> None:
    grid: Any = {"about": "?", "preset": "mlp-gan", "fields": {}, "axes": {"loss": {"hinge": {"loss": "hinge"}}}}
    with pytest.raises(UserError, match=r"evaluation: expected an object, got \['samples'\]"):
        Study("mine", **grid, seeds=1, metrics=("fd",), success=Success("fd", at_most=3), evaluation=["samples"])  # type: ignore[arg-type]


def test_what_is_missing_or_no_study_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_grid(tmp_path)
    content = json.loads(path.read_text())
    del content["seeds"], content["axes"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="missing: axes, seeds"):
        load_study(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"grid\.json cannot be read as JSON"):
        load_study(path)
    assert main(["study", "gan-activation"]) == 2
    assert f"'gan-activation' is neither a file nor one of {', '.join(SHIPPED)}" in capsys.readouterr().err
    assert main(["study"]) == 2
    assert f"expected one of {', '.join(SHIPPED)}, or --config FILE" in capsys.readouterr().err
