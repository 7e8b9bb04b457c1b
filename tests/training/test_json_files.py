"""Every JSON file is one that strict readers take, and numbers that JSON has none for come back from it."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors import safe_open

import fused_gan
from fused_gan.base.json_files import read_json, restore_non_finite, to_json_text, write_json
from fused_gan.cli.main import main
from fused_gan.evaluation import Evaluation, read_evaluations
from fused_gan.evaluation.result import Settings
from fused_gan.evaluation.table import print_evaluation
from fused_gan.study import Result, StudyFolder, write_study
from fused_gan.training import RunFolder, load_checkpoint, save_checkpoint
from fused_gan.training.evaluate import FORMAT
from fused_gan.training.folder import read_lines
from helpers.saved import described
from helpers.studies import result, study

NESTED = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5, 3)}], "d": None, "e": "words", "f": True, "g": ""}


def strictly(text: str) -> Any:
    return json.loads(text, parse_constant=pytest.fail)


def same(first: Any, second: Any) -> bool:
    """Equal, NaN with NaN, a tuple with a list."""
    return repr(json.loads(json.dumps(first))) == repr(json.loads(json.dumps(second)))


def test_what_is_written_is_strict_and_comes_back(tmp_path: Path) -> None:
    assert strictly(to_json_text([math.nan, math.inf, -math.inf])) == ["NaN", "Infinity", "-Infinity"]
    write_json(tmp_path / "file.json", NESTED)
    strictly((tmp_path / "file.json").read_text())
    assert same(restore_non_finite(read_json(tmp_path / "file.json")), NESTED)


def test_no_other_writer_is_lax() -> None:
    """Wherever else JSON is made, Python is told to refuse what JSON has not."""
    package = Path(fused_gan.__file__).parent
    lax = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.name != "json_files.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps")
        if not any(word.arg == "allow_nan" and ast.unparse(word.value) == "False" for word in node.keywords)
    ]
    assert not lax


def test_logs_are_strict_and_older_ones_are_still_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 1, "psnr": Infinity}\n')
    folder.add_line(folder.metrics, {"step": 2, "psnr": math.inf})
    folder.add_line(folder.health, {"step": 2, "dead": {"generator.0": math.nan}, "accuracy_real": None})
    assert [line["psnr"] for line in read_lines(folder.metrics)] == [math.inf, math.inf]
    [look] = read_lines(folder.health)
    assert math.isnan(look["dead"]["generator.0"])
    assert look["accuracy_real"] is None, "that there is no number is something else"
    folder.rewind(2)
    assert strictly(folder.metrics.read_text().splitlines()[0]) == {"step": 1, "psnr": "Infinity"}
    strictly(folder.health.read_text())


def test_a_checkpoint_is_strict_too(tmp_path: Path) -> None:
    state = {"run": {"best": math.inf, "latest": {"psnr": -math.inf, "loss": math.nan}, "norms": [1.0, math.inf]}}
    save_checkpoint(tmp_path / "file", {"preset": "mlp-gan"}, state)
    with safe_open(tmp_path / "file", "pt") as file:
        strictly(file.metadata()["state"])
    assert same(load_checkpoint(tmp_path / "file").state, state)


def exact() -> Evaluation:
    """Of a VAE that gives some image back to the last bit, and whose bound overflowed."""
    settings = Settings(**result((), 0, 1.0).evaluation["settings"])
    return Evaluation({"psnr": math.inf, "mse": 0.25, "iwae": math.nan}, {"fd": 0.5}, settings, 1.0, {})


def test_scores_that_are_not_finite_are_kept_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, found = RunFolder(tmp_path), exact()
    training = {"data": "noise", "seed": 0, "device": "cpu", "steps": 10}
    folder.create(described(preset="mlp-vae", training=training, image_shape=(1, 2, 2)))
    write_json(folder.evaluation, {"format": FORMAT, "evaluations": [dataclasses.asdict(found)]})
    strictly(folder.evaluation.read_text())
    [kept] = read_evaluations(folder.evaluation)
    assert same(dataclasses.asdict(kept), dataclasses.asdict(found))
    folder.add_line(folder.metrics, {"step": 10, "seconds": 1.0, "images_per_second": 1.0} | found.values)
    assert main(["report", str(tmp_path)]) == 0
    print_evaluation(kept, Console(width=200))
    for shown in (folder.report.read_text(), capsys.readouterr().out):
        for text in ("∞", "not a number", "PSNR is infinite for an image", "IWAE bound, nats is not finite"):
            assert text in shown


def test_a_study_keeps_them_and_takes_no_mean_of_them(tmp_path: Path) -> None:
    of, folder = dataclasses.replace(study(2), metrics=("fd", "psnr"), preset="mlp-vae"), StudyFolder(tmp_path)
    for seed, psnr in enumerate((20.0, math.inf)):
        one = result(("relu", "tanh"), seed, 3.0, dead={"generator.0": math.nan})
        one.evaluation["values"]["psnr"] = psnr
        one.curve[0]["psnr"] = psnr
        folder.job(one.name).path.mkdir(parents=True)
        one.write(folder.job(one.name).result)
        strictly(folder.job(one.name).result.read_text())
        kept = Result.read(folder.job(one.name).result)
        assert (kept.value("psnr"), kept.curve[0]["psnr"]) == (psnr, psnr)
        assert math.isnan(kept.end["dead"]["generator.0"])
    assert write_study(folder, of)
    content = strictly(folder.json.read_text())
    assert content["cells"][0]["metrics"]["psnr"] == {"mean": 20.0, "deviation": None}
    assert content["results"][1]["evaluation"]["values"]["psnr"] == "Infinity"
    assert "20 ± – (1 of 2 runs)" in folder.report.read_text()
