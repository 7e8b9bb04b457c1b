"""On a GPU: a step that is replayed as a CUDA graph gives the bits of one that is not, from every step on, in every
system, and nothing in a step waits for the device. What can be shown without a GPU is in test_step_graph.py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fused_gan

if not torch.cuda.is_available() or fused_gan.build_info()["cuda"] is None:
    pytest.skip("no GPU, or a build without CUDA", allow_module_level=True)
pytest.importorskip("accelerate")
pytest.importorskip("safetensors")
pytest.importorskip("rich")
pytest.importorskip("tyro")

from rich.console import Console

from fused_gan.base.errors import UserError
from fused_gan.systems.monitor import Monitor
from fused_gan.systems.step_graph import ORDINARY, StepGraph
from fused_gan.systems.system import System
from fused_gan.training import train
from helpers.saved import flat, last_state, numbers
from helpers.small_runs import go_on, options, run
from helpers.step_cases import SYSTEMS, build

REPLAYED = ORDINARY + 5


@pytest.fixture(autouse=True)
def same_convolutions() -> Iterator[None]:
    """cuDNN's default algorithms add in an order that changes from run to run, graph or not."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


def recorded(system: System) -> bool:
    return isinstance(system._work, StepGraph) and system._work.recorded


@pytest.mark.parametrize("name", SYSTEMS)
def test_replayed_steps_are_steps(name: str) -> None:
    plain, replaying = (build(name, "cuda", cuda_graph=choice) for choice in ("off", "on"))
    looks = Monitor(plain), Monitor(replaying)
    default = torch.cuda.get_rng_state()
    for step in range(REPLAYED):
        plain.step()
        replaying.step()
        assert flat(replaying.state_dict()) == flat(plain.state_dict()), f"after step {step + 1}"
    assert (recorded(plain), recorded(replaying)) == (False, True)
    assert looks[0].look() == looks[1].look(), "the gradients of the last step are there to be looked at"
    assert replaying.mean_losses() == plain.mean_losses()
    assert torch.equal(torch.cuda.get_rng_state(), default), "nobody else's random numbers are touched"


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("at", [1, ORDINARY, ORDINARY + 2])
def test_a_replaying_run_is_resumed_from_any_step(name: str, at: int) -> None:
    straight, before, after = (build(name, "cuda", seed=seed) for seed in (1, 1, 99))
    for _ in range(at):
        before.step()
    after.load_state_dict(before.state_dict())
    for _ in range(REPLAYED):
        after.step()
    for _ in range(at + REPLAYED):
        straight.step()
    assert recorded(straight)
    assert recorded(after)
    assert flat(after.state_dict()) == flat(straight.state_dict())


def test_loaded_state_is_not_replayed_into_the_old_memory() -> None:
    first, again = build("mlp-gan", "cuda"), build("mlp-gan", "cuda")
    begun = build("mlp-gan", "cuda").state_dict()
    for _ in range(REPLAYED):
        again.step()
    again.load_state_dict(begun)  # as after a rollback
    for _ in range(REPLAYED):
        first.step()
        again.step()
    assert flat(again.state_dict()) == flat(first.state_dict())


@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_nothing_in_a_step_waits_for_the_device(name: str, choice: str) -> None:
    system = build(name, "cuda", cuda_graph=choice)
    for _ in range(ORDINARY + 1):
        system.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            system.step()
        with pytest.raises(RuntimeError, match="synchronizing"):
            system.mean_losses()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["mlp-gan", "cgan", "wgan-gp", "mlp-vae"])
def test_a_whole_run_writes_the_same_files_with_and_without_and_resumed(
    tmp_path: Path, patches: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def run_with(folder: str, choice: str) -> None:
        run(name, options(name, patches, tmp_path / folder, 40, device="cuda", cuda_graph=choice))

    run_with("plain", "off")
    run_with("replayed", "on")
    take = System.step

    def break_off(system: System) -> None:
        if system.steps_done == 24:
            raise KeyboardInterrupt  # without a word to the trainer, as kill -9 would
        take(system)

    with monkeypatch.context() as patch:
        patch.setattr(System, "step", break_off)
        with pytest.raises(KeyboardInterrupt):
            run_with("resumed", "on")
    go_on(str(tmp_path / "resumed"))
    for folder in ("replayed", "resumed"):
        assert last_state(tmp_path / folder) == last_state(tmp_path / "plain")
        for file in ("metrics.jsonl", "health.jsonl"):
            assert numbers(tmp_path / folder, file) == numbers(tmp_path / "plain", file)


def introduction(preset: Any) -> str:
    file = io.StringIO()
    train("mlp-gan", preset.model, preset.training, Console(file=file, width=400))
    return file.getvalue().splitlines()[0]


def test_the_first_line_says_whether_there_is_a_graph(tmp_path: Path, patches: str) -> None:
    def line(folder: str, **changes: Any) -> str:
        return introduction(options("mlp-gan", patches, tmp_path / folder, 5, device="cuda", **changes))

    assert line("auto").endswith(", step in a CUDA graph")
    assert "CUDA graph" not in line("off", cuda_graph="off")
    assert "no CUDA graph: the images are kept on the host" in line("host", data_place="host")
    with pytest.raises(UserError, match=r"^cuda_graph: the images are kept on the host"):
        line("asked", data_place="host", cuda_graph="on")
