"""`fused-gan doctor` reports what is here and what is missing, and needs no extra for it."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

from fused_gan.cli import doctor
from fused_gan.cli.extras import TRAIN
from fused_gan.cli.main import main


def test_doctor_reports_versions_build_devices_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("versions", "build", "devices", "data sets", torch.__version__, "mnist-5k", "cuda", "nvcc"):
        assert word in text


def test_doctor_works_without_the_extras(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name: None if name in ("rich", "numpy") else find_spec(name)
    )
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    for module in ("rich", "tyro", "numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "MISSING  safetensors     training needs it: pip install 'fused_gan[train]'" in text
    assert "reading data needs numpy: pip install 'fused_gan[train]'" in text


def test_doctor_says_what_keeps_cuda_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert any("a build without CUDA" in row.finding for row in doctor.device_rows())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert any("finds no working driver and GPU" in row.finding for row in doctor.device_rows())
    monkeypatch.setattr(doctor.shutil, "which", lambda *_, **__: None)
    assert [row.good for row in doctor.tool_rows()] == [False, False, False]


def test_the_table_of_the_extra_is_that_of_the_project() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    [train] = re.findall(r"^train = \[(.*?)\]", project, re.DOTALL | re.MULTILINE)
    assert re.findall(r'"([A-Za-z0-9_-]+)', train) == list(TRAIN)
    for module in TRAIN.values():
        importlib.import_module(module)
