"""A run that goes on may compute elsewhere and write otherwise, and stays the same experiment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fused_gan.base.errors import UserError
from fused_gan.cli.main import main
from fused_gan.systems.config import RUNTIME
from fused_gan.training import GANTraining, RunFolder, VAETraining, resume
from fused_gan.training.folder import read_lines
from helpers.saved import last_state
from helpers.small_data import small_extractor, write_squares
from helpers.small_runs import QUIET, options, run

# Of each something else than the run was begun with; the device is the only one that every machine has.
OTHERS = {
    "device": "cpu",
    "threads": 1,
    "cuda_graph": "off",
    "data_place": "host",
    "log_interval": 4,
    "sample_interval": 0,
    "checkpoint_interval": 6,
    "keep_checkpoints": 9,
    "evaluate_every": 15,
    "tensorboard": True,
}


def weights(out: Path) -> list[Any]:
    """What the last checkpoint holds of the system."""
    state = dict(last_state(out))
    for about_the_log in ("run", "loss_sums", "losses_summed"):
        state.pop(about_the_log)
    return sorted(state.items())


def test_the_weights_are_those_of_a_run_left_alone(tmp_path: Path, interrupted: Any) -> None:
    assert OTHERS.keys() == set(RUNTIME)
    data, extractor = write_squares(tmp_path / "squares.npz"), tmp_path / "squares.safetensors"
    small_extractor(data, extractor)
    changes = {"evaluate_samples": 100, "extractor": str(extractor)}
    run("mlp-gan", options("mlp-gan", data, tmp_path / "straight", 40, **changes))
    interrupted(20)
    run("mlp-gan", options("mlp-gan", data, tmp_path / "stopped", 40, **changes))
    folder = RunFolder(tmp_path / "stopped")
    before = folder.read_config().training
    assert main(["resume", str(folder.path), *words(OTHERS)]) == 0
    assert weights(folder.path) == weights(tmp_path / "straight")
    assert folder.read_config().training == before | OTHERS
    lines = read_lines(folder.metrics)
    assert [line["step"] for line in lines if "fd" in line] == [30, 40]
    assert [line["step"] for line in lines if "generator_loss" in line] == [5, 10, 15, 20, 24, 28, 32, 36, 40]
    assert [path.name for path in sorted(folder.samples.iterdir())][-2:] == ["step-0000020.png", "step-0000040.png"]
    assert any(folder.tensorboard.iterdir())
    kept = [int(path.stem.removeprefix("step-")) for path in sorted(folder.checkpoints.glob("step-*"))]
    assert kept == [10, 20, 24, 30, 36, 40]


def test_a_run_without_a_graph_stays_so_where_a_device_is_given(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    data = write_squares(tmp_path / "squares.npz")
    run("mlp-gan", options("mlp-gan", data, folder.path, 10, cuda_graph="off"))
    resume(folder.path, steps=20, console=QUIET, device="cpu")
    assert folder.read_config().training["cuda_graph"] == "off"


def words(fields: dict[str, Any]) -> list[str]:
    """The command line that sets them."""
    return [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_what_is_part_of_the_experiment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {field.name for kind in (GANTraining, VAETraining) for field in dataclasses.fields(kind)}
    assert fields > set(RUNTIME)
    for name in sorted(fields - set(RUNTIME) - {"steps", "data"}):  # data may have moved
        option = f"--{name.replace('_', '-')}"
        with pytest.raises(SystemExit) as ended:
            main(["resume", str(tmp_path), option, "1"])
        assert ended.value.code == 2
        assert option in capsys.readouterr().err
        with pytest.raises(UserError, match=f"^{name}: only steps, device, threads, .* may change when a run goes on"):
            resume(tmp_path, console=QUIET, **{name: 1})
    with pytest.raises(SystemExit):
        main(["resume", str(tmp_path), "--threads", "many"])
    run("mlp-gan", options("mlp-gan", write_squares(tmp_path / "squares.npz"), tmp_path / "run", 10))
    assert main(["resume", str(tmp_path / "run"), "--steps", "20", "--threads", "0"]) == 2
    assert "threads: expected a positive integer, got 0" in capsys.readouterr().err
