"""Runs the test suite on a machine with a GPU, each file in a process of its own.

No process survives a fault of the device, so a fault ends one file alone. Tests that a missing package keeps from
running are told apart from tests that fail.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.machine import PACKAGES, ROOT, run_for, stop_all

# These test the GPU most closely, so they run first, as time may not suffice for all.
FIRST = ("cuda_device", "cuda_graph", "equivalence", "derivatives", "special_values", "mlp")
# The messages of Python, of the command `fused-gan` and of torch.compile.
MISSING = re.compile(
    r"ModuleNotFoundError: No module named '([\w.]+)'|the package (\w+) is missing; get it with"
    r"|Cannot find a working (triton) installation"
)
OURS = ("fused_gan", "benchmarks", "helpers")  # these cannot be missing
ENDED = (0, 1, 2, 5)  # pytest's statuses: passed, failures, not importable, no tests
PROCESSES = max(1, min(4, (os.cpu_count() or 1) // 4))


@dataclass
class FileResult:
    """The result of a file of tests."""

    name: str
    seconds: float = 0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    problem: str = ""  # the reason why the file did not end as it should

    @property
    def status(self) -> str:
        """The status: "failed", "passed" or "not run"."""
        if self.failed or self.problem:
            return "failed"
        return "passed" if self.passed else "not run"

    @property
    def detail(self) -> str:
        """The counts in one line; for a file that was left out as a whole, the reason alone."""
        if self.status == "not run" and len(self.skipped) == 1:
            return next(iter(self.skipped))
        words = [f"{self.passed} passed"] if self.passed else []
        words += [f"{len(self.failed)} failed ({', '.join(self.failed[:3])})"] if self.failed else []
        words += [f"{count} not run: {reason}" for reason, count in self.skipped.most_common()]
        return "; ".join([*words, *filter(None, [self.problem])]) or "no tests"


def files() -> list[Path]:
    """Return every test file, in the order of running."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return sorted(paths, key=lambda path: path.stem.removeprefix("test_") not in FIRST)


def run(folder: Path, seconds: float, paths: list[Path], environment: dict[str, str]) -> Iterator[FileResult]:
    """Run test files, several at a time, and yield their results in the order of `paths`.

    Args:
        folder: gets a log and a JUnit file for each test file.
        seconds: limit for all files together. Then running files are stopped, and the others do not begin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    threads = {"OMP_NUM_THREADS": str(max(2, (os.cpu_count() or 1) // PROCESSES))}
    with ThreadPoolExecutor(PROCESSES) as pool:
        try:
            yield from pool.map(lambda path: run_file(path, folder, deadline, threads | environment), paths)
        except BaseException:  # Ctrl-C
            stop_all()
            raise


def run_file(path: Path, folder: Path, deadline: float, environment: dict[str, str]) -> FileResult:
    """Run one test file until the deadline."""
    name = path.relative_to(ROOT / "tests").with_suffix("")
    result, start = FileResult(str(name)), time.monotonic()
    if (left := deadline - start) < 1:
        result.skipped["no time left"] = 1
        return result
    junit, log = folder / f"{name}.xml", folder / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    junit.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", str(path)]
    with log.open("w") as stream:
        status = run_for(left, command, stream, ROOT, environment)
    if status is None:
        result.problem = f"stopped after {left:.0f} s, as the section's time was over"
    elif status not in ENDED or not junit.exists():  # perhaps after the last test, while it released its device
        result.problem = f"it crashed with status {status}, see {log.relative_to(folder.parent)}"
    result.seconds = time.monotonic() - start
    if junit.exists():
        read(junit, result)
    return result


def read(junit: Path, result: FileResult) -> None:
    """Count the tests in pytest's JUnit file. A test that fails because a package is missing counts as not run."""
    for case in ElementTree.parse(junit).iter("testcase"):
        trouble = [*case.iter("failure"), *case.iter("error")]
        if trouble:
            text = f"{trouble[0].get('message', '')}\n{trouble[0].text or ''}"
            if package := missing_package(text):
                result.skipped[f"no {package}"] += 1
            else:
                result.failed.append(str(case.get("name")))
        elif (skipped := case.find("skipped")) is not None:
            reason = str(skipped.get("message"))
            # For a whole file, pytest writes the reason as ('path', line, 'Skipped: reason').
            if reason == "collection skipped" and (found := re.search(r"Skipped: (.*)['\"]\)$", skipped.text or "")):
                reason = found[1]
            result.skipped[reason] += 1
        else:
            result.passed += 1


def missing_package(text: str) -> str:
    """Return the package that a failure reports as missing, by the name for installing.

    It is empty if the text does not report a missing package, or if the package is installed.
    """
    for found in MISSING.finditer(text):
        package = next(filter(None, found.groups())).partition(".")[0]
        if package not in OURS and importlib.util.find_spec(package) is None:
            return next((name for name, module in PACKAGES.items() if module == package), package)
    return ""
