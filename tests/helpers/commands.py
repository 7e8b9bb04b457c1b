"""For the tests of the command line: a small run by `fused-gan train`, and the line with which words are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fused_gan.cli.main import main

LAST = "checkpoints/step-0000020.safetensors"
SMALL = ["--z-dim", "8", "--generator-widths", "32", "--discriminator-widths", "32", "--device", "cpu"]


def train(patches: Path, out: Path, *options: str) -> int:
    words = ["--data", str(patches), "--out", str(out), "--steps", "20", "--no-tensorboard"]
    return main(["train", "mlp-gan", *SMALL, *words, *options])


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line on standard error with which `arguments` are refused, exit status 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fused-gan: error: ")
    assert error.count("\n") == 1
    return error
