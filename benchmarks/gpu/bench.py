"""Runs one section of the GPU benchmark and writes each result at once, so that a time limit loses only the rest.

python -m benchmarks.gpu.bench SECTION --out FOLDER [--seconds N] [--compile] [-k WORD]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.gpu import faults, timing
from benchmarks.gpu.cases import CAPTURABLE_MODES, MODES, SECTIONS, Case, golden_section_order
from benchmarks.gpu.suite import missing_package
from fused_gan.base.files import atomic_write

torch._dynamo.config.recompile_limit = 10_000
torch._dynamo.config.accumulated_recompile_limit = 10_000

OURS = "fused_gan"
NO_TIME = "no time left"


def measure(case: Case, modes: tuple[str, ...], peaks: dict[str, float], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield the record of a case, again after each variant that was timed.

    It has medians and ratios, captured in a graph (the GPU's time) if the case can be captured, and as called (the
    user's time). Each variant is timed in turn with ours alone, so that a failing variant costs no other its numbers.

    Args:
        peaks: the known peaks, by precision; `measure` adds the case's.
        deadline: no mode of torch.compile begins after it.
    """
    case.precision.apply()
    if case.precision.name not in peaks:
        peaks[case.precision.name] = timing.peak(case.precision.dtype)
    variants = case.make(modes)
    record: dict[str, Any] = {"name": case.name, "flops": case.flops, "peak": peaks[case.precision.name]}
    own = {}
    for way, prepare in timing.WAYS.items():
        if way == "called" or case.capturable:
            own[way] = prepare(variants[OURS])
            median = statistics.median(timing.seconds({OURS: own[way]})[OURS])
            record[way] = {"median": {OURS: median}, "ratio": {}, "failed": {}, "not_run": {}}
    # torch.compile comes last, because it takes longest and may be stopped.
    for name in sorted((name for name in variants if name != OURS), key=lambda name: name.startswith("compile ")):
        for way, ours in own.items():
            mode = name.removeprefix("compile ")
            if way == "graph" and mode in MODES and mode not in CAPTURABLE_MODES:
                continue
            if mode in MODES and time.monotonic() > deadline:
                record[way]["not_run"][name] = NO_TIME
                continue
            try:
                seconds = timing.seconds({OURS: ours, name: timing.WAYS[way](variants[name])})
            except Exception as error:
                words = f"{type(error).__name__}: {error}"
                if package := missing_package(words):
                    record[way]["not_run"][name] = f"no {package}"
                else:
                    record[way]["failed"][name] = words
                    print(f"FAILED {case.name}, {name}, {way}: {words}", flush=True)
                if faults.is_lost():
                    yield record
                    raise
                continue
            record[way]["median"][name] = statistics.median(seconds[name])
            record[way]["ratio"][name] = timing.ratio(seconds[OURS], seconds[name])
        yield record


def ways(record: dict[str, Any]) -> list[str]:
    """Return how a case was timed, the GPU's time first."""
    return [way for way in timing.WAYS if way in record]


def cell(results: dict[str, Any], name: str) -> str:
    """Return the table's cell for a variant."""
    if name in results["ratio"]:
        return f"{results['ratio'][name]:.2f}"
    return "failed" if name in results["failed"] else "not run" if name in results["not_run"] else ""


def table(records: list[dict[str, Any]]) -> str:
    """Return Markdown: one line per case and way of calling, then geometric mean and worst of each ratio."""
    timed = [(record, way, record[way]) for record in records for way in ways(record)]
    names = list(
        dict.fromkeys(n for _, _, found in timed for kind in ("ratio", "failed", "not_run") for n in found[kind])
    )
    header = ["case", "way", "µs", "TFLOP/s", "of peak", *(f"{name} ÷ ours" for name in names)]
    lines = ["| " + " | ".join(header) + " |", "| --- | --- |" + " ---: |" * (len(header) - 2)]
    for record, way, found in timed:
        ours = found["median"][OURS]
        rate = record["flops"] / ours
        cells = [record["name"], way, f"{ours * 1e6:.1f}", f"{rate * 1e-12:.2f}", f"{rate / record['peak']:.0%}"]
        lines.append("| " + " | ".join([*cells, *(cell(found, name) for name in names)]) + " |")
    lines.append("")
    for way in timing.WAYS:
        for name in names:
            ratios = [
                found["ratio"][name] for _, timed_way, found in timed if timed_way == way and name in found["ratio"]
            ]
            if ratios:
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lines.append(
                    f"- {way}: {name} ÷ ours {mean:.2f} (geometric mean of {len(ratios)}), least {min(ratios):.2f}"
                )
    return "\n".join(lines) + "\n"


def plot(path: Path, records: list[dict[str, Any]]) -> None:
    """Draw each variant's time over ours, case by case, in a graph where that was timed. Needs matplotlib."""
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


class Results:
    """The results of a section's cases, in the section's order, and the files that hold them."""

    def __init__(self, folder: Path, section: str, names: list[str]) -> None:
        self.folder, self.section, self.names = folder, section, names
        self.records: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}  # the error, by case
        self.not_run: dict[str, str] = {}  # the reason, by case

    def load(self) -> None:
        """Load what an earlier process wrote."""
        content = json.loads((self.folder / f"{self.section}.json").read_text())
        self.records = {record["name"]: record for record in content["results"]}
        self.failed = content["failed"]
        self.not_run = {name: reason for name, reason in content["not_run"].items() if reason != NO_TIME}

    def left_out(self) -> dict[str, str]:
        """Return the cases that did not run, with reasons; cases that have not begun are among them.

        If this process is killed, the files say so.
        """
        done = {*self.records, *self.failed, *self.not_run}
        return self.not_run | {name: NO_TIME for name in self.names if name not in done}

    def in_order(self) -> list[dict[str, Any]]:
        """Return the records in the section's order."""
        return [self.records[name] for name in self.names if name in self.records]

    def of_variants(self, kind: Literal["failed", "not_run"]) -> dict[str, str]:
        """Return the variants that failed or did not run, with error or reason."""
        return {
            f"{record['name']}, {name}, {way}": words
            for record in self.in_order()
            for way in ways(record)
            for name, words in record[way][kind].items()
        }

    def write(self) -> None:
        """Write the section's JSON and Markdown files."""
        content = {"results": self.in_order(), "not_run": self.left_out(), "failed": self.failed}
        with atomic_write(self.folder / f"{self.section}.json") as path:
            path.write_text(json.dumps(content, indent=1) + "\n")
        words = [table(self.in_order())] if self.records else []
        for what, left in (("cases", self.left_out()), ("variants", self.of_variants("not_run"))):
            words += [f"\nNot run, {reason}: {count} {what}.\n" for reason, count in Counter(left.values()).items()]
        failed = self.failed | self.of_variants("failed")
        words += [f"\nFailed: {name}: {error}\n" for name, error in failed.items()]
        with atomic_write(self.folder / f"{self.section}.md") as path:
            path.write_text("".join(words))

    def summary(self) -> str:
        """Say how many cases were measured, failed and did not run."""
        # A case that failed midway has a record of what was measured before.
        whole = self.records.keys() - self.failed.keys()
        words = f"{len(whole)} of {len(self.names)} cases measured, {len(self.failed)} failed"
        if variants := self.of_variants("failed"):
            words += f"; {len(variants)} times of variants failed"
        return words + "".join(f"; {n} not run: {reason}" for reason, n in Counter(self.left_out().values()).items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="nothing begins after so long")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, in every mode: minutes")
    parser.add_argument("-k", dest="select", default="", help="only cases whose name holds this word")
    parser.add_argument("--begin", type=int, default=0, help="go on with this case, the first being 0")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    deadline = time.monotonic() + arguments.seconds
    cases = [case for case in SECTIONS[arguments.section]() if arguments.select in case.name]
    results = Results(arguments.out, arguments.section, [case.name for case in cases])
    if arguments.begin:
        results.load()
    peaks: dict[str, float] = {}
    modes = MODES if arguments.compile else ()
    # An order that soon covers all kinds of cases, as time may not suffice for all.
    for index, case in enumerate(golden_section_order(cases)):
        if index < arguments.begin:
            continue
        if time.monotonic() > deadline:
            break
        try:
            for record in measure(case, modes, peaks, deadline):
                results.records[case.name] = record
                results.write()
        except Exception as error:  # the other cases are still measured; the section fails in the end
            words = f"{type(error).__name__}: {error}"
            if package := missing_package(words):
                results.not_run[case.name] = f"no {package}"
            else:
                results.failed[case.name] = words
                print(f"FAILED {case.name}: {words}", flush=True)
            results.write()
            if faults.is_lost():
                faults.go_on(begin=index + 1, seconds=deadline - time.monotonic())
        else:
            first = record[ways(record)[0]]
            ratios = ", ".join(f"{name} {value:.2f}" for name, value in first["ratio"].items())
            print(f"{case.name}: {first['median'][OURS] * 1e6:.1f} µs; ÷ ours: {ratios}", flush=True)
        torch.compiler.reset()
        torch.cuda.empty_cache()
    results.write()
    words = results.summary()
    if importlib.util.find_spec("matplotlib") is None:
        words += "; no plot: matplotlib is not installed"
    elif results.records:
        plot(arguments.out / f"{arguments.section}.png", results.in_order())
    print(words)
    return 1 if results.failed or results.of_variants("failed") or not results.records else 0


if __name__ == "__main__":
    raise SystemExit(main())
