"""A run is evaluated, the result kept, and what cannot be evaluated refused with a word on what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fused_gan.base.errors import UserError
from fused_gan.base.scores import INCEPTION_SCORES, SAMPLE_SCORES, VAE_SCORES
from fused_gan.cli.main import main
from fused_gan.data import load
from fused_gan.evaluation import Evaluator, evaluate, inception, load_extractor, read_evaluations
from fused_gan.evaluation import evaluator as evaluator_module
from fused_gan.evaluation.fidelity import classifier_score, frechet_distance
from fused_gan.training import checkpoint, load_checkpoint, save_checkpoint
from helpers.saved import Payload
from helpers.small_data import small_extractor, write_squares
from helpers.small_runs import options, run

SAMPLES = 100
LAST = "step-0000020.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, an extractor for it, and finished runs of a GAN, a conditional one and a VAE."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = write_squares(folder / "squares.npz")
    small_extractor(data, folder / "squares.safetensors")
    for name in ("mlp-gan", "cgan", "mlp-vae"):
        run(name, options(name, data, folder / name, 20))
    return folder


def evaluated(place: Path, name: str, **changes: Any) -> Any:
    extractor = place / "squares.safetensors"
    return evaluate(place / name, **{"samples": SAMPLES, "extractor": extractor, "device": "cpu"} | changes)


@pytest.mark.parametrize("name", ["mlp-gan", "cgan", "mlp-vae"])
def test_every_score_is_kept_with_what_it_depends_on(place: Path, name: str) -> None:
    found = evaluated(place, name)
    wanted = SAMPLE_SCORES.keys() | (VAE_SCORES.keys() - {"ssim"} if name == "mlp-vae" else set())
    assert found.values.keys() == wanted
    assert found.floor.keys() == SAMPLE_SCORES.keys()
    assert 0 < found.floor["fd"] < found.values["fd"]
    settings, extractor = found.settings, load_extractor(place / "squares.safetensors")
    assert (settings.step, settings.samples, settings.seed, settings.checkpoint) == (20, SAMPLES, 0, LAST)
    assert (settings.extractor, settings.extractor_sha256) == (extractor.name, extractor.hash)
    assert (settings.reals, settings.trained_on) == (str(place / "squares.npz"), True)
    assert (settings.iwae_k, settings.binarisation) == ((50, "none") if name == "mlp-vae" else (None, None))
    assert read_evaluations(place / name / "evaluation.json")[-1] == found


def test_equal_settings_give_equal_values_and_others_are_kept_beside(place: Path) -> None:
    (place / "mlp-gan" / "evaluation.json").unlink(missing_ok=True)
    first, second = evaluated(place, "mlp-gan"), evaluated(place, "mlp-gan", seed=1)
    again = evaluated(place, "mlp-gan")
    assert again.values == first.values != second.values
    kept = read_evaluations(place / "mlp-gan" / "evaluation.json")
    assert [one.settings.seed for one in kept] == [1, 0]
    best = evaluated(place, "mlp-gan", checkpoint="best")
    assert best.settings.checkpoint == "best.safetensors"
    assert len(read_evaluations(place / "mlp-gan" / "evaluation.json")) == 3


def test_two_evaluations_that_end_at_the_same_time_are_both_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = evaluated(place, "mlp-gan"), evaluated(place, "mlp-gan", seed=1)
    module = sys.modules[evaluate.__module__]  # its name in the package is the function's
    both_have_read, read = threading.Barrier(2), read_evaluations

    def reading(file: Path) -> Any:
        found = read(file)
        with contextlib.suppress(threading.BrokenBarrierError):  # where the other is kept waiting
            both_have_read.wait(timeout=0.5)
        return found

    monkeypatch.setattr(module, "read_evaluations", reading)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(module._keep, [tmp_path / "evaluation.json"] * 2, [first, second]))
    assert sorted(one.settings.seed for one in read(tmp_path / "evaluation.json")) == [0, 1]


def test_the_real_side_is_computed_once_in_a_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    scores = evaluator_module.Reference.scores
    monkeypatch.setattr(evaluator_module.Reference, "scores", lambda *given: made.append(1) or scores(*given))
    evaluator_module._cached_reference.cache_clear()
    evaluated(place, "mlp-gan")
    assert len(made) == 2, "the floor and the generated images"
    evaluated(place, "mlp-vae")
    assert len(made) == 3


def test_a_conditional_system_is_asked_for_the_classes_of_the_real_images(place: Path, tmp_path: Path) -> None:
    images = load(str(place / "squares.npz"))
    rare = np.where(np.arange(400) % 20, 1, 3)  # 19 of 20 images are of class 1, the others of class 3
    np.savez(tmp_path / "rare.npz", images=images.images[:, 0].numpy(), labels=rare)
    extractor = load_extractor(place / "squares.safetensors")
    evaluator = Evaluator.of(load(str(tmp_path / "rare.npz")), "rare", extractor, SAMPLES)
    asked: list[Any] = []

    class Sampler:
        classes = 4
        class_names = ("0", "1", "2", "3")

        def sample(self, count: int, seed: int, labels: Any) -> Any:
            asked.append((count, seed, labels))
            return images.images[:count].numpy()

    evaluator.scores(Sampler())  # type: ignore[arg-type]
    [(count, seed, labels)] = asked
    assert (count, seed) == (SAMPLES, 0)
    assert set(labels.tolist()) == {1, 3}
    assert (labels == 1).sum() > 80


def test_held_out_images_can_take_the_place_of_those_trained_on(place: Path, tmp_path: Path) -> None:
    held_out = write_squares(tmp_path / "held-out.npz", seed=1)
    found = evaluated(place, "mlp-vae", data=held_out)
    assert (found.settings.reals, found.settings.trained_on) == (held_out, False)
    assert found.values["elbo"] != evaluated(place, "mlp-vae").values["elbo"]
    by_another_path = f"{place / 'mlp-vae' / '..' / 'squares.npz'}"
    assert evaluated(place, "mlp-vae", data=by_another_path).settings.trained_on


def test_a_run_that_trained_on_another_device_is_evaluated_on_this_one(place: Path, tmp_path: Path) -> None:
    last = copied(place, tmp_path, "mlp-vae") / "checkpoints" / LAST
    saved = load_checkpoint(last)
    on_cuda = {"cuda_graph": "on", "mixed_precision": "fp16", "device": "cuda"}
    save_checkpoint(last, saved.config | {"training": saved.config["training"] | on_cuda}, saved.state)
    found = evaluated(tmp_path, "mlp-vae", extractor=place / "squares.safetensors")
    assert found.values == evaluated(place, "mlp-vae").values


def test_the_command_prints_a_table_that_says_what_the_numbers_are(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extractor = place / "squares.safetensors"
    words = ["--samples", str(SAMPLES), "--extractor", str(extractor), "--device", "cpu", "--iwae-k", "3"]
    assert main(["evaluate", str(place / "mlp-vae"), *words]) == 0
    text = capsys.readouterr().out
    name = load_extractor(extractor).name
    for words_printed in (
        f"FD ↓ ({name})",
        "real against real",
        "IWAE bound, nats ↑ (k = 3)",
        "none of these is FID",
        "which the run was trained on",
        "binarisation: none",
        "100 generated against 100 real images",
    ):
        assert words_printed in text
    assert text.splitlines()[-1] == f"evaluation: {place / 'mlp-vae' / 'evaluation.json'}"
    assert main(["report", str(place / "mlp-vae")]) == 0
    page = (place / "mlp-vae" / "report.html").read_text()
    assert "<h2>Evaluation</h2>" in page
    assert f"FD ↓ ({name})" in page


# ---- bad input ------------------------------------------------------------------------------------------------------


def refusal(place: Path, name: str = "mlp-gan", **changes: Any) -> str:
    with pytest.raises(UserError) as raised:
        evaluated(place, name, **changes)
    return str(raised.value)


def test_too_few_samples_or_images_are_refused(place: Path) -> None:
    text = refusal(place, samples=64)
    assert text == "samples: expected 65 or more, which a covariance of 64 features needs, got 64"
    assert "has 400 images; give 200 or fewer" in refusal(place, samples=201)
    # Not a number of samples that the next check refuses.
    few = write_squares(place / "few.npz", 129)
    assert "data: expected 130 images or more" in refusal(place, data=few, samples=65)
    assert "iwae_k: expected a positive integer, got 0" in refusal(place, iwae_k=0)


def test_an_extractor_must_fit_the_images(place: Path, tmp_path: Path) -> None:
    text = refusal(place, extractor="mnist-5k")
    assert "takes images of 1×28×28, those of" in text
    assert "are 1×8×8; train one with: fused-gan extractor --data" in text
    assert "--channels 1 --image-size 8 --out FILE, and give it with --extractor FILE" in text
    assert "none ships for" in refusal(place, extractor=None)
    write_squares(tmp_path / "wide.npz", size=10)
    assert "data: the run makes images of 1×8×8" in refusal(place, data=str(tmp_path / "wide.npz"))


def copied(place: Path, tmp_path: Path, name: str = "mlp-gan") -> Path:
    """A copy of a run that can be spoiled."""
    folder = tmp_path / name
    (folder / "checkpoints").mkdir(parents=True)
    for part in ("config.json", f"checkpoints/{LAST}"):
        (folder / part).write_bytes((place / name / part).read_bytes())
    return folder


def test_an_unfinished_run_is_refused_unless_its_checkpoint_is_named(place: Path, tmp_path: Path) -> None:
    folder = copied(place, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["training"]["steps"] = 6000
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("last", "best"):
        text = refusal(tmp_path, extractor=place / "squares.safetensors", checkpoint=name)
        assert "is unfinished, its last checkpoint is of step 20 of 6,000" in text
        assert f"fused-gan resume {folder}" in text
        assert f"--checkpoint {LAST}" in text
    found = evaluated(tmp_path, "mlp-gan", extractor=place / "squares.safetensors", checkpoint=LAST)
    assert found.settings.step == 20
    (folder / "checkpoints" / LAST).unlink()
    assert "holds no checkpoint; the run saved none yet" in refusal(tmp_path)


def test_what_is_no_run_is_refused(place: Path, tmp_path: Path) -> None:
    assert "none is not a folder" in refusal(tmp_path, "none")
    assert "is not a run folder, it has no config.json" in refusal(tmp_path, ".")
    folder = copied(place, tmp_path)
    last = folder / "checkpoints" / LAST
    last.write_bytes(last.read_bytes()[:-1])
    assert f"{last}: damaged, cut short" in refusal(tmp_path)


def test_a_run_of_another_version_is_named(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = copied(place, tmp_path) / "checkpoints" / LAST
    saved = load_checkpoint(last)
    config = saved.config | {"training": saved.config["training"] | {"warp": 9}, "versions": {"fused_gan": "9.0"}}
    save_checkpoint(last, config, saved.state)
    text = refusal(tmp_path)
    assert "was written by fused_gan 9.0, this is 0.1.0, which does not know its configuration" in text
    assert "warp: mlp-gan has no such field" in text
    assert "evaluate it with that version" in text
    monkeypatch.setattr(checkpoint, "FORMAT", "fused_gan checkpoint 2")
    save_checkpoint(last, saved.config, saved.state)
    monkeypatch.undo()
    text = refusal(tmp_path)
    assert "expected a file of format 'fused_gan checkpoint 1', got 'fused_gan checkpoint 2'" in text
    assert "another version of fused_gan reads what it wrote" in text


@pytest.mark.parametrize(
    "change",
    [{"training": None}, {"preset": None}, {"versions": None, "model": {"warp": 9}}, {"images": 3, "training": 4}],
    ids=str,
)
def test_a_configuration_that_cannot_be_read_is_named(place: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    last = copied(place, tmp_path) / "checkpoints" / LAST
    saved = load_checkpoint(last)
    save_checkpoint(last, saved.config | change, saved.state)
    assert "does not know its configuration" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "fused_gan evaluation 1", "evaluations": [{}]}'])
def test_a_broken_file_of_results_is_not_overwritten(place: Path, tmp_path: Path, content: str) -> None:
    file = copied(place, tmp_path) / "evaluation.json"
    file.write_text(content)
    text = refusal(tmp_path, extractor=place / "squares.safetensors")
    assert f"{file}: broken, move it away to evaluate anew" in text
    file.write_text('{"format": "fused_gan evaluation 2"}')
    assert "got 'fused_gan evaluation 2'; move it away" in refusal(tmp_path, extractor=place / "squares.safetensors")


# ---- Inception ------------------------------------------------------------------------------------------------------


class StandIn(torch.nn.Module):
    """In the place of torch-fidelity's network: means of rows of pixels as features, of columns as logits."""

    def __init__(self, name: str, features: list[str], path: str) -> None:
        super().__init__()
        assert features == ["2048", "logits_unbiased"]
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.load_state_dict(torch.load(path, weights_only=True))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert images.shape[1] == 3
        assert images.dtype == torch.uint8
        grey = images[:, 0] / 255 * self.scale
        return grey.mean(1), grey.mean(2)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights for a torch-fidelity that is as small as can be."""
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    monkeypatch.setattr(inception.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(inception, "FEATURES", 8)
    torch.save({"scale": torch.full((1,), 2.0)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_true_fid_is_the_same_formula_in_other_features(
    place: Path, stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--samples", "100", "--extractor", str(place / "squares.safetensors"), "--device", "cpu"]
    assert main(["evaluate", str(place / "mlp-gan"), *words, "--inception", str(stand_in)]) == 0
    found = read_evaluations(place / "mlp-gan" / "evaluation.json")[-1]
    assert found.floor.keys() == SAMPLE_SCORES.keys() | INCEPTION_SCORES.keys() == found.values.keys()
    images = load(str(place / "squares.npz"))
    chosen = Evaluator.of(images, "squares", load_extractor(place / "squares.safetensors"), 100)
    ours, theirs = (side[:, 0].double() / 255 * 2 for side in (chosen.images, chosen.others))
    assert found.floor["fid"] == pytest.approx(frechet_distance(ours.mean(1), theirs.mean(1)), rel=1e-4)
    assert found.floor["inception_score"] == pytest.approx(classifier_score(theirs.mean(2)), rel=1e-4)
    text = capsys.readouterr().out
    assert "FID ↓ " in text
    assert "in the features of Inception (weights" in text


def test_fid_alone_needs_no_extractor(place: Path, stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(place / "mlp-gan"), "--samples", "100", "--extractor", "none", "--device", "cpu"]
    assert main([*words, "--inception", str(stand_in)]) == 0
    found = read_evaluations(place / "mlp-gan" / "evaluation.json")[-1]
    assert found.floor.keys() == INCEPTION_SCORES.keys() == found.values.keys()
    assert found.settings.extractor_sha256 is None
    assert "features of the" not in capsys.readouterr().out
    assert main(words) == 2
    assert "extractor: without one there has to be --inception" in capsys.readouterr().err


def test_a_vae_without_an_extractor_has_its_own_scores(place: Path) -> None:
    found = evaluated(place, "mlp-vae", extractor="none")
    assert found.values.keys() == VAE_SCORES.keys() - {"ssim"}
    assert found.floor == {}


def test_weights_that_cannot_be_used_are_named(place: Path, stand_in: Path, tmp_path: Path) -> None:
    assert "samples: FID needs more than its 8 features" in refusal(place, samples=8, inception=stand_in)
    assert "none.pth cannot be read: No such file" in refusal(place, inception=tmp_path / "none.pth")
    trap = tmp_path / "trap"
    torch.save({"scale": Payload(trap)}, stand_in)
    assert "weights.pth: expected the state dict" in refusal(place, inception=stand_in)
    assert not trap.exists(), "nothing in the file is run"
    stand_in.write_bytes(b"nonsense")
    assert "weights.pth: expected the state dict" in refusal(place, inception=stand_in)
    torch.save({"other": torch.ones(1)}, stand_in)
    assert "expected the state dict weights-inception-2015-12-05" in refusal(place, inception=stand_in)


def test_a_missing_package_says_how_to_get_it(place: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception.importlib.util, "find_spec", lambda name: None)
    assert "torch-fidelity is missing; get it with: pip install 'fused_gan[inception]'" in refusal(
        place, inception=stand_in
    )
    monkeypatch.setattr(inception.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    assert "torch-fidelity cannot be imported" in refusal(place, inception=stand_in)


def test_a_result_is_a_plain_record(place: Path) -> None:
    found = evaluated(place, "mlp-gan")
    assert json.loads(json.dumps(dataclasses.asdict(found)))["values"] == found.values
