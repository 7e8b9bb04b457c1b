"""The GPU benchmark runs every case that it can, says of the others why not, and its tables show what was measured."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import bench, cases, machine, timing


@pytest.mark.parametrize("section", cases.SECTIONS)
def test_every_variant_of_the_benchmark_computes(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, the first cases: what a GPU would trip over is not a name that is not there."""
    monkeypatch.setattr(cases, "DEVICE", "cpu")
    monkeypatch.setattr(timing, "cache_bytes", lambda: 1)
    for case in islice(cases.SECTIONS[section](), 3):
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
    """Run the benchmark on cases of these names."""
    found = [cases.Case(name, cases.PRECISIONS[0], 1, lambda modes: {}) for name in names]
    monkeypatch.setattr(bench, "SECTIONS", {"layers": lambda: found})
    monkeypatch.setattr("sys.argv", ["bench", "layers", "--out", str(out), *words])
    return bench.main()


def test_cases_for_which_a_package_is_missing_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(case: cases.Case, *_: object) -> Iterator[dict[str, object]]:
        if case.name == "b":
            import no_such_package  # noqa: F401
        if case.name == "c":
            raise RuntimeError("no")
        yield record(case.name, 2.0)

    monkeypatch.setattr(bench, "measure", measure)
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

    def measure(case: cases.Case, *_: object) -> Iterator[dict[str, object]]:
        begun.append(case.name)
        yield record(case.name, 2.0)
        if len(begun) == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    class Restarted(Exception):
        pass

    def go_on(**options: float) -> None:
        raise Restarted(options)

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench.faults, "is_lost", lambda: True)
    monkeypatch.setattr(bench.faults, "go_on", go_on)
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
        "import sys\nfrom benchmarks.gpu import faults\nprint(sys.argv[1:])\n"
        "if '--begin' not in sys.argv: faults.go_on(begin=7, seconds=1.5)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(machine.ROOT), str(tmp_path)))}
    command = [sys.executable, "-m", "program", "layers"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    lines = run.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("['layers']", "['layers', '--begin', '7', '--seconds', '1.5']")


def times(seconds: float) -> timing.Calls:
    """A variant whose calls take so long."""
    return [lambda: seconds]


def test_a_variant_that_fails_costs_no_other_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(calls: timing.Calls) -> timing.Run:
        return timing.Run(calls[0], 1)

    def no_capture() -> float:
        raise RuntimeError("overwritten")

    def variants(modes: tuple[str, ...]) -> dict[str, timing.Calls]:
        found = {"fused_gan": times(1.0), "eager": times(2.0)}
        return found | {f"compile {mode}": [no_capture] if mode == "reduce-overhead" else times(3.0) for mode in modes}

    monkeypatch.setattr(timing, "WAYS", dict.fromkeys(timing.WAYS, prepare))
    monkeypatch.setattr(timing, "_elapsed", lambda run: run())
    case = cases.Case("a", cases.PRECISIONS[0], 1, variants)
    precision = torch.get_float32_matmul_precision()
    try:
        *_, found = bench.measure(case, cases.MODES, {"bfloat16": 1.0}, time.monotonic() + 60)
        *_, late = bench.measure(case, cases.MODES, {"bfloat16": 1.0}, 0)
    finally:
        torch.set_float32_matmul_precision(precision)
    captured = {"eager": 2.0, "compile default": 3.0, "compile max-autotune-no-cudagraphs": 3.0}
    assert found["graph"]["ratio"] == captured
    assert found["called"]["ratio"] == captured | {"compile max-autotune": 3.0}
    assert found["called"]["failed"] == {"compile reduce-overhead": "RuntimeError: overwritten"}
    assert late["called"]["ratio"] == {"eager": 2.0}
    assert set(late["called"]["not_run"].values()) == {"no time left"}
    results = bench.Results(tmp_path, "layers", ["a"])
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

    monkeypatch.setattr(cases, "DEVICE", "cpu")
    monkeypatch.setattr(cases, "compiled", lambda function, mode: torch.compile(function, backend=backend))
    for section, parameters in (("layers", 2), ("chains", 8)):
        marks.clear()
        variants = next(cases.SECTIONS[section]()).make(("default",))
        assert {len(calls) for calls in variants.values()} == {1}
        variants["compile default"][0]()
        (found,) = marks
        assert sorted(found) == [False] + [True] * parameters
    torch.compiler.reset()


def test_every_beginning_of_an_order_is_spread() -> None:
    for count in (0, 1, 2, 3, 120, 132):
        assert sorted(cases.golden_section_order(range(count))) == list(range(count))
    beginning = cases.golden_section_order(range(120))[:12]
    assert all(sum(part * 30 <= item < (part + 1) * 30 for item in beginning) >= 2 for part in range(4))


def test_tables_hold_rates_and_ratios(tmp_path: Path) -> None:
    only_called = record("e", 4.0)
    del only_called["graph"]  # a step that is a graph itself
    only_called["called"]["not_run"] = {"compile default": "no triton"}
    results = bench.Results(tmp_path, "layers", list("abcde"))
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
    bench.plot(tmp_path / "layers.png", [record("a", 1.0), record("b", 4.0), only_called])
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


def test_ratios_are_medians_round_by_round() -> None:
    assert timing.ratio([1, 2, 4], [2, 6, 8]) == 2
