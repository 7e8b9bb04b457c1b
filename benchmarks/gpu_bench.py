"""Runs one section of the GPU benchmark and writes its results as it goes, so that a time limit loses only the rest.

python -m benchmarks.gpu_bench SECTION --out FOLDER [--seconds N] [--compile] [-k WORD]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_timing
from benchmarks.gpu_cases import CAPTURABLE_MODES, MODES, SECTIONS, Case
from benchmarks.gpu_tests import missing_package
from fused_gan.files import atomic_write

torch._dynamo.config.recompile_limit = 10_000
torch._dynamo.config.accumulated_recompile_limit = 10_000


def measure(case: Case, modes: tuple[str, ...], peaks: dict[str, float]) -> dict[str, Any]:
    """The record of a case: medians and ratios, captured in a graph (the GPU's time) if it can be, and as called (the
    user's)."""
    case.precision.apply()
    name = case.precision.name
    if name not in peaks:
        peaks[name] = gpu_timing.peak(case.precision.dtype)
    variants = case.make(modes)
    capturable = {
        name: calls
        for name, calls in variants.items()
        if not name.startswith("compile ") or name.removeprefix("compile ") in CAPTURABLE_MODES
    }
    record: dict[str, Any] = {"name": case.name, "flops": case.flops, "peak": peaks[name]}
    seconds = {"graph": gpu_timing.graph_seconds(capturable)} if case.capturable else {}
    seconds["called"] = gpu_timing.stream_seconds(variants)
    for way, measured in seconds.items():
        medians, ratios = gpu_timing.summary(measured)
        record[way] = {"median": medians, "ratio": ratios}
    return record


def ways(record: dict[str, Any]) -> list[str]:
    """How a case was timed, the GPU's time first."""
    return [way for way in ("graph", "called") if way in record]


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: one line a case and a way of calling; then geometric means and the worst of each ratio."""
    names = list(dict.fromkeys(name for record in records for name in record["called"]["ratio"]))
    header = ["case", "way", "µs", "TFLOP/s", "of peak", *(f"{name} ÷ ours" for name in names)]
    lines = ["| " + " | ".join(header) + " |", "| --- | --- |" + " ---: |" * (len(header) - 2)]
    for record in records:
        for way in ways(record):
            ours, ratio = record[way]["median"]["fused_gan"], record[way]["ratio"]
            rate = record["flops"] / ours
            cells = [record["name"], way, f"{ours * 1e6:.1f}", f"{rate * 1e-12:.2f}", f"{rate / record['peak']:.0%}"]
            lines.append("| " + " | ".join([*cells, *(f"{ratio[n]:.2f}" if n in ratio else "" for n in names)]) + " |")
    lines.append("")
    for way in ("graph", "called"):
        for name in names:
            ratios = [r[way]["ratio"][name] for r in records if way in r and name in r[way]["ratio"]]
            if ratios:
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lines.append(
                    f"- {way}: {name} ÷ ours {mean:.2f} (geometric mean of {len(ratios)}), least {min(ratios):.2f}"
                )
    return "\n".join(lines) + "\n"


def plot(path: Path, records: list[dict[str, Any]]) -> None:
    """Each variant's time over ours, case by case, on the GPU alone where that was timed; needs matplotlib."""
    from matplotlib.figure import Figure

    found = [record[ways(record)[0]]["ratio"] for record in records]
    names = list(dict.fromkeys(name for ratios in found for name in ratios))
    figure = Figure(figsize=(10, 1 + 0.3 * len(records)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color="black", linewidth=0.8)
    for name in names:
        at = [row for row, ratios in enumerate(found) if name in ratios]
        axes.plot([found[row][name] for row in at], at, "o", label=name)
    axes.set_yticks(range(len(records)), [record["name"] for record in records], fontsize=6)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("time over ours: to the right of 1, ours is faster")
    axes.legend()
    figure.savefig(path, dpi=120)


def write(
    folder: Path, section: str, records: list[dict[str, Any]], left: dict[str, str], failed: dict[str, str]
) -> None:
    """The section's results so far; with each case that was not run the reason, with each that failed the error."""
    content = {"results": records, "not_run": left, "failed": failed}
    with atomic_write(folder / f"{section}.json") as path:
        path.write_text(json.dumps(content, indent=1) + "\n")
    words = [table(records)] if records else []
    words += [f"\nNot run, {reason}: {count} cases.\n" for reason, count in Counter(left.values()).items()]
    words += [f"\nFailed: {name}: {error}\n" for name, error in failed.items()]
    with atomic_write(folder / f"{section}.md") as path:
        path.write_text("".join(words))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="no case begins after so long")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, in every mode: minutes")
    parser.add_argument("-k", dest="select", default="", help="only cases whose name holds this word")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    start = time.monotonic()
    records: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    left: dict[str, str] = {}
    peaks: dict[str, float] = {}
    cases = [case for case in SECTIONS[arguments.section]() if arguments.select in case.name]
    for index, case in enumerate(cases):
        if time.monotonic() - start > arguments.seconds:
            left |= dict.fromkeys((c.name for c in cases[index:]), "no time left")
            break
        try:
            record = measure(case, MODES if arguments.compile else (), peaks)
        except Exception as error:  # the other cases are still worth their numbers; the section fails in the end
            words = f"{type(error).__name__}: {error}"
            if package := missing_package(words):
                left[case.name] = f"no {package}"
            else:
                failed[case.name] = words
                print(f"FAILED {case.name}: {words}", flush=True)
            continue
        finally:
            torch.cuda.empty_cache()
        records.append(record)
        first = record[ways(record)[0]]
        ratios = ", ".join(f"{name} {value:.2f}" for name, value in first["ratio"].items())
        print(f"{record['name']}: {first['median']['fused_gan'] * 1e6:.1f} µs; ÷ ours: {ratios}", flush=True)
        to_come = dict.fromkeys((c.name for c in cases[index + 1 :]), "no time left")
        write(arguments.out, arguments.section, records, left | to_come, failed)
    write(arguments.out, arguments.section, records, left, failed)
    words = f"{len(records)} of {len(cases)} cases measured, {len(failed)} failed"
    words += "".join(f"; {count} not run: {reason}" for reason, count in Counter(left.values()).items())
    if importlib.util.find_spec("matplotlib") is None:
        words += "; no plot: matplotlib is not installed"
    elif records:
        plot(arguments.out / f"{arguments.section}.png", records)
    print(words)
    return 1 if failed or not records else 0


if __name__ == "__main__":
    raise SystemExit(main())
