"""Runs the benchmarks and writes what they found: a table on the terminal, JSON and Markdown in a folder.

python -m benchmarks.report [--out benchmarks/results/NAME] [-k EXPRESSION]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fused_gan

# Whether glibc returns freed memory to the system, to fault it in again page by page at the next call, depends on what
# lies behind it on the heap: luck that hits any variant, and more than doubles its time. So it is told to keep it.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1)}
HERE = Path(__file__).parent
ROOT = HERE.parent


def run_benchmarks(select: str) -> list[dict[str, Any]]:
    """pytest-benchmark's records of the selected cases."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "benchmark.json")
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(HERE),
            "-q",
            "--benchmark-only",
            "--benchmark-columns=median,rounds",
        ]
        command += [f"--benchmark-json={record}", "--benchmark-warmup=off", *(["-k", select] if select else [])]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | MALLOC)
        records: list[dict[str, Any]] = json.loads(record.read_text())["benchmarks"]
        return records


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def facts() -> dict[str, Any]:
    """The machine, versions and commit that the numbers belong to."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "machine": f"{model}, {torch.get_num_threads()} threads",
        "system": platform.platform(),
        "python": platform.python_version(),
        "malloc": MALLOC,
        **{key: value for key, value in fused_gan.build_info().items() if key != "activations"},
        "commit": git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""),
    }


def row(record: dict[str, Any]) -> list[str]:
    """case, microseconds of ours, × against each other, × over the floor, GFLOP/s."""
    info = record["extra_info"]
    ours = info["median"]["fused_gan"]
    ratio = info["ratio"]
    return [
        record["name"].removeprefix("bench_"),
        f"{ours * 1e6:.1f}",
        *(f"{ratio[name]:.2f}" if name in ratio else "" for name in ("eager", "compile", "onednn", "usual")),
        f"{1 / ratio['floor']:.2f}" if "floor" in ratio else "",
        f"{info['flops'] / ours * 1e-9:.0f}",
    ]


HEADER = [
    "case",
    "µs",
    "eager ÷ ours",
    "compile ÷ ours",
    "oneDNN ÷ ours",
    "usual loop ÷ ours",
    "ours ÷ bare product",
    "GFLOP/s",
]


def geometric_means(records: list[dict[str, Any]]) -> list[str]:
    """One line a benchmark function: geometric mean and worst of the ratios against eager."""
    groups: dict[str, list[float]] = {}
    for record in records:
        groups.setdefault(record["name"].split("[")[0], []).append(record["extra_info"]["ratio"]["eager"])
    return [
        f"{name.removeprefix('bench_')}: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}× eager "
        f"(geometric mean of {len(ratios)}), worst {min(ratios):.2f}×"
        for name, ratios in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scratch", help="folder for JSON and Markdown")
    parser.add_argument("-k", dest="select", default="", help="pytest's expression: which cases")
    arguments = parser.parse_args()

    records = run_benchmarks(arguments.select)
    about = facts()
    rows = [row(record) for record in records]
    means = geometric_means(records)

    table = Table(*HEADER, title=about["machine"])
    for cells in rows:
        table.add_row(*map(escape, cells))
    console = Console()
    console.print(table)
    console.print("\n".join(means))

    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [{"name": record["name"], **record["extra_info"]} for record in records]
    (arguments.out / "results.json").write_text(json.dumps({"facts": about, "results": results}, indent=1) + "\n")
    lines = [
        f"Medians of interleaved runs on {about['machine']}, torch {about['torch']}, commit {about['commit'][:12]}. "
        "Made by `make bench`.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "| --- |" + " ---: |" * (len(HEADER) - 1),
        *("| " + " | ".join(cells) + " |" for cells in rows),
        "",
        *means,
    ]
    (arguments.out / "results.md").write_text("\n".join(lines) + "\n")
    console.print(f"written: {arguments.out}/results.json, results.md")


if __name__ == "__main__":
    main()
