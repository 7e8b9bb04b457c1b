"""What others set in the process or in its environment changes no weight, no sample and no score."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from fused_gan.data import load
from fused_gan.evaluation import Evaluator
from fused_gan.evaluation.train_extractor import train_extractor
from fused_gan.models.sampler import Sampler
from fused_gan.systems.monitor import Monitor
from fused_gan.training import build_system, configure, train
from fused_gan.training import folder as run_folder
from fused_gan.training.load import load_sampler
from helpers.small_runs import QUIET, SMALL, options, write_patches


@contextlib.contextmanager
def changed(set_to: Callable[[Any], object], now: Any, before: Any) -> Iterator[None]:
    set_to(now)
    try:
        yield
    finally:
        set_to(before)


OTHER_TRAINERS = {
    "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
}  # fmt: skip
SURROUNDINGS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "default dtype": lambda: changed(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: changed(torch.set_default_device, "meta", None),
    "device as a context": lambda: torch.device("meta"),
    "gradients off": lambda: changed(torch.set_grad_enabled, False, True),
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "variables of a site": lambda: mock.patch.dict(os.environ, {"PMI_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4"}),
    "other trainers": lambda: mock.patch.dict(os.environ, OTHER_TRAINERS),
    "WORLD_SIZE alone": lambda: mock.patch.dict(os.environ, {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}),
}


def outcome(data: str, folder: Path, preset: str) -> tuple[dict[str, Tensor], Any]:
    """The weights of a run of ten steps, and the pictures that are made with them."""
    train(options(preset, data, folder, 10), console=QUIET)
    sampler = load_sampler(folder, torch.device("cpu"))
    return sampler.network.state_dict(), sampler.sample(5, seed=1)


@pytest.mark.parametrize("preset", ["mlp-gan", "mlp-vae"])
@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_a_run_and_its_samples(
    surroundings: Callable[[], contextlib.AbstractContextManager[object]], preset: str, tmp_path: Path
) -> None:
    data = write_patches(tmp_path / "patches.npz")
    weights, pictures = outcome(data, tmp_path / "one", preset)
    with surroundings():
        found, seen = outcome(data, tmp_path / "two", preset)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    assert (seen == pictures).all()


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_scores(surroundings: Callable[[], contextlib.AbstractContextManager[object]], tmp_path: Path) -> None:
    def scores() -> dict[str, float]:
        images = load("digits")
        extractor = train_extractor("digits", tmp_path / "extractor.safetensors", steps=3)
        found = configure("mlp-gan", **SMALL["mlp-gan"])
        system = build_system(found.model, found.training, images, torch.device("cpu"))
        sampler = Sampler(system.sampling_network, found.model.z_dim, found.model.value_range, 0, (1, 8, 8))
        return Evaluator.of(images, "digits", extractor, 100, seed=0).scores(sampler)

    expected = scores()
    with surroundings():
        assert scores() == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_scores_are_measured_in_float32_where_products_may_be_in_bfloat16() -> None:
    """On a CPU with AMX torch.cdist multiplies in bfloat16 then, and distinct points lie at a distance of 0."""
    seen: list[str] = []
    cdist = torch.cdist

    def watched(*args: Any, **options: Any) -> Tensor:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return cdist(*args, **options)

    found = configure("mlp-gan", **SMALL["mlp-gan"])
    system = build_system(found.model, found.training, load("digits"), torch.device("cpu"))
    system.step()
    monitor = Monitor(system)
    with changed(torch.set_float32_matmul_precision, "medium", "highest"), mock.patch.object(torch, "cdist", watched):
        monitor.look()
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16", "and afterwards it is as it was"
    assert seen
    assert set(seen) == {"ieee"}


def test_what_is_asked_of_accelerate_and_not_heeded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_patches(tmp_path / "patches.npz")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as its launcher sets it where nothing is asked for
    train(options("mlp-gan", data, tmp_path / "run", 10))
    assert capsys.readouterr().out.startswith("not heeded: ACCELERATE_USE_DEEPSPEED=true; precision")
    assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "true"


def test_all_files_of_a_run_can_be_read_by_the_same_people(tmp_path: Path) -> None:
    data = write_patches(tmp_path / "patches.npz")
    before = os.umask(0o027)
    try:
        train(options("mlp-gan", data, tmp_path / "run", 20), console=QUIET)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".jsonl", ".png"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


def test_runs_that_begin_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clock = mock.Mock()
    clock.now.return_value = run_folder.datetime(2026, 1, 2, 3, 4, 5)
    monkeypatch.setattr(run_folder, "datetime", clock)
    names = [run_folder.claim_folder("mlp-gan").name for _ in range(3)]
    assert names == ["mlp-gan-20260102-030405", "mlp-gan-20260102-030405-2", "mlp-gan-20260102-030405-3"]


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="nowhere"):
        train(configure("mlp-gan", data="nowhere.npz", device="cpu"), console=QUIET)
    assert list(tmp_path.glob("runs/*")) == []
