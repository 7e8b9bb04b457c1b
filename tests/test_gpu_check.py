"""`make gpu-check` says what it did not run, and never counts it as passed; its tables show what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import gpu_bench, gpu_check, gpu_timing  # noqa: E402

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")


def checked(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(out), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@without_gpu
def test_without_a_gpu_nothing_passes(tmp_path: Path) -> None:
    run = checked(tmp_path / "out", "--sections", "tests,sanitizer,layers")
    assert run.returncode == 3, run.stdout + run.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    status = {outcome["section"]: outcome["status"] for outcome in summary["outcomes"]}
    assert {status[name] for name in ("tests", "sanitizer", "layers")} == {"not run"}
    assert "passed" not in status.values()
    assert {"gpu", "driver", "torch", "commit"} <= summary["facts"].keys()
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert {"out/summary.md", "out/summary.json"} <= set(archive.getnames())


def test_unknown_sections_are_named(tmp_path: Path) -> None:
    run = checked(tmp_path / "out", "--sections", "tests,nonsense")
    assert run.returncode == 2
    assert "expected some of build, tests" in run.stderr
    assert "got nonsense" in run.stderr


def test_a_library_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    run = checked(tmp_path / "out", "--sections", "build", "--library", str(tmp_path))
    assert run.returncode == 1
    assert "expected libfused_gan.so" in run.stdout


def test_a_section_that_takes_too_long_fails(tmp_path: Path) -> None:
    check = gpu_check.Check(tmp_path, None, 0.2)
    assert not check.run("slow", [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"])
    assert check.outcomes[0].status == "failed"
    assert "begun" in (tmp_path / "slow.log").read_text()
    assert check.run("quick", [sys.executable, "-c", "print('all well')"], limit=60)
    assert check.outcomes[1].detail == "all well"
    assert not check.run("failing", [sys.executable, "-c", "raise SystemExit('no')"], limit=60)
    assert check.finish() == 1


def record(name: str, eager: float) -> dict[str, object]:
    way = {"median": {"fused_gan": 1e-5, "eager": eager * 1e-5, "floor": 9e-6}, "ratio": {"eager": eager, "floor": 0.9}}
    return {"name": name, "flops": 10**9, "peak": 5e14, "graph": way, "called": way}


def test_tables_hold_rates_and_ratios(tmp_path: Path) -> None:
    only_called = record("e", 4.0)
    del only_called["graph"]  # a step that is a graph itself
    records = [record("a", 1.0), record("b", 4.0), only_called]
    gpu_bench.write(tmp_path, "layers", records, ["c"], {"d": "RuntimeError: no"})
    text = (tmp_path / "layers.md").read_text()
    assert "| a | graph | 10.0 | 100.00 | 20% | 1.00 | 0.90 |" in text
    assert "| e | called | 10.0 |" in text
    assert "| e | graph |" not in text
    assert "eager ÷ ours 2.00 (geometric mean of 2), least 1.00" in text
    assert "Not run for want of time: 1 cases" in text
    assert "Failed: d: RuntimeError: no" in text
    assert json.loads((tmp_path / "layers.json").read_text())["not_run"] == ["c"]


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    only_called = record("c", 2.0)
    del only_called["graph"]
    gpu_bench.plot(tmp_path / "layers.png", [record("a", 1.0), record("b", 4.0), only_called])
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


def test_ratios_are_medians_round_by_round() -> None:
    medians, ratios = gpu_timing.summary({"fused_gan": [1, 2, 4], "eager": [2, 6, 8]})
    assert medians == {"fused_gan": 2, "eager": 6}
    assert ratios == {"eager": 2}
