"""A training step depends on memory alone, so that it can be recorded once and replayed. Here its operators are taped;
test_cuda_graph.py does the same with CUDA graphs, on a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fused_gan.base.errors import UserError
from fused_gan.systems import system
from fused_gan.systems.config import GANTraining
from fused_gan.systems.monitor import Monitor
from fused_gan.systems.step_graph import ORDINARY, StepGraph, graph_obstacle
from fused_gan.training import load_checkpoint, resume
from helpers.saved import flat, last_state, numbers
from helpers.small_runs import options, run, write_patches
from helpers.step_cases import SYSTEMS, build
from helpers.tape import Tape, TapedStep


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Within it, systems that are built tape their steps, as if their device had graphs."""

    @contextmanager
    def taping() -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(system, "StepGraph", TapedStep)
            patch.setattr(system, "graph_obstacle", lambda *facts: None)
            yield

    return taping


@pytest.mark.parametrize("name", SYSTEMS)
def test_replayed_steps_are_steps(taped: Any, name: str) -> None:
    plain = build(name)
    with taped():
        replaying = build(name)
    assert isinstance(replaying._work, TapedStep)
    looks = Monitor(plain), Monitor(replaying)
    for _ in range(ORDINARY + 4):
        plain.step()
        replaying.step()
        assert flat(replaying.state_dict()) == flat(plain.state_dict())
    assert replaying._work.tape is not None
    assert len(replaying._work.tape) > 20
    assert looks[0].look() == looks[1].look(), "the gradients of the last step are there to be looked at"
    assert replaying.mean_losses() == plain.mean_losses()


@pytest.mark.parametrize("name", ["mlp-gan", "wgan", "mlp-vae"])
@pytest.mark.parametrize("at", [2, ORDINARY + 1, ORDINARY + 3])
def test_a_replaying_run_is_resumed_from_any_step(taped: Any, name: str, at: int) -> None:
    plain = build(name)
    with taped():
        before, after = build(name), build(name, seed=99)
        for _ in range(at):
            before.step()
        after.load_state_dict(before.state_dict())
        for _ in range(ORDINARY + 3):
            after.step()
    for _ in range(at + ORDINARY + 3):
        plain.step()
    assert flat(after.state_dict()) == flat(plain.state_dict())


def test_loaded_state_is_not_replayed_into_the_old_memory(taped: Any) -> None:
    plain = build("mlp-gan")
    with taped():
        replaying = build("mlp-gan")
        for _ in range(ORDINARY + 2):
            replaying.step()
        replaying.load_state_dict(build("mlp-gan").state_dict())  # as after a rollback
        for _ in range(ORDINARY + 2):
            replaying.step()
            plain.step()
    assert flat(replaying.state_dict()) == flat(plain.state_dict())


def test_a_whole_run_writes_the_same_files(tmp_path: Path, taped: Any) -> None:
    data = write_patches(tmp_path / "patches.npz")
    run("mlp-gan", options("mlp-gan", data, tmp_path / "plain", 40))
    with taped():
        run("mlp-gan", options("mlp-gan", data, tmp_path / "taped", 40))
    assert last_state(tmp_path / "taped") == last_state(tmp_path / "plain")
    for file in ("metrics.jsonl", "health.jsonl"):
        assert numbers(tmp_path / "taped", file) == numbers(tmp_path / "plain", file)


def test_the_tape_shows_what_the_host_would_have_to_bring() -> None:
    memory, total = torch.ones(3), torch.zeros(3)
    factor = 2.0
    with Tape() as tape:
        total.add_(memory * factor)
    factor = 5.0
    memory.fill_(10.0)
    tape.replay()
    assert total.tolist() == [22.0] * 3, "memory is read anew, a number of the host's is not"
    with Tape(), pytest.raises(AssertionError, match="waits for the device"):
        memory.sum().item()
    with Tape(), pytest.raises(AssertionError, match="draws random numbers"):
        torch.randn(3)


def test_calls_are_made_on_one_stream_then_recorded_once_then_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = str(name)

        def wait_stream(self, other: Stream) -> None:
            told.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def within(name: str) -> Any:
        told.append(f"in {name}")
        yield

    cuda = SimpleNamespace(
        Stream=lambda device: Stream("own"),
        current_stream=lambda: Stream("current"),
        device=lambda device: within(str(device)),
        stream=lambda stream: within(stream.name),
        graph=lambda graph, stream: within(f"recording on {stream.name}"),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: told.append("replay")),
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    graph = StepGraph(lambda: told.append("step"), torch.device("cuda:1"))
    ordinary = ["in cuda:1", "own waits for current", "in own", "step", "current waits for own"]
    for _ in range(ORDINARY):
        told.clear()
        graph()
        assert told == ordinary
        assert not graph.recorded
    told.clear()
    graph()
    assert told == ["in cuda:1", "in recording on own", "step", "replay"]
    assert graph.recorded
    told.clear()
    graph()
    assert told == ["in cuda:1", "replay"]


def test_what_cannot_be_replayed_is_explained() -> None:
    cuda = SimpleNamespace(device=torch.device("cuda"), on_host=False)
    plain, half = GANTraining(), GANTraining(mixed_precision="fp16")
    assert graph_obstacle(plain, cuda, 1) is None  # type: ignore[arg-type]
    assert "2 processes exchange" in str(graph_obstacle(plain, cuda, 2))  # type: ignore[arg-type]
    assert "fp16's loss scale" in str(graph_obstacle(half, cuda, 1))  # type: ignore[arg-type]
    cuda.on_host = True
    assert "images are kept on the host" in str(graph_obstacle(plain, cuda, 1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^cuda_graph: it needs a CUDA device, not cpu"):
        build("mlp-gan", cuda_graph="on")
    assert not build("mlp-gan").replays


def test_a_run_with_a_graph_goes_on_where_there_is_none(tmp_path: Path, taped: Any) -> None:
    data = write_patches(tmp_path / "patches.npz")
    with taped():
        run("mlp-gan", options("mlp-gan", data, tmp_path / "run", 10, cuda_graph="on"))
    with pytest.raises(UserError, match=r"^cuda_graph: it needs a CUDA device"):
        resume(tmp_path / "run", steps=20)
    assert resume(tmp_path / "run", steps=20, device="cpu").steps_done == 20
    assert (
        load_checkpoint(tmp_path / "run/checkpoints/step-0000020.safetensors").config["training"]["cuda_graph"]
        == "auto"
    )
