"""Finished runs, trained by the command line, for the tests of the commands that take one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fused_gan.cli.main import main
from helpers.commands import train


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A small data set: 50 random images of 8×6 pixels."""
    path = tmp_path / "patches.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (50, 8, 6), dtype=np.uint8))
    return path


@pytest.fixture
def run(tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a finished run."""
    out = tmp_path / "run"
    assert train(patches, out, "--seed", "3") == 0
    capsys.readouterr()
    return out


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a VAE on 40 RGB images, whose data lies beside it."""
    folder = tmp_path_factory.mktemp("vae")
    np.savez(folder / "p.npz", images=np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), dtype=np.uint8))
    options = ["--data", str(folder / "p.npz"), "--out", str(folder / "run"), "--steps", "20", "--widths", "16"]
    assert main(["train", "mlp-vae", *options, "--device", "cpu", "--no-tensorboard"]) == 0
    return folder / "run"
