"""The test suite on a machine with a GPU: every file in a process of its own, so that a fault of the device, which no
process survives, ends one file alone. What a missing package keeps from running is told apart from what fails."""

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

# These look at the GPU most closely: first, should the time not suffice for all.
FIRST = ("cuda_device", "cuda_graph", "equivalence", "derivatives", "special_values", "mlp")
# As Python says it, as the `fused-gan` command does, and as torch.compile does.
MISSING = re.compile(
    r"ModuleNotFoundError: No module named '([\w.]+)'|the package (\w+) is missing; get it with"
    r"|Cannot find a working (triton) installation"
)
OURS = ("fused_gan", "benchmarks", "helpers")  # these cannot be missing
ENDED = (0, 1, 2, 5)  # pytest's statuses: passed, failures, not importable, no tests
PROCESSES = max(1, min(4, (os.cpu_count() or 1) // 4))


@dataclass
class FileResult:
    """How the tests of a file ended."""

    name: str
    seconds: float = 0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    problem: str = ""  # that kept it from ending

    @property
    def status(self) -> str:
        if self.failed or self.problem:
            return "failed"
        return "passed" if self.passed else "not run"

    @property
    def detail(self) -> str:
        """In a line; of a file that was left out as a whole the reason alone."""
        if self.status == "not run" and len(self.skipped) == 1:
            return next(iter(self.skipped))
        words = [f"{self.passed} passed"] if self.passed else []
        words += [f"{len(self.failed)} failed ({', '.join(self.failed[:3])})"] if self.failed else []
        words += [f"{count} not run: {reason}" for reason, count in self.skipped.most_common()]
        return "; ".join([*words, *filter(None, [self.problem])]) or "no tests"


def files() -> list[Path]:
    """Every test file, in the order in which they run."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return sorted(paths, key=lambda path: path.stem.removeprefix("test_") not in FIRST)


def run(folder: Path, seconds: float, paths: list[Path], environment: dict[str, str]) -> Iterator[FileResult]:
    """Run test files, some at a time; the results come in the order of `paths`.

    Args:
        folder: gets a log and a JUnit file for each.
        seconds: for all of them together: what has not ended by then is stopped, what has not begun does not.
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
    elif status not in ENDED or not junit.exists():  # perhaps behind the last test, as it gave its device back
        result.problem = f"it crashed with status {status}, see {log.relative_to(folder.parent)}"
    result.seconds = time.monotonic() - start
    if junit.exists():
        read(junit, result)
    return result


def read(junit: Path, result: FileResult) -> None:
    """Count what pytest has written down. A test that fails for want of a package was not run."""
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
            # Of a whole file pytest writes the reason as ('path', line, 'Skipped: reason').
            if reason == "collection skipped" and (found := re.search(r"Skipped: (.*)['\"]\)$", skipped.text or "")):
                reason = found[1]
            result.skipped[reason] += 1
        else:
            result.passed += 1


def missing_package(text: str) -> str:
    """The package whose absence a failure speaks of, by the name that it is installed by; empty if it speaks of none,
    or of one that is there."""
    for found in MISSING.finditer(text):
        package = next(filter(None, found.groups())).partition(".")[0]
        if package not in OURS and importlib.util.find_spec(package) is None:
            return next((name for name, module in PACKAGES.items() if module == package), package)
    return ""
