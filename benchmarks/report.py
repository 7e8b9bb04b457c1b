"""Runs the benchmarks and writes the results into a folder: JSON, Markdown tables, a roofline picture.

python -m benchmarks.report [--out benchmarks/results/NAME] [-k EXPRESSION]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import fused_gan
from benchmarks.roofline import draw
from benchmarks.tables import Machine, Record, markdown, rate_of_the_kernel
from fused_gan import tuning
from fused_gan.ops.processor import processor

# glibc may return freed memory to the system, and fault it in again page by page at the next call. Whether it does
# depends by chance on the heap, and more than doubles the time of any variant. These settings make it keep the memory.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1)}
HERE = Path(__file__).parent
ROOT = HERE.parent


def run_pytest(arguments: list[str]) -> list[Record]:
    """Return pytest-benchmark's records of the benchmarks that the arguments select."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "benchmark.json")
        command = [sys.executable, "-m", "pytest", "-q", "--benchmark-only", "--benchmark-columns=median,rounds"]
        command += [f"--benchmark-json={record}", "--benchmark-warmup=off", *arguments]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | MALLOC)
        records: list[Record] = json.loads(record.read_text())["benchmarks"]
        return records


def run_benchmarks(select: str) -> list[Record]:
    """Return the records of the selected cases.

    A case is measured up to twice more if the cores were far apart or others used them. The record during which the
    machine was the fastest is kept, so the choice does not depend on the ratios.
    """
    records = {record["fullname"]: record for record in run_pytest([str(HERE), "-k", select])}
    for _ in range(2):
        machine = Machine.of(list(records.values()))
        again = [name for name, record in records.items() if machine.was_far(record) or machine.was_disturbed(record)]
        for record in run_pytest(again) if again else []:
            name = record["fullname"]
            old_far, new_far = machine.was_far(records[name]), machine.was_far(record)
            if old_far > new_far or (
                old_far == new_far and rate_of_the_kernel(record) > rate_of_the_kernel(records[name])
            ):
                records[name] = record
    return list(records.values())


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def facts() -> dict[str, Any]:
    """Return the machine, versions and commit of the results."""
    return {
        "machine": f"{processor()}, {torch.get_num_threads()} threads",
        "system": platform.platform(),
        "python": platform.python_version(),
        "malloc": MALLOC,
        "measured_plans": sum(len(findings.records) for findings in tuning.installed()),
        **{key: value for key, value in fused_gan.build_info().items() if key != "activations"},
        "commit": git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scratch", help="folder for JSON and Markdown")
    parser.add_argument("-k", dest="select", default="", help="pytest's expression: which cases")
    arguments = parser.parse_args()

    records, about = run_benchmarks(arguments.select), facts()
    tables = markdown(records)
    print(tables)

    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [{"name": record["name"], **record["extra_info"]} for record in records]
    (arguments.out / "results.json").write_text(json.dumps({"facts": about, "results": results}, indent=1) + "\n")
    draw(records, arguments.out / "roofline.png")
    (arguments.out / "results.md").write_text(
        f"Medians of interleaved runs on {about['machine']}, torch {about['torch']}, commit {about['commit'][:12]}; "
        f"{Machine.of(records).in_words(records)}. Made by `make bench`, explained in "
        f"[docs/benchmarks.md](../../../docs/benchmarks.md).\n\n![roofline](roofline.png)\n\n{tables}"
    )
    print(f"written: {arguments.out}/results.json, results.md, roofline.png")


if __name__ == "__main__":
    main()
