"""`make gpu-check` says what it did not run, and never counts it as passed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from torch._inductor.exc import TritonMissing

from benchmarks.gpu import machine, suite
from benchmarks.gpu.check import PROGRAMS, Check

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")


def checked(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu.check", "--out", str(out), *words]
    return subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, timeout=120, check=False)


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


@without_gpu
def test_a_gpu_that_torch_does_not_see_is_not_tested_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 9.0\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    run = checked(tmp_path / "out", "--sections", "tests,layers")
    assert run.returncode == 3, run.stdout + run.stderr
    for section in ("tests", "layers"):
        assert f"{section}: not run: nothing can be computed on the GPU: " in run.stdout


def test_unknown_sections_are_named(tmp_path: Path) -> None:
    run = checked(tmp_path / "out", "--sections", "tests,nonsense")
    assert run.returncode == 2
    assert "expected some of build, kernels, tests" in run.stderr
    assert "got nonsense" in run.stderr


def test_a_library_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    run = checked(tmp_path / "out", "--sections", "build", "--library", str(tmp_path))
    assert run.returncode == 1
    assert "expected libfused_gan.so" in run.stdout


def test_headers_of_cuda_are_those_of_a_toolkit_or_of_pips_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headers(folder: str, *names: str) -> Path:
        for name in names or machine.CUDA_HEADERS:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / folder

    monkeypatch.setattr(machine, "TOOLKIT", tmp_path / "toolkit")
    monkeypatch.setattr("sys.path", [str(tmp_path / "packages")])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "wrapper"))  # without headers, as where nvcc is a script
    headers("packages/nvidia/cu13/include", "cuda_runtime_api.h")  # half of them
    with pytest.raises(RuntimeError, match=r"no cuda_runtime_api\.h with .*set CUDA_HOME, or pip install"):
        machine.cuda_headers()
    found = headers("packages/triton/backends/nvidia/include")
    assert machine.cuda_headers() == f"-idirafter{found}"
    found = headers("packages/nvidia/cu13/include")
    assert machine.cuda_headers() == f"-idirafter{found}"
    found = headers("toolkit/include")
    assert machine.cuda_headers() == f"-I{found}"


def test_a_section_that_takes_too_long_fails(tmp_path: Path) -> None:
    check = Check(tmp_path, None, 0.5)
    slow = "import time; print('begun', flush=True); time.sleep(60)"
    check.perform("slow", lambda: check.run("sleep", [sys.executable, "-c", slow]), "")
    check.perform("none left", lambda: [time.sleep(0.6), check.run("late", [sys.executable, "-c", "1"])], "")
    check.seconds = 60
    check.perform("quick", lambda: check.run("print", [sys.executable, "-c", "print('all well')"]), "")
    check.perform("failing", lambda: check.run("no", [sys.executable, "-c", "raise SystemExit('no')"]), "")
    check.perform("raising", lambda: 1 // 0, "")
    check.perform("kept", lambda: check.note("kept", "passed"), "something is in the way")
    assert [(outcome.section, outcome.part, outcome.status) for outcome in check.outcomes] == [
        ("slow", "sleep", "failed"),
        ("none left", "late", "not run"),
        ("quick", "print", "passed"),
        ("failing", "no", "failed"),
        ("raising", "raising", "failed"),
        ("kept", "kept", "not run"),
    ]
    assert check.outcomes[2].detail == "all well"
    assert "begun" in (tmp_path / "sleep.log").read_text()
    assert "ZeroDivisionError" in (tmp_path / "raising-error.log").read_text()
    assert check.finish() == 1


@pytest.mark.parametrize(
    ("then", "seconds", "status"),
    [("time.sleep(60)", 3, "failed"), ("0", 60, "passed"), ("os.abort()", 60, "failed")],
    ids=["stopped", "ended", "crashed"],
)
def test_what_a_command_has_started_ends_with_it(then: str, seconds: float, status: str, tmp_path: Path) -> None:
    start = "import os, subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    check = Check(tmp_path, None, seconds)
    check.perform("starter", lambda: check.run("start", [sys.executable, "-c", f"{start}; {then}"]), "")
    assert [outcome.status for outcome in check.outcomes] == [status]
    child = Path("/proc", (tmp_path / "start.log").read_text().split()[-1])
    for _ in range(50):
        if not child.exists() or "zombie" in (child / "status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("it still runs")


@pytest.mark.parametrize(("content", "wgmma"), [("cutlass", 4), ("", 0)])
def test_kernels_of_cutlass_are_sanitized_apart(
    content: str, wgmma: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROGRAMS:
        (tmp_path / name).write_text(content)
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "12 tensors, 0 failures"\necho "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(machine, "find_tool", lambda name: str(tool))
    monkeypatch.setattr(machine, "nvidia_smi", lambda query: "9.0")
    check = Check(tmp_path, tmp_path, 60)
    check.perform("sanitizer", check.sanitizer, "")
    product = f"--error-exitcode 9 {{}} kns=cutlass {tmp_path / 'test_product'} few"
    counts = {
        words: sum(outcome.detail.endswith(words) for outcome in check.outcomes)
        for words in (product.format("--kernel-name"), product.format("--kernel-name-exclude"))
    }
    assert list(counts.values()) == [wgmma, 4]
    assert sum(outcome.status == "not run" for outcome in check.outcomes) == (0 if wgmma else 1)
    assert not any(outcome.status == "failed" for outcome in check.outcomes)
    tool.write_text("#!/bin/sh\necho ERROR SUMMARY: 0 errors\n")  # and the program did not run
    check.outcomes.clear()
    check.perform("sanitizer", check.sanitizer, "")
    assert sum(outcome.status == "failed" for outcome in check.outcomes) == 8 + wgmma
    assert not any(outcome.status == "passed" for outcome in check.outcomes)


def test_later_calls_add_to_the_summary(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def call(sections: dict[str, str]) -> int:
        check = Check(tmp_path / "out", None, 60)
        for section, status in sections.items():
            check.perform(section, lambda section=section, status=status: check.note(section, status), "")
        return check.finish()

    assert call({"one": "passed", "two": "failed"}) == 1
    assert call({"two": "passed"}) == 0
    outcomes = json.loads((tmp_path / "out" / "summary.json").read_text())["outcomes"]
    assert {outcome["section"]: outcome["status"] for outcome in outcomes} == {"one": "passed", "two": "passed"}


TEST_FILES = {
    "mixed": """
import pytest
def test_good(): pass
@pytest.mark.skip(reason="no GPU")
def test_skipped(): pass
def test_bad(): assert False
def test_import(): import no_such_package.inner
def test_command(): raise SystemError("the package no_such_package is missing; get it with: pip")
""",
    "import": "import helper\ndef test_a(): pass\n",
    "crash": "import os\ndef test_a(): os.abort()\n",
    "crash_at_the_end": "import atexit, os\ndef test_a(): atexit.register(os.abort)\n",
    "skipped": "import pytest\npytest.skip('another machine', allow_module_level=True)\n",
}


def test_what_a_missing_package_keeps_from_running_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "helper.py").write_text("import no_such_package")
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    for name, text in TEST_FILES.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    results = list(suite.run(tmp_path / "out", 300, suite.files(), {}))
    assert [(result.name, result.status, result.detail) for result in results] == [
        ("test_crash", "failed", "it crashed with status -6, see out/test_crash.log"),
        ("test_crash_at_the_end", "failed", "1 passed; it crashed with status -6, see out/test_crash_at_the_end.log"),
        ("test_import", "not run", "no no_such_package"),
        ("test_mixed", "failed", "1 passed; 1 failed (test_bad); 2 not run: no no_such_package; 1 not run: no GPU"),
        ("test_skipped", "not run", "another machine"),
    ]


def test_a_helper_that_is_not_there_is_a_failure() -> None:
    """Only packages of others can be missing."""
    assert suite.missing_package("ModuleNotFoundError: No module named 'no_such_package.inner'") == "no_such_package"
    without_triton = str(TritonMissing(None))
    assert suite.missing_package(without_triton) == ("" if importlib.util.find_spec("triton") else "triton")
    for present in ("fused_gan.gone", "benchmarks.gone", "helpers.gone", "json.gone"):
        assert not suite.missing_package(f"ModuleNotFoundError: No module named '{present}'")


def test_no_test_file_begins_when_the_time_is_over(tmp_path: Path) -> None:
    (result,) = suite.run(tmp_path, 0, suite.files()[:1], {})
    assert (result.status, result.detail) == ("not run", "no time left")
