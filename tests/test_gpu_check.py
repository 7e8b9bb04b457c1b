"""`make gpu-check` says what it did not run, and never counts it as passed; its tables show what was measured."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._inductor.exc import TritonMissing

from fused_gan import tuning
from fused_gan.autotune import products

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import gpu_bench, gpu_cases, gpu_check, gpu_machine, gpu_tests, gpu_timing, gpu_tune  # noqa: E402

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
        for name in names or gpu_machine.CUDA_HEADERS:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / folder

    monkeypatch.setattr(gpu_machine, "TOOLKIT", tmp_path / "toolkit")
    monkeypatch.setattr("sys.path", [str(tmp_path / "packages")])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "wrapper"))  # without headers, as where nvcc is a script
    headers("packages/nvidia/cu13/include", "cuda_runtime_api.h")  # half of them
    with pytest.raises(RuntimeError, match=r"no cuda_runtime_api\.h with .*set CUDA_HOME, or pip install"):
        gpu_machine.cuda_headers()
    found = headers("packages/triton/backends/nvidia/include")
    assert gpu_machine.cuda_headers() == f"-idirafter{found}"
    found = headers("packages/nvidia/cu13/include")
    assert gpu_machine.cuda_headers() == f"-idirafter{found}"
    found = headers("toolkit/include")
    assert gpu_machine.cuda_headers() == f"-I{found}"


def test_a_section_that_takes_too_long_fails(tmp_path: Path) -> None:
    check = gpu_check.Check(tmp_path, None, 0.5)
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
    check = gpu_check.Check(tmp_path, None, seconds)
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
    for name in gpu_check.PROGRAMS:
        (tmp_path / name).write_text(content)
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "12 tensors, 0 failures"\necho "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(gpu_machine, "find_tool", lambda name: str(tool))
    monkeypatch.setattr(gpu_machine, "nvidia_smi", lambda query: "9.0")
    check = gpu_check.Check(tmp_path, tmp_path, 60)
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
        check = gpu_check.Check(tmp_path / "out", None, 60)
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
    monkeypatch.setattr(gpu_tests, "ROOT", tmp_path)
    for name, text in TEST_FILES.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    results = list(gpu_tests.run(tmp_path / "out", 300, gpu_tests.files(), {}))
    assert [(result.name, result.status, result.detail) for result in results] == [
        ("test_crash", "failed", "it crashed with status -6, see out/test_crash.log"),
        ("test_crash_at_the_end", "failed", "1 passed; it crashed with status -6, see out/test_crash_at_the_end.log"),
        ("test_import", "not run", "no no_such_package"),
        ("test_mixed", "failed", "1 passed; 1 failed (test_bad); 2 not run: no no_such_package; 1 not run: no GPU"),
        ("test_skipped", "not run", "another machine"),
    ]


def test_a_helper_that_is_not_there_is_a_failure() -> None:
    """Only packages of others can be missing."""
    assert (
        gpu_tests.missing_package("ModuleNotFoundError: No module named 'no_such_package.inner'") == "no_such_package"
    )
    without_triton = str(TritonMissing(None))
    assert gpu_tests.missing_package(without_triton) == ("" if importlib.util.find_spec("triton") else "triton")
    for present in ("fused_gan.gone", "benchmarks.gone", "tolerance", "json.gone"):
        assert not gpu_tests.missing_package(f"ModuleNotFoundError: No module named '{present}'")


def test_no_test_file_begins_when_the_time_is_over(tmp_path: Path) -> None:
    (result,) = gpu_tests.run(tmp_path, 0, gpu_tests.files()[:1], {})
    assert (result.status, result.detail) == ("not run", "no time left")


@pytest.mark.parametrize("section", gpu_cases.SECTIONS)
def test_every_variant_of_the_benchmark_computes(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, the first cases: what a GPU would trip over is not a name that is not there."""
    monkeypatch.setattr(gpu_cases, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_timing, "cache_bytes", lambda: 1)
    for case in islice(gpu_cases.SECTIONS[section](), 3):
        assert case.flops > 0
        variants = case.make(())
        assert next(iter(variants)) == "fused_gan"
        assert "eager" in variants
        for calls in variants.values():
            calls[0]()


def record(name: str, eager: float) -> dict[str, Any]:
    way = {"median": {"fused_gan": 1e-5, "eager": eager * 1e-5, "floor": 9e-6}, "ratio": {"eager": eager, "floor": 0.9}}
    way |= {"failed": {}, "not_run": {}}
    return {"name": name, "flops": 10**9, "peak": 5e14, "graph": copy.deepcopy(way), "called": way}


def benchmark(monkeypatch: pytest.MonkeyPatch, out: Path, names: str, *words: str) -> int:
    """Run `gpu_bench` on cases of these names."""
    cases = [gpu_cases.Case(name, gpu_cases.PRECISIONS[0], 1, lambda modes: {}) for name in names]
    monkeypatch.setattr(gpu_bench, "SECTIONS", {"layers": lambda: cases})
    monkeypatch.setattr("sys.argv", ["gpu_bench", "layers", "--out", str(out), *words])
    return gpu_bench.main()


def test_cases_for_which_a_package_is_missing_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(case: gpu_cases.Case, *_: object) -> Iterator[dict[str, object]]:
        if case.name == "b":
            import no_such_package  # noqa: F401
        if case.name == "c":
            raise RuntimeError("no")
        yield record(case.name, 2.0)

    monkeypatch.setattr(gpu_bench, "measure", measure)
    assert benchmark(monkeypatch, tmp_path, "ab") == 0
    assert "1 of 2 cases measured, 0 failed; 1 not run: no no_such_package" in capsys.readouterr().out.splitlines()[-1]
    assert json.loads((tmp_path / "layers.json").read_text())["not_run"] == {"b": "no no_such_package"}
    assert benchmark(monkeypatch, tmp_path, "b") == benchmark(monkeypatch, tmp_path, "abc") == 1
    assert "1 of 3 cases measured, 1 failed; 1 not run" in capsys.readouterr().out.splitlines()[-1]


def test_behind_a_fault_of_the_device_a_new_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what the first one has written, which is in the section's order in the end."""
    begun = []

    def measure(case: gpu_cases.Case, *_: object) -> Iterator[dict[str, object]]:
        begun.append(case.name)
        yield record(case.name, 2.0)
        if len(begun) == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    class Restarted(Exception):
        pass

    def go_on(**options: float) -> None:
        raise Restarted(options)

    monkeypatch.setattr(gpu_bench, "measure", measure)
    monkeypatch.setattr(gpu_bench.gpu_faults, "is_lost", lambda: True)
    monkeypatch.setattr(gpu_bench.gpu_faults, "go_on", go_on)
    with pytest.raises(Restarted) as restart:
        benchmark(monkeypatch, tmp_path, "abcdef")
    assert restart.value.args[0]["begin"] == 3
    assert set(json.loads((tmp_path / "layers.json").read_text())["not_run"].values()) == {"no time left"}
    assert benchmark(monkeypatch, tmp_path, "abcdef", "--begin", "3") == 1
    content = json.loads((tmp_path / "layers.json").read_text())
    assert [found["name"] for found in content["results"]] == list("abcdef") == sorted(begun)
    assert list(content["failed"]) == [begun[2]]
    assert content["not_run"] == {}
    assert "5 of 6 cases measured, 1 failed" in capsys.readouterr().out.splitlines()[-1]


def test_a_program_begins_anew_with_further_options(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys\nfrom benchmarks import gpu_faults\nprint(sys.argv[1:])\n"
        "if '--begin' not in sys.argv: gpu_faults.go_on(begin=7, seconds=1.5)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    command = [sys.executable, "-m", "program", "layers"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    lines = run.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("['layers']", "['layers', '--begin', '7', '--seconds', '1.5']")


def times(seconds: float) -> gpu_timing.Calls:
    """A variant whose calls take so long."""
    return [lambda: seconds]


def test_a_variant_that_fails_costs_no_other_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(calls: gpu_timing.Calls) -> gpu_timing.Run:
        return gpu_timing.Run(calls[0], 1)

    def no_capture() -> float:
        raise RuntimeError("overwritten")

    def variants(modes: tuple[str, ...]) -> dict[str, gpu_timing.Calls]:
        found = {"fused_gan": times(1.0), "eager": times(2.0)}
        return found | {f"compile {mode}": [no_capture] if mode == "reduce-overhead" else times(3.0) for mode in modes}

    monkeypatch.setattr(gpu_timing, "WAYS", dict.fromkeys(gpu_timing.WAYS, prepare))
    monkeypatch.setattr(gpu_timing, "_elapsed", lambda run: run())
    case = gpu_cases.Case("a", gpu_cases.PRECISIONS[0], 1, variants)
    precision = torch.get_float32_matmul_precision()
    try:
        *_, found = gpu_bench.measure(case, gpu_cases.MODES, {"bfloat16": 1.0}, time.monotonic() + 60)
        *_, late = gpu_bench.measure(case, gpu_cases.MODES, {"bfloat16": 1.0}, 0)
    finally:
        torch.set_float32_matmul_precision(precision)
    captured = {"eager": 2.0, "compile default": 3.0, "compile max-autotune-no-cudagraphs": 3.0}
    assert found["graph"]["ratio"] == captured
    assert found["called"]["ratio"] == captured | {"compile max-autotune": 3.0}
    assert found["called"]["failed"] == {"compile reduce-overhead": "RuntimeError: overwritten"}
    assert late["called"]["ratio"] == {"eager": 2.0}
    assert set(late["called"]["not_run"].values()) == {"no time left"}
    results = gpu_bench.Results(tmp_path, "layers", ["a"])
    results.records["a"] = found
    results.write()
    text = (tmp_path / "layers.md").read_text()
    assert text.splitlines()[0].count("compile") == 4
    assert "| 2.00 | 3.00 | 3.00 | 3.00 | failed |" in text
    assert "Failed: a, compile reduce-overhead, called: RuntimeError: overwritten" in text


def test_graphs_of_torch_compile_find_parameters_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the input is marked so: what is not would be copied at every call, a cost that no user pays."""
    marks: list[list[bool]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        placeholders = graph.graph.find_nodes(op="placeholder")
        marks.append(["_dynamo_static_input_type" in node.meta.get("tensor_dict", {}) for node in placeholders])
        return graph

    monkeypatch.setattr(gpu_cases, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_cases, "compiled", lambda function, mode: torch.compile(function, backend=backend))
    for section, parameters in (("layers", 2), ("chains", 8)):
        marks.clear()
        variants = next(gpu_cases.SECTIONS[section]()).make(("default",))
        assert {len(calls) for calls in variants.values()} == {1}
        variants["compile default"][0]()
        (found,) = marks
        assert sorted(found) == [False] + [True] * parameters
    torch.compiler.reset()


def test_layers_that_have_been_tuned_are_known() -> None:
    layer = gpu_tune.layers()[0]
    shape, precision = layer
    records = [tuning.Record(*product, "library", 1, 1.0, 1.0) for product, _ in products([shape], [precision.dtype])]
    assert [gpu_tune.is_known(layer, tuning.Findings("x", 90, 132, tuple(records[:n]))) for n in range(3)] == [
        False, False, True,
    ]  # fmt: skip
    beginning = gpu_tune.layers()[:12]
    assert {shape[0] for shape, _ in beginning} == set(gpu_tune.BATCHES)
    assert {precision for _, precision in beginning} == set(gpu_cases.PRECISIONS)
    assert {shape[0] for shape, _ in gpu_tune.layers()} == {*gpu_tune.BATCHES, *gpu_tune.STEP_BATCHES}


def test_layers_are_counted_once_over_all_processes_of_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first finds one known, measures one and loses its device; the second measures the rest."""
    precision = SimpleNamespace(name="bfloat16", dtype=torch.bfloat16, apply=lambda: None)
    device = "NVIDIA H100", (90, 132)
    faults = iter([False, True, False])

    def autotune(shapes: list[tuple[int, int, int]], dtypes: list[torch.dtype], path: Path) -> list[tuning.Record]:
        if next(faults, False):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        found = tuple(tuning.Record(*product, "library", 1, 1.0, 1.0) for product, _ in products(shapes, tuple(dtypes)))
        tuning.add(path, tuning.Findings(device[0], *device[1], found))
        return list(found)

    class Restarted(Exception):
        pass

    def go_on(**options: float) -> None:
        raise Restarted(options)

    layers = [((64, 64, width), precision) for width in (64, 128, 192, 256)]
    monkeypatch.setattr(gpu_tune, "layers", lambda: layers)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device[0])
    monkeypatch.setattr(gpu_tune.cuda_plan, "capability", lambda _: device[1])
    monkeypatch.setattr(gpu_tune.fused_gan, "autotune", autotune)
    monkeypatch.setattr(gpu_tune.gpu_faults, "is_lost", lambda: True)
    monkeypatch.setattr(gpu_tune.gpu_faults, "go_on", go_on)
    measured = products([layers[0][0]], (torch.bfloat16,))
    known = tuple(tuning.Record(*product, "library", 1, 1.0, 1.0) for product, _ in measured)
    tuning.write(tmp_path / tuning.file_name(device[0]), tuning.Findings(device[0], *device[1], known))
    monkeypatch.setattr("sys.argv", ["gpu_tune", str(tmp_path)])
    with pytest.raises(Restarted) as restart:
        gpu_tune.main()
    words = [word for name, value in restart.value.args[0].items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["gpu_tune", str(tmp_path), *words])
    assert gpu_tune.main() == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "2 of 4 layers measured, 1 known before, 1 failed, 0 left"


def test_every_beginning_of_an_order_is_spread() -> None:
    for count in (0, 1, 2, 3, 120, 132):
        assert sorted(gpu_cases.spread(range(count))) == list(range(count))
    beginning = gpu_cases.spread(range(120))[:12]
    assert all(sum(part * 30 <= item < (part + 1) * 30 for item in beginning) >= 2 for part in range(4))


def test_tables_hold_rates_and_ratios(tmp_path: Path) -> None:
    only_called = record("e", 4.0)
    del only_called["graph"]  # a step that is a graph itself
    only_called["called"]["not_run"] = {"compile default": "no triton"}
    results = gpu_bench.Results(tmp_path, "layers", list("abcde"))
    results.records = {"e": only_called, "b": record("b", 4.0), "a": record("a", 1.0)}
    results.failed["d"] = "RuntimeError: no"
    results.write()
    text = (tmp_path / "layers.md").read_text()
    assert "| a | graph | 10.0 | 100.00 | 20% | 1.00 | 0.90 |" in text
    assert text.index("| a | graph") < text.index("| b | graph")
    assert "| e | called | 10.0 | 100.00 | 20% | 4.00 | 0.90 | not run |" in text
    assert "| e | graph |" not in text
    assert "eager ÷ ours 2.00 (geometric mean of 2), least 1.00" in text
    assert "Not run, no time left: 1 cases" in text
    assert "Not run, no triton: 1 variants" in text
    assert "Failed: d: RuntimeError: no" in text
    assert json.loads((tmp_path / "layers.json").read_text())["not_run"] == {"c": "no time left"}


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    only_called = record("c", 2.0)
    del only_called["graph"]
    gpu_bench.plot(tmp_path / "layers.png", [record("a", 1.0), record("b", 4.0), only_called])
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


def test_ratios_are_medians_round_by_round() -> None:
    assert gpu_timing.ratio([1, 2, 4], [2, 6, 8]) == 2
