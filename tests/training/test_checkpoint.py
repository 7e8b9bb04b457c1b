"""A checkpoint holds all of a run, and no damaged or foreign file is taken for one."""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fused_gan.base import tensor_files
from fused_gan.base.files import atomic_write
from fused_gan.data import ImageData, load
from fused_gan.models import MLPGANConfig
from fused_gan.training import (
    CheckpointError,
    GANTraining,
    build_system,
    checkpoint,
    load_checkpoint,
    load_sampler,
    save_checkpoint,
)
from fused_gan.training.folder import RunFolder
from helpers.saved import Payload, described, flat, state_of

CPU = torch.device("cpu")
MODEL = MLPGANConfig(z_dim=8, generator_widths=(16, 32), discriminator_widths=(32, 16))
STATE = {
    "weights": {"0.weight": torch.randn(3, 4), "0.bias": torch.randn(3, dtype=torch.float64)},
    "halves": [torch.randn(5).bfloat16(), torch.randn(2, 2).half().t()],
    "state": {0: {"step": torch.tensor(7.0)}, 1: {}},
    "random": torch.arange(16, dtype=torch.uint8),
    "empty": torch.empty(0, 3),
    "plain": (1, 0.1, True, None, "text", [], ()),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"preset": "mlp-gan", "lr": 2e-4}, STATE)
    return path


@pytest.fixture(scope="module")
def data() -> ImageData:
    """The middles of real digits."""
    return ImageData(load("mnist-5k").images[:, :, 10:18, 10:18].contiguous(), None)


def test_everything_comes_back_as_it_was(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.config == {"preset": "mlp-gan", "lr": 2e-4}
    assert flat(loaded.state) == flat(STATE)


def test_other_tools_read_the_weights(saved: Path) -> None:
    assert torch.equal(safetensors.torch.load_file(saved)["weights/0.weight"], STATE["weights"]["0.weight"])


def test_a_restored_gan_goes_on_as_if_never_stopped(tmp_path: Path, data: ImageData) -> None:
    straight = build_system(MODEL, GANTraining(steps=10, seed=5), data, CPU)
    for _ in range(5):
        straight.step()
    save_checkpoint(tmp_path / "half", {}, straight.state_dict())
    restored = build_system(MODEL, GANTraining(steps=10, seed=99), data, CPU)
    restored.load_state_dict(load_checkpoint(tmp_path / "half").state)
    for _ in range(5):
        straight.step()
        restored.step()
    assert flat(restored.state_dict()) == flat(straight.state_dict())


def test_from_another_kind_of_device_all_but_the_random_numbers_goes_on(data: ImageData) -> None:
    straight = build_system(MODEL, GANTraining(steps=10, seed=5), data, CPU)
    for _ in range(3):
        straight.step()
    elsewhere = straight.state_dict() | {"random_of": "cuda", "random": torch.zeros(16, dtype=torch.uint8)}
    states = []
    for _ in range(2):
        moved = build_system(MODEL, GANTraining(steps=10, seed=5), data, CPU)
        moved.load_state_dict(elsewhere)
        states.append(moved.state_dict())
    names = [name for name in straight.state_dict() if name != "random"]
    assert all(flat(states[0][name]) == flat(straight.state_dict()[name]) for name in names)
    assert torch.equal(states[0]["random"], states[1]["random"])
    assert not torch.equal(states[0]["random"], straight.state_dict()["random"])


def test_every_flipped_byte_is_found(saved: Path) -> None:
    content = saved.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x20
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
            load_checkpoint(saved)


def test_every_cut_is_found(saved: Path) -> None:
    content = saved.read_bytes()
    for length in {0, 1, 7, 8, 9, *range(20, len(content), 53), len(content) - 1}:
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
            load_checkpoint(saved)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    path, trap = tmp_path / "model.pt", tmp_path / "trap"
    for content in (pickle.dumps(Payload(trap)), None):
        if content is None:
            torch.save(Payload(trap), path)
        else:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.pt: damaged, cut short, or not a safetensors file"):
            load_checkpoint(path)
    assert not trap.exists()


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(3)}, foreign)
    with pytest.raises(
        CheckpointError, match=r"foreign\.safetensors: expected a file of format 'fused_gan checkpoint 1'"
    ):
        load_checkpoint(foreign)
    with pytest.raises(CheckpointError, match="missing: cannot be read: No such file"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "state",
    ['{"tensor": "nowhere"}', '{"a": 1, "b": 2}', "{}", '{"dict": 3}', "[" * 10**5, '{"list":' * 10**5, "no JSON"],
)
def test_a_forged_structure_with_a_right_checksum_is_refused(tmp_path: Path, state: str) -> None:
    metadata = {"format": checkpoint.FORMAT, "config": "{}", "state": state}
    tensors = {"a": torch.ones(2)}
    metadata["sha256"] = checkpoint._digest(metadata, tensors)
    safetensors.torch.save_file(tensors, tmp_path / "forged", metadata)
    with pytest.raises(CheckpointError, match="forged: its metadata is not of format"):
        load_checkpoint(tmp_path / "forged")


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "unknown"},
        {"model": {"z_dim": 10**12}},
        {"model": {"z_dim": 10**30}},
        {"model": {"no_such_field": 1}},
        {"model": 3},
        {"image_shape": [1, 9, 9]},
        {"image_shape": "wide"},
    ],
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(
    tmp_path: Path, data: ImageData, change: dict[str, Any]
) -> None:
    gan = build_system(MODEL, GANTraining(), data, CPU)
    model = {"z_dim": 8, "generator_widths": [16, 32], "discriminator_widths": [32, 16]}
    description = described(model=model)
    config, state = description.to_json(), state_of(gan)
    folder = RunFolder(tmp_path / "run")
    folder.create(description)
    path = folder.checkpoints / "step-0000001.safetensors"
    save_checkpoint(path, config, state)
    noise = torch.randn(3, 8)
    assert torch.equal(load_sampler(folder.path, CPU).network(noise), gan.generate(noise))
    save_checkpoint(path, config | change, state)
    with pytest.raises(CheckpointError, match=r"step-0000001\.safetensors: its weights and its .* do not fit"):
        load_sampler(folder.path, CPU)


@pytest.mark.parametrize("state", [{"a": object()}, {"a": [{1, 2}]}, {1.5: 0}], ids=["object", "set", "float key"])
def test_what_cannot_be_saved_is_named_before_anything_is_written(saved: Path, state: Any) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=r"^checkpoint: "):
        save_checkpoint(saved, {}, state)
    assert saved.read_bytes() == before


def test_a_failing_disk_leaves_the_previous_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    before = saved.read_bytes()
    monkeypatch.setattr(tensor_files, "save_file", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, {}, {"a": torch.ones(3)})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_write_is_seen_whole_or_not_at_all(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_in_the_middle() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            assert path.read_text() == "old"
            raise failure

    with pytest.raises(failure):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps("new"))
    assert path.read_text() == '"new"'
    assert list(tmp_path.iterdir()) == [path]


def test_a_sampler_needs_no_more_than_networks_and_sizes(tmp_path: Path, data: ImageData) -> None:
    """A file of another version may hold other fields of the training and of the run."""
    gan = build_system(MODEL, GANTraining(), data, CPU)
    model = {"z_dim": 8, "generator_widths": [16, 32], "discriminator_widths": [32, 16]}
    description = described(model=model)
    folder = RunFolder(tmp_path / "run")
    folder.create(description)
    config, state = description.to_json(), state_of(gan)
    for name in ("training", "images", "versions"):
        del config[name]
    del state["run"]["rollbacks"]
    save_checkpoint(folder.checkpoints / "step-0000001.safetensors", config, state)
    noise = torch.randn(3, 8)
    assert torch.equal(load_sampler(folder.path, CPU).network(noise), gan.generate(noise))
