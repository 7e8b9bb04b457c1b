"""One command for a machine with an NVIDIA GPU and no network: build, test, sanitize, tune, benchmark, pack it all up.

python -m benchmarks.gpu_check --out FOLDER [--sections build,tests,...] [--library FOLDER] [--seconds N]

Uses the Python environment that is there: torch 2.11 or newer, pytest, numpy, hypothesis, pytest-benchmark. Each
section is bounded by --seconds and leaves a log; what cannot run is listed as not run and never counted as passed. With
--library the operator library and its build.json come from that folder (built elsewhere for the same torch; it has no
Python symbols), and only the small Python module is compiled here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fused_gan"
PACKAGES = (
    "torch", "triton", "numpy", "pytest", "pytest-benchmark", "hypothesis", "nvidia-cutlass", "rich", "tyro",
    "accelerate", "safetensors",
)  # fmt: skip
DEVICE_TESTS = [
    f"tests/test_{name}.py"
    for name in ("cuda_device", "cuda_graph", "equivalence", "derivatives", "special_values", "mlp")
]
SANITIZERS = ("memcheck", "initcheck", "racecheck", "synccheck")
TUNED = [(batch, a, b) for batch in (64, 256, 1024, 8192) for a, b in (
    (100, 256), (256, 512), (512, 1024), (1024, 784), (784, 1024), (1024, 512), (512, 256), (1024, 1024), (4096, 4096),
)]  # fmt: skip


@dataclass
class Outcome:
    """How a section, or a part of one, ended."""

    section: str
    status: str  # "passed", "failed" or "not run"
    detail: str = ""
    seconds: float = 0


class Check:
    """What the sections share: where to write, how long each may take, what came out."""

    def __init__(self, out: Path, library: Path | None, seconds: float) -> None:
        self.out, self.library, self.seconds = out, library, seconds
        self.outcomes: list[Outcome] = []

    def note(self, section: str, status: str, detail: str = "", seconds: float = 0) -> bool:
        self.outcomes.append(Outcome(section, status, detail, round(seconds, 1)))
        print(f"{section}: {status}{': ' + detail if detail else ''} ({seconds:.0f} s)", flush=True)
        return status == "passed"

    def run(
        self, section: str, command: list[str], environment: dict[str, str] | None = None, limit: float | None = None
    ) -> bool:
        """Run a command, its output into a log beside the results; notes how it ended."""
        log = self.out / f"{section.replace(' ', '-')}.log"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        start = time.monotonic()
        with log.open("w") as stream:
            stream.write(" ".join(command) + "\n")
            stream.flush()
            try:
                status = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": path} | (environment or {}),
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    timeout=limit or self.seconds,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return self.note(
                    section,
                    "failed",
                    f"longer than {limit or self.seconds:.0f} s, see {log.name}",
                    time.monotonic() - start,
                )
        lines = log.read_text(errors="replace").strip().splitlines()
        detail = lines[-1][:200] if len(lines) > 1 else ""
        return self.note(section, "passed" if status == 0 else "failed", detail, time.monotonic() - start)

    # ---- the sections ------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """The extension for this machine's GPU alone, or around a library that was built elsewhere."""
        if self.library is None:
            environment = {"FORCE_CUDA": "1", "MAX_JOBS": str(os.cpu_count()), **architecture()}
            self.run("build", [sys.executable, "setup.py", "build_ext", "--inplace"], environment)
            return
        for name in ("libfused_gan.so", "build.json"):
            if not (self.library / name).exists():
                self.note("build", "failed", f"--library: expected {name} in {self.library}")
                return
            if (self.library / name).resolve() != (PACKAGE / name).resolve():
                shutil.copy2(self.library / name, PACKAGE / name)
        self.run("build", module_command(), limit=300)

    def tests(self) -> None:
        """What looks at the GPU first, then the whole suite."""
        if missing := absent("pytest", "hypothesis", "numpy"):
            self.note("tests", "not run", f"no {missing}")
            return
        pytest = [sys.executable, "-m", "pytest", "-q", "--maxfail=40", "--continue-on-collection-errors"]
        environment = {"FUSED_GAN_CUDACPU": ""}  # the kernels run on the GPU here
        device_tests = [f"--junitxml={self.out / 'tests-device.xml'}", *DEVICE_TESTS, "-k", "cuda"]
        self.run("tests on the device", [*pytest, *device_tests], environment)
        self.run("tests", [*pytest, "tests", "--durations=15", f"--junitxml={self.out / 'tests.xml'}"], environment)

    def sanitizer(self) -> None:
        """Every kernel in a program without torch, whose buffers are exactly as large as they should be."""
        tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
        folder, names = self.library or ROOT / "build" / "cuda-device", ("test_pointwise", "test_product")
        programs = [folder / name for name in names]
        if not all(program.exists() for program in programs):
            folder = ROOT / "build" / "cuda-device"
            programs = [folder / name for name in names]
            make = ["make", "-C", str(ROOT / "tests" / "cuda"), f"-j{os.cpu_count()}", f"BUILD={folder}"]
            make += [f"DEVICE={architecture_code()}", f"CUTLASS={os.environ.get('CUTLASS_PATH', '')}"]
            if not self.run("sanitizer build", [*make, *map(str, programs)]):
                return
        deadline = time.monotonic() + self.seconds
        for program in programs:
            if not self.run(f"kernels {program.name}", [str(program)]):
                self.note("sanitizer", "not run", "the kernels fail without it")
                return
        if tool is None:
            self.note("sanitizer", "not run", "no compute-sanitizer")
            return
        for name in SANITIZERS:
            for program in reversed(programs):
                section = f"{name} {program.name}"
                if (left := deadline - time.monotonic()) < 10:
                    self.note(section, "not run", "no time left")
                    continue
                words = [tool, "--tool", name, "--error-exitcode", "9", str(program)]
                self.run(section, [*words, *(["few"] if program.name == "test_product" else [])], limit=left)

    def tune(self) -> None:
        """Measured plans for the benchmark's layers, in the folder and in use for the sections that follow."""
        code = (
            "import fused_gan, sys, pathlib; from benchmarks.gpu_check import TUNED; "
            "[print(r, flush=True) for r in fused_gan.autotune(TUNED, path=pathlib.Path(sys.argv[1]))]"
        )
        folder = self.out / "plans"
        self.run("tune", [sys.executable, "-c", code, str(folder / "measured.json")], {"FUSED_GAN_PLANS": str(folder)})

    def benchmark(self, section: str, compiled: bool = False) -> None:
        """A section of the benchmark, with the plans that `tune` has left."""
        name = f"compile-{section}" if compiled else section
        command = [sys.executable, "-m", "benchmarks.gpu_bench", section, "--out", str(self.out / name)]
        command += ["--seconds", str(self.seconds * 0.85), *(["--compile"] if compiled else [])]
        self.run(f"benchmark {name}", command, {"FUSED_GAN_PLANS": str(self.out / "plans")})

    # ---- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> int:
        """summary.md, summary.json and the archive; the exit status."""
        rows = [f"| {o.section} | {o.status} | {o.seconds:.0f} | {o.detail.replace('|', '/')} |" for o in self.outcomes]
        lines = ["| section | | s | |", "| --- | --- | ---: | --- |", *rows]
        facts = machine_facts()
        about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
        (self.out / "summary.md").write_text(f"{about}\n\n" + "\n".join(lines) + "\n")
        (self.out / "summary.json").write_text(
            json.dumps({"facts": facts, "outcomes": [asdict(o) for o in self.outcomes]}, indent=1) + "\n"
        )
        archive = self.out.with_suffix(".tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(self.out, self.out.name)
        print("\n".join(lines))
        print(f"written: {self.out}, {archive}")
        if any(outcome.status == "failed" for outcome in self.outcomes):
            return 1
        return 0 if any(outcome.status == "passed" for outcome in self.outcomes) else 3


def sections(check: Check) -> dict[str, Callable[[], object]]:
    """In the order in which they depend on each other; `compile` takes longest and comes last."""
    return {
        "build": check.build,
        "tests": check.tests,
        "sanitizer": check.sanitizer,
        "tune": check.tune,
        "layers": lambda: check.benchmark("layers"),
        "chains": lambda: check.benchmark("chains"),
        "steps": lambda: check.benchmark("steps"),
        "compile-layers": lambda: check.benchmark("layers", compiled=True),
        "compile-chains": lambda: check.benchmark("chains", compiled=True),
        "compile-steps": lambda: check.benchmark("steps", compiled=True),
    }


def absent(*packages: str) -> str:
    """Those of the packages that are not installed, in words."""
    return ", ".join(name for name in packages if importlib.util.find_spec(name.replace("-", "_")) is None)


def nvidia_smi(query: str) -> str:
    """What nvidia-smi answers for the first GPU; empty where there is no GPU."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return ""
    command = [tool, f"--query-gpu={query}", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip().splitlines()[0] if run.returncode == 0 and run.stdout.strip() else ""


def architecture_code() -> str:
    """The real architecture of the first GPU, as nvcc calls it: sm_90a for Hopper, whose tensor cores want the a."""
    number = nvidia_smi("compute_cap").replace(".", "")
    return f"sm_{number}a" if number == "90" else f"sm_{number}"


def architecture() -> dict[str, str]:
    """The architecture to build for: the first GPU's; the default list where there is none."""
    capability = nvidia_smi("compute_cap")
    if not capability or "TORCH_CUDA_ARCH_LIST" in os.environ:
        return {}
    return {"TORCH_CUDA_ARCH_LIST": f"{capability}a" if capability == "9.0" else capability}


def module_command() -> list[str]:
    """Compiles fused_gan._C beside a library that is there already: one file, with torch's copy of pybind11."""
    torch_spec = importlib.util.find_spec("torch")
    if torch_spec is None or torch_spec.origin is None:
        return [sys.executable, "-c", "import sys; sys.exit('there is no torch')"]
    torch_folder = Path(torch_spec.origin).parent
    facts = json.loads((PACKAGE / "build.json").read_text())
    cuda_home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
    macros = ["-DFUSED_GAN_WITH_CUDA"] * bool(facts["cuda"]) + ["-DFUSED_GAN_WITH_WGMMA"] * bool(facts["wgmma"])
    includes = [
        torch_folder / "include",
        torch_folder / "include/torch/csrc/api/include",
        Path(sysconfig.get_paths()["include"]),
        cuda_home / "include",
    ]
    target = PACKAGE / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    return [
        os.environ.get("CXX", "c++"), "-O2", "-g0", "-std=c++20", "-shared", "-fPIC", *macros,
        *(f"-I{folder}" for folder in includes), "csrc/python.cpp", f"-L{PACKAGE}", "-lfused_gan",
        "-Wl,-rpath,$ORIGIN", f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", "-o", str(target),
    ]  # fmt: skip


def machine_facts() -> dict[str, str]:
    """GPU, driver, versions and commit that the results belong to."""

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "gpu": nvidia_smi("name") or "none",
        "driver": nvidia_smi("driver_version") or "none",
        "compute capability": nvidia_smi("compute_cap") or "none",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": git.stdout.strip() or os.environ.get("FUSED_GAN_COMMIT", "unknown"),
        "build": (PACKAGE / "build.json").read_text().replace("\n", " ")
        if (PACKAGE / "build.json").exists()
        else "none",
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

    for package in PACKAGES:
        if absent({"pytest-benchmark": "pytest_benchmark", "nvidia-cutlass": "cutlass_library"}.get(package, package)):
            check.note(f"package {package}", "not run", "not installed: what needs it is left out")
    gpu = bool(nvidia_smi("name"))
    for name in wanted:
        if name != "build" and not gpu:
            check.note(name, "not run", "no NVIDIA GPU is visible")
        else:
            known[name]()
    return check.finish()


if __name__ == "__main__":
    raise SystemExit(main())
