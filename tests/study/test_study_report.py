"""A study's report holds everything, and says in words no more than its numbers show."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fused_gan.base.errors import UserError
from fused_gan.study import Result, StudyFolder, cells, differences, write_study
from fused_gan.study.plots import unused_by_layer
from fused_gan.study.result import weakest_share
from fused_gan.study.summary import format_number, plus_minus, summarise
from fused_gan.training.description import RunDescription
from helpers.studies import result, study


def made_up(seeds: int, gap: float) -> list[Result]:
    """Runs whose score is by `gap` lower with relu than with tanh, but for noise, whatever the output."""
    random = np.random.default_rng(0)
    return [
        result((activation, output), seed, 5 + gap * (activation == "tanh") + random.normal())
        for seed in range(seeds)
        for activation in ("relu", "tanh")
        for output in ("tanh", "sigmoid")
    ]


def words(seeds: int, results: list[Result]) -> str:
    of = study(seeds)
    compared = [difference for axis in of.axes for difference in differences(of, results, "fd", axis)]
    return "\n".join(summarise(of, cells(of, results), compared))


def test_a_difference_that_is_there_is_told() -> None:
    told = words(8, made_up(8, gap=50))
    [sentence] = [line for line in told.splitlines() if "Activation on average over output: FD is lower" in line]
    match = re.search(r"with relu than with tanh by ([\d.]+) \(95% interval ([\d.]+) to ([\d.]+), 8 seeds\)", sentence)
    assert match is not None
    mean, low, high = map(float, match.groups())
    assert low < mean < high
    assert low <= 50 <= high
    assert "Every run succeeded with: relu, tanh; relu, sigmoid." in told
    assert "No run succeeded with: tanh, tanh; tanh, sigmoid." in told
    assert "16 succeeded: FD at most 10" in told


def test_a_difference_that_is_not_shown_is_not_told() -> None:
    told = words(8, made_up(8, gap=0))
    assert "Activation on average over output: no difference is shown between relu and tanh (95% interval -" in told
    assert "is lower" not in told


def test_of_few_seeds_no_difference_is_told() -> None:
    told = words(3, made_up(3, gap=50))
    assert "is lower" not in told
    assert "Activation: with fewer than 5 pairs of seeds, nothing is said about differences." in told


def test_where_it_is_the_other_way_round_is_told() -> None:
    results = [
        result((activation, output), seed, 5 + (gap + 0.1 * seed) * (activation == "tanh"))
        for seed in range(5)
        for output, gap in (("tanh", 50.0), ("sigmoid", -3.0))
        for activation in ("relu", "tanh")
    ]
    told = words(5, results)
    assert "Activation on average over output: FD is lower with relu than with tanh by 23.7" in told
    assert "But with output sigmoid, FD is lower with tanh than with relu by 2.8 " in told


def test_gradients_units_and_verdicts_are_told_by_the_first_axis() -> None:
    results = [result((label, "tanh"), 0, 1.0, ["vanishing"] * (label == "tanh")) for label in ("relu", "tanh")]
    told = words(1, results)
    assert "in the median run: 0.01 with relu (0.01 to 0.01); 0.01 with tanh (0.01 to 0.01)." in told
    assert "0 on all of 128 images, in the hidden layer where it is largest: 25.0% with relu (25% to 25%)" in told
    assert "Verdicts at the end of the 1 runs with tanh: vanishing in 1." in told
    assert "runs with relu" not in told


def test_runs_that_exploded_are_left_out_with_their_number() -> None:
    exploded = {"gradient_norms": {"generator.0": math.inf, "generator.1": 1.0}, "dead": {"generator.0": 1.0}}
    without = {"dead": {"generator.0": math.nan}}
    results = [result(("relu", "tanh"), 0, 2.0), result(("relu", "tanh"), 1, 4.0, **without)]
    results += [result(("relu", "tanh"), 2, math.nan, diverged="at step 7 a loss is not finite", **exploded)]
    results += [result(("tanh", "tanh"), seed, math.nan, diverged="at step 7", **exploded) for seed in range(3)]
    results += [result(("tanh", "sigmoid"), seed, 9.0) for seed in range(3)]
    told = words(3, results)
    assert "Mean FD goes from 3.0 ± 1.4 (2 of 3 runs) with activation relu, output tanh to 9 ± 0 with" in told
    assert "No run has a finite FD with: tanh, tanh." in told
    assert "At the end, gradients or outputs were not finite in 5 of 9 runs, which are left out" in told
    [end] = [line for line in told.splitlines() if line.startswith("At the end, the gradient of the weakest layer")]
    assert "0.01 with relu (0.01 to 0.01) (1 of 3 runs); 0.01 with tanh (0.01 to 0.01) (3 of 6 runs)." in end
    assert (
        "in the hidden layer where it is largest: 25.0% with relu (25% to 25%) (1 of 3 runs); 25.0% with tanh" in told
    )
    assert weakest_share(results[0].end) == pytest.approx(0.01)


def test_differences_that_are_all_equal_are_told_without_a_claim() -> None:
    settings = [(activation, output) for activation in ("relu", "tanh") for output in ("tanh", "sigmoid")]
    results = [result(labels, seed, seed + 3.0 * (labels[0] == "tanh")) for labels in settings for seed in range(8)]
    told = words(8, results)
    assert "Activation on average over output: so many seeds differ equally that there is no interval for relu" in told
    assert "relu and tanh (mean -3)" in told
    assert "is lower" not in told


def test_what_else_a_setting_changes_is_told() -> None:
    axes: dict[str, dict[str, dict[str, Any]]] = {
        "output": {"tanh": {"instance_noise": 1.0}, "sigmoid": {"instance_noise": 0.5}},
        "loss": {"non-saturating": {"steps": 60}, "wgan-gp": {"preset": "wgan-gp", "instance_noise": 0.0, "steps": 9}},
    }
    results = [
        dataclasses.replace(result((), 0, 1.0), settings={"output": output, "loss": loss})
        for output in axes["output"]
        for loss in axes["loss"]
    ]
    of = study(1, axes)
    told = "\n".join(summarise(of, cells(of, results), differences(of, results, "fd", "loss")))
    [sentence] = [line for line in told.splitlines() if "stands for" in line]
    assert sentence.startswith("Loss: non-saturating stands for preset=mlp-gan, ")
    assert "steps=60, " in sentence.partition("wgan-gp stands for")[0]
    assert "instance_noise=1.0 or 0.5, " in sentence.partition("wgan-gp stands for")[0]
    for text in ("preset=wgan-gp, ", "steps=9, ", "betas=(0.0, 0.9), ", "n_critic=5, ", "instance_noise=0.0, "):
        assert text in sentence.partition("wgan-gp stands for")[2]


def test_units_are_drawn_at_the_names_of_their_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {"dead": {"generator.0": 0.1, "generator.2": 0.3, "generator.10": 0.4}}
    results = [result(("relu", "tanh"), 0, 1.0, dead={"generator.10": 0.2}), result(("tanh", "tanh"), 0, 1.0, **deep)]
    of, drawn = study(1), []
    monkeypatch.setattr("fused_gan.study.plots._png", lambda figure: drawn.append(figure) or b"")
    unused_by_layer(of, cells(of, results))
    [panel] = drawn[0].axes
    ticks = dict(zip(panel.get_xticks(), (label.get_text() for label in panel.get_xticklabels()), strict=True))
    curves = [{ticks[place]: share for place, share in zip(*line.get_data(), strict=True)} for line in panel.lines]
    assert curves == [{"generator.10": 0.2}, deep["dead"]]
    assert list(ticks.values()) == ["generator.0", "generator.2", "generator.10"]


def test_how_runs_were_evaluated_is_said_of_those_that_were(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for seed, (step, seconds, torch) in enumerate(((100, 1.0, "2.11"), (300, 4.0, "2.13"), (100, 2.0, "2.13"))):
        one = result(("relu", "tanh"), seed, 3.0)
        one.evaluation["settings"]["step"] = step
        one.evaluation.update(seconds=seconds, versions={"torch": torch}, floor={"fd": 0.5 + 0.1 * seed})
        folder.job(one.name).path.mkdir(parents=True)
        one.write(folder.job(one.name).result)
    write_study(folder, study(3))
    page = folder.report.read_text()
    for text in (
        "3 of 3 runs were evaluated like this:",
        "0.5 to 0.7",
        "of the checkpoint after step 100 (2 of 3 runs), 300 (1 of 3 runs)",
        "by torch 2.11 (1 of 3 runs), torch 2.13 (2 of 3 runs)",
        "1 to 4 s each",
        "The curves over time compare 2000 samples with as many real images",
    ):
        assert text in page


def test_the_page_the_csv_and_the_json_hold_every_job(tmp_path: Path) -> None:
    of, folder = study(5), StudyFolder(tmp_path)
    assert not write_study(folder, of), "there is nothing to write yet"
    assert not list(tmp_path.iterdir())
    results = made_up(5, gap=50)
    results[-1] = result(("tanh", "sigmoid"), 4, math.nan, diverged="at step 7 a loss is not finite")
    for one in results:
        job = folder.job(one.name)
        job.run.path.mkdir(parents=True)
        one.write(job.result)
        Image.new("L", (8, 8)).save(job.run.picture)
    conditional = RunDescription("cgan", {}, {}, (1, 8, 8), 60, 2, None, {}, ("ant", "bee"))
    folder.job(results[0].name).run.write_config(conditional)
    assert write_study(folder, of)
    rows = list(csv.DictReader(folder.csv.open()))
    assert len(rows) == 20
    assert float(rows[0]["fd"]) == pytest.approx(results[0].value("fd"))
    assert rows[-1]["diverged"] == "at step 7 a loss is not finite"
    assert [row["succeeded"] for row in rows] == [str(int(one.succeeded(of.success))) for one in results]
    content = json.loads(folder.json.read_text(), parse_constant=pytest.fail)
    assert len(content["results"]) == 20
    assert content["cells"][0]["successes"] == 5
    assert {one["axis"] for one in content["differences"]} == {"activation", "output"}
    page = folder.report.read_text()
    for text in (
        "Study: made-up",
        "Which?",
        "Settings",
        "Differences",
        "FD ↓ over the steps",
        "made up",
        "Root mean square",
        "dead",
    ):
        assert text in page
    for sentence in content["summary"]:
        assert sentence.replace("'", "&#x27;") in page
    assert page.count("<figcaption>relu, tanh. Columns, from the left: ant, bee.</figcaption>") == 1
    assert page.count("<figcaption>relu, sigmoid</figcaption>") == 1
    assert page.count("data:image/png;base64,") == 3 + 4, "curves, gradients, units; a grid for each setting"
    assert not re.search(r"(src|href)=\"(?!data:)", page), "it refers to no other file"


def test_what_was_measured_in_different_ways_is_not_compared(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for seed in range(2):
        one = result(("relu", "tanh"), seed, 3.0)
        one.evaluation["settings"]["extractor_sha256"] = str(seed) * 64
        folder.job(one.name).path.mkdir(parents=True)
        one.write(folder.job(one.name).result)
    with pytest.raises(UserError, match=r"relu\+tanh\+seed0 was evaluated with .*remove the result\.json"):
        write_study(folder, study(2))


def test_a_metric_that_no_evaluation_gave_is_named() -> None:
    with pytest.raises(UserError, match=r"the evaluation of relu\+tanh\+seed0 has no ssim, only fd"):
        result(("relu", "tanh"), 0, 3.0).value("ssim")


def test_numbers_are_rounded_as_their_spread_wants() -> None:
    assert [format_number(value) for value in (1234.5, 12.345, 0.00123456, math.nan)] == [
        "1,234",
        "12.3",
        "0.00123",
        "–",
    ]
    assert plus_minus(12.3456, 0.123) == "12.35 ± 0.12"
    assert plus_minus(1234.56, 123.4) == "1,235 ± 123"
    assert plus_minus(0.5, math.nan) == "0.5 ± –"
