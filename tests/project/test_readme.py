"""The recipes of docs/train.md run, but for their sizes, and the commands and links that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fused_gan.cli.main import main
from fused_gan.training import PRESETS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAIN = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")


def test_the_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("photos.npz", images=np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8))
    vae = ["train", "mlp-vae", "--steps", "2", "--out", "runs/my-vae", "--no-tensorboard", "--device", "cpu"]
    assert main(vae) == 0
    [code] = re.findall(r"^Five recipes.*?:\n```python\n(.*?)```", TRAIN, re.DOTALL | re.MULTILINE)
    sizes = "z_dim=64, generator_widths=(32,), discriminator_widths=(32,)"
    for written, smaller in (
        ("steps=20_000", "steps=4"), ("steps=40_000", "steps=6"), ("range(1000)", "range(3)"), ("z_dim=64", sizes),
    ):  # fmt: skip
        assert written in code
        code = code.replace(written, smaller)
    names: dict[str, object] = {}
    exec(compile(code, "train.md", "exec"), names)
    assert names["images"].shape == (1000, 1, 8, 8)  # type: ignore[attr-defined]
    assert names["mean"].shape == (5000, 16)  # type: ignore[attr-defined]
    assert "'kl'" in capsys.readouterr().out


def test_every_link_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert len(links) > 20
    for page, target in links:
        assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links {target}"


def test_every_option_of_the_commands_exists(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))]
    commands = re.findall(r"^fused-gan (train \S+|\S+)(.*)$", "\n".join(pages), re.MULTILINE)
    assert len(commands) >= 7
    for command, rest in commands:
        name = command.split()
        assert name[0] != "train" or name[1] in PRESETS
        if name == ["doctor"]:
            continue
        with pytest.raises(SystemExit):
            main([*name, "--help"])
        text = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in text or option in ("--help", "--config"), f"{command} {option}"
