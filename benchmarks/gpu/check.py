"""Builds, tests, sanitizes, tunes and benchmarks on a machine with an NVIDIA GPU and without a network.

python -m benchmarks.gpu.check --out FOLDER [--sections build,tests,...] [--library FOLDER] [--seconds N]

It uses the existing Python environment: torch 2.11 or newer, pytest, numpy, hypothesis, pytest-benchmark. Each section
ends within --seconds and leaves logs. What cannot run is listed as not run and never counted as passed. Later calls
with other sections and the same --out add to the results. With --library the operator library and its build.json come
from that folder (built elsewhere for the same torch; it has no Python symbols), and only the small Python module is
compiled here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu import machine, suite
from benchmarks.gpu.machine import PACKAGE, ROOT

PROGRAMS = ("test_pointwise", "test_product")
SANITIZERS = ("memcheck", "initcheck", "racecheck", "synccheck")
CUTLASS_KERNELS = "kns=cutlass"  # compute-sanitizer's filter: a part of the mangled name
OBJECTS = ROOT / "build" / "gpu-temp"  # objects of the extension, which the test programs are linked with
WITHOUT_PACKAGE = ("build", "kernels", "sanitizer")  # sections that do not import fused_gan
# nvidia-smi may see a GPU that torch cannot use: its driver is too old, or CUDA_VISIBLE_DEVICES lacks its number.
READY = """
import torch
torch.cuda.init()
import fused_gan
if fused_gan.build_info()["cuda"] is None:
    raise RuntimeError("this build of fused_gan has no CUDA kernels")
"""


@dataclass
class Outcome:
    """The result of a part of a section."""

    section: str
    part: str
    status: str  # "passed", "failed" or "not run"
    detail: str = ""
    seconds: float = 0


class Check:
    """The sections, and what they share: the output folder, the time limit, and the outcomes."""

    def __init__(self, out: Path, library: Path | None, seconds: float) -> None:
        self.out, self.library, self.seconds = out, library, seconds
        self.section, self.deadline = "", time.monotonic() + seconds
        self.outcomes: list[Outcome] = []
        # Every command imports this folder's package.
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}

    def note(self, part: str, status: str, detail: str = "", seconds: float = 0) -> bool:
        """Record and print an outcome. Return whether it is "passed"."""
        self.outcomes.append(Outcome(self.section, part, status, detail, round(seconds, 1)))
        print(f"{part}: {status}{': ' + detail if detail else ''} ({seconds:.0f} s)", flush=True)
        return status == "passed"

    def left(self) -> float:
        """Return the seconds until the section has to end."""
        return self.deadline - time.monotonic()

    def run(self, part: str, command: list[str], environment: dict[str, str] | None = None, said: str = "") -> bool:
        """Run a command within the section's time, write its output to a log, and record the outcome.

        A command whose output does not contain `said` has not passed, whatever its status. Return whether it passed.
        """
        if (limit := self.left()) <= 0:
            return self.note(part, "not run", "no time left")
        log = self.out / f"{part.replace(' ', '-')}.log"
        start = time.monotonic()
        with log.open("w") as stream:
            stream.write(" ".join(command) + "\n")
            stream.flush()
            status = machine.run_for(limit, command, stream, ROOT, self.environment | (environment or {}))
        if status is None:
            return self.note(part, "failed", f"longer than {limit:.0f} s, see {log.name}", time.monotonic() - start)
        _, *lines = log.read_text(errors="replace").strip().splitlines()  # the first line is the command
        detail = lines[-1][:200] if lines else ""
        if status == 0 and said not in "\n".join(lines):
            return self.note(part, "failed", f"no {said!r} in {log.name}: {detail}", time.monotonic() - start)
        return self.note(part, "passed" if status == 0 else "failed", detail, time.monotonic() - start)

    def perform(self, section: str, work: Callable[[], object], obstacle: str) -> None:
        """Run a section, and record its errors; with an `obstacle`, record that it was not run."""
        self.section, self.deadline = section, time.monotonic() + self.seconds
        if obstacle:
            self.note(section, "not run", obstacle)
            return
        try:
            work()
        except Exception as error:  # the other sections still run
            log = self.out / f"{section}-error.log"
            log.write_text(traceback.format_exc())
            self.note(section, "failed", f"{error}, see {log.name}")

    # ---- the sections ------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Build the extension for this machine's GPU alone, or around a library that was built elsewhere."""
        if self.library is None:
            environment = {"FORCE_CUDA": "1", "MAX_JOBS": str(os.cpu_count()), **machine.architecture()}
            command = [sys.executable, "setup.py", "build_ext", "--inplace", "--build-temp", str(OBJECTS)]
            built = self.run("build", command, environment)
        else:
            for name in ("libfused_gan.so", "build.json"):
                if not (self.library / name).exists():
                    self.note("build", "failed", f"--library: expected {name} in {self.library}")
                    return
                if (self.library / name).resolve() != (PACKAGE / name).resolve():
                    shutil.copy2(self.library / name, PACKAGE / name)
            built = self.run("build", machine.module_command())
        if not built:
            return
        self.run("import", [sys.executable, str(ROOT / "tests" / "cuda" / "check_import.py")])
        if not json.loads((PACKAGE / "build.json").read_text())["wgmma"]:
            self.note("wgmma kernels", "not run", "not in this build: no CUTLASS headers, or not for sm_90a")

    def tests(self) -> None:
        """Run the whole test suite, with kernels on the GPU instead of a CPU, and with the estimated plan."""
        if missing := machine.absent("pytest", "hypothesis", "numpy"):
            self.note("tests", "not run", f"no {missing}")
            return
        folder = self.out / "tests"
        environment = self.environment | {"FUSED_GAN_CUDACPU": "", "FUSED_GAN_PLANS": str(folder / "no-plans")}
        for result in suite.run(folder, self.left() - 5, suite.files(), environment):
            self.note(f"tests {result.name}", result.status, result.detail[:600], result.seconds)

    def programs(self) -> Path | None:
        """Return the folder of the test programs, and build them if they are missing; None if the build fails."""
        folder = self.library or ROOT / "build" / "cuda-device"
        if all((folder / name).exists() for name in PROGRAMS):
            return folder
        folder = ROOT / "build" / "cuda-device"
        make = ["make", "-C", str(ROOT / "tests" / "cuda"), f"-j{os.cpu_count()}", f"BUILD={folder}"]
        make += [f"DEVICE={machine.architecture_code()}", f"CUTLASS={machine.cutlass()}"]
        make += [f"OBJECTS={OBJECTS}"] if OBJECTS.exists() else []
        return folder if self.run("programs", [*make, *(str(folder / name) for name in PROGRAMS)]) else None

    def kernels(self) -> None:
        """Run every kernel in programs without torch, whose buffers have exactly the needed size."""
        if folder := self.programs():
            # With "far", offsets beyond 2³¹ elements.
            for way in ([name, *word] for word in ([], ["far"]) for name in PROGRAMS):
                self.run(" ".join(["kernels", *way]), [str(folder / way[0]), *way[1:]])

    def sanitizer(self) -> None:
        """Run a few cases of each kernel under compute-sanitizer.

        Kernels made of CUTLASS's parts run apart and last, because the tools also report CUTLASS's own examples.
        """
        if (tool := machine.find_tool("compute-sanitizer")) is None:
            self.note("sanitizer", "not run", "no compute-sanitizer")
            return
        if (folder := self.programs()) is None:
            return
        pointwise, product = (folder / name for name in PROGRAMS)
        checks = [("pointwise", pointwise, []), ("mma", product, ["--kernel-name-exclude", CUTLASS_KERNELS])]
        if machine.nvidia_smi("compute_cap") == "9.0" and b"cutlass" in product.read_bytes():
            checks.append(("wgmma", product, ["--kernel-name", CUTLASS_KERNELS]))
        else:
            self.note("sanitizer wgmma", "not run", "no such kernels in this build or on this GPU")
        for kernels, program, words in checks:
            for name in SANITIZERS:
                part = f"{name} {kernels}"
                command = [tool, "--tool", name, "--error-exitcode", "9", *words, str(program), "few"]
                # A tool whose version does not match the driver may report nothing, because it runs nothing.
                self.run(part, command, said="failures")

    def tune(self) -> None:
        """Measure plans for the benchmark's layers into the folder. The sections that follow use them."""
        command = [sys.executable, "-m", "benchmarks.gpu.tune", str(self.out / "plans")]
        self.run("tune", [*command, "--seconds", str(self.seconds * 0.85)], self.plans())

    def benchmark(self, section: str, compiled: bool = False) -> None:
        """Run a section of the benchmark with the plans that `tune` measured."""
        name = f"compile-{section}" if compiled else section
        if compiled and (missing := machine.absent("triton")):
            self.note(f"benchmark {name}", "not run", f"no {missing}")
            return
        command = [sys.executable, "-m", "benchmarks.gpu.bench", section, "--out", str(self.out / name)]
        command += ["--seconds", str(self.seconds * 0.85), *(["--compile"] if compiled else [])]
        self.run(f"benchmark {name}", command, self.plans())

    def plans(self) -> dict[str, str]:
        """Return the environment in which fused_gan uses the measured plans."""
        return {"FUSED_GAN_PLANS": str(self.out / "plans")}

    def obstacle(self) -> str:
        """Return why fused_gan cannot compute on the GPU; empty if it can."""
        command = [sys.executable, "-c", READY]
        environment = os.environ | self.environment
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return "" if run.returncode == 0 else (run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1]

    # ---- the end -----------------------------------------------------------------------------------------------------

    def earlier(self, facts: dict[str, str]) -> list[Outcome]:
        """Return the outcomes of other sections from earlier calls on the same machine with the same build."""
        path = self.out / "summary.json"
        if not path.exists():
            return []
        content = json.loads(path.read_text())
        ran = {outcome.section for outcome in self.outcomes}
        if content["facts"] != facts:
            return []
        return [Outcome(**outcome) for outcome in content["outcomes"] if outcome["section"] not in ran]

    def write(self) -> list[str]:
        """Write summary.md and summary.json of the outcomes so far, and return the lines of the table."""
        facts = machine.facts()
        outcomes = [*self.earlier(facts), *self.outcomes]
        rows = [f"| {o.part} | {o.status} | {o.seconds:.0f} | {o.detail.replace('|', '/')} |" for o in outcomes]
        lines = ["| part | | s | |", "| --- | --- | ---: | --- |", *rows]
        about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
        replace(self.out / "summary.md", f"{about}\n\n" + "\n".join(lines) + "\n")
        content = {"facts": facts, "outcomes": [asdict(o) for o in outcomes]}
        replace(self.out / "summary.json", json.dumps(content, indent=1) + "\n")
        return lines

    def finish(self) -> int:
        """Write the summary and the archive, and return the exit status of this call."""
        lines = self.write()
        archive = self.out.with_name(f"{self.out.name}.tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(self.out, self.out.name)
        print("\n".join(lines))
        print(f"written: {self.out}, {archive}")
        if any(outcome.status == "failed" for outcome in self.outcomes):
            return 1
        return 0 if any(outcome.status == "passed" for outcome in self.outcomes) else 3


def replace(path: Path, text: str) -> None:
    """Write a file atomically. fused_gan.base.files would flush it too, but only a built package can be imported."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def sections(check: Check) -> dict[str, Callable[[], object]]:
    """Return the sections, the most important first, as time may not suffice: correctness, speed, the rest."""
    return {
        "build": check.build,
        "kernels": check.kernels,
        "tests": check.tests,
        "tune": check.tune,
        "layers": lambda: check.benchmark("layers"),
        "chains": lambda: check.benchmark("chains"),
        "steps": lambda: check.benchmark("steps"),
        "sanitizer": check.sanitizer,
        "compile-layers": lambda: check.benchmark("layers", compiled=True),
        "compile-chains": lambda: check.benchmark("chains", compiled=True),
        "compile-steps": lambda: check.benchmark("steps", compiled=True),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check", help="folder for everything")
    parser.add_argument("--sections", default="", help="comma-separated; all of them if empty")
    parser.add_argument(
        "--library",
        type=Path,
        help="folder that `make gpu-library` has left elsewhere: libfused_gan.so, build.json, test programs",
    )
    parser.add_argument("--seconds", type=float, default=540, help="limit of each section")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    check = Check(arguments.out.resolve(), arguments.library and arguments.library.resolve(), arguments.seconds)
    known = sections(check)
    wanted = [name for name in arguments.sections.split(",") if name] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"--sections: expected some of {', '.join(known)}, got {', '.join(unknown)}")

    for name, state in machine.lacking().items():
        check.note(name, "not run", f"{state}: what needs it is left out")
    for name in wanted:
        obstacle = ""
        if name != "build" and not machine.nvidia_smi("name"):
            obstacle = "no NVIDIA GPU is visible"
        elif name not in WITHOUT_PACKAGE and (reason := check.obstacle()):
            obstacle = f"nothing can be computed on the GPU: {reason}"
        check.perform(name, known[name], obstacle)
        check.write()
    return check.finish()


if __name__ == "__main__":
    raise SystemExit(main())
