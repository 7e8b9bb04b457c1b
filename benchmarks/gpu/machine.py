"""The machine that `make gpu-check` runs on: its GPU, its tools and packages, and how the extension is built there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
from itertools import product
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fused_gan"
# By the names that they are installed by, and imported by.
PACKAGES = {
    name: name
    for name in (
        "torch", "triton", "numpy", "pytest", "hypothesis", "accelerate", "distributed", "matplotlib", "mlxtend",
        "rich", "safetensors", "tensorboard", "torchmetrics", "tyro",
    )
} | {"pytest-benchmark": "pytest_benchmark", "nvidia-cutlass": "cutlass_library", "pillow": "PIL"}  # fmt: skip
TOOLS = ("nvcc", "c++", "make", "git", "compute-sanitizer")
TOOLKIT = Path("/usr/local/cuda")
# cuda_runtime_api.h includes the second one, which pip's headers of CUDA 13 keep in a package of their own.
CUDA_HEADERS = ("cuda_runtime_api.h", "crt/host_defines.h")
# Of pip's packages that torch's wheels bring; triton's holds both.
CUDA_PACKAGES = ("nvidia/cu[0-9]*/include", "nvidia/cuda_runtime/include", "triton/backends/nvidia/include")
_running: set[subprocess.Popen[bytes]] = set()


def absent(*modules: str) -> str:
    """Those of the modules that cannot be found, in words."""
    return ", ".join(name for name in modules if importlib.util.find_spec(name) is None)


def find_tool(name: str) -> str | None:
    """A program in PATH, or where CUDA's toolkit and driver put theirs."""
    folders = [os.environ.get("PATH", ""), os.path.join(os.environ.get("CUDA_HOME", ""), "bin")]
    return shutil.which(name, path=os.pathsep.join([*folders, str(TOOLKIT / "bin"), "/usr/local/nvidia/bin"]))


def lacking() -> dict[str, str]:
    """Packages and tools that are not here; what needs them is left out."""
    packages = {f"package {name}": "not installed" for name, module in PACKAGES.items() if absent(module)}
    return packages | {f"tool {name}": "not found" for name in TOOLS if find_tool(name) is None}


def run_for(seconds: float, command: list[str], log: IO[str], folder: Path, environment: dict[str, str]) -> int | None:
    """Run a command in a folder, its output into the log; its status, or None if it had to be stopped.

    What it has started ends with it, however that ends: a compiler or a test left behind would run beside what is
    measured next.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    _running.add(process)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _running.remove(process)
        _stop(process)


def stop_all() -> None:
    """Stop what other threads run: in sessions of their own, the commands do not hear of Ctrl-C."""
    for process in list(_running):
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started, which may outlive it."""
    with contextlib.suppress(ProcessLookupError):  # nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def nvidia_smi(query: str) -> str:
    """What nvidia-smi answers for the first GPU; empty where there is no GPU."""
    if (tool := find_tool("nvidia-smi")) is None:
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


def cutlass() -> str:
    """The folder that holds include/cutlass: CUTLASS_PATH, or in the package nvidia-cutlass; empty if there is none."""
    if path := os.environ.get("CUTLASS_PATH"):
        return path
    package = importlib.util.find_spec("cutlass_library")
    return str(Path(package.origin).parent / "source") if package and package.origin else ""


def cuda_headers() -> str:
    """The compiler's flag for the folder of cuda_runtime_api.h: a toolkit's, or one of pip's packages, which holds some
    headers of a toolkit and not all of them, and therefore comes behind every other folder.

    Raises:
        RuntimeError: there is none.
    """
    nvcc = find_tool("nvcc")
    homes = [os.environ.get("CUDA_HOME"), Path(nvcc).parent.parent if nvcc else None, TOOLKIT]
    folders = [("-I", Path(home, "include")) for home in homes if home]
    for path, pattern in product(sys.path, CUDA_PACKAGES):
        folders += [("-idirafter", folder) for folder in Path(path).glob(pattern)]
    for option, folder in folders:
        if all((folder / header).exists() for header in CUDA_HEADERS):
            return f"{option}{folder}"
    raise RuntimeError(
        f"there is no {' with '.join(CUDA_HEADERS)}, neither in a toolkit (looked for in CUDA_HOME, beside nvcc and in "
        f"{TOOLKIT}) nor in pip's packages ({', '.join(CUDA_PACKAGES)}): set CUDA_HOME, or pip install nvidia-cuda-crt"
    )


def module_command() -> list[str]:
    """Compiles fused_gan._C beside a library that is there already: one file, with torch's copy of pybind11.

    Raises:
        RuntimeError: torch, Python's headers or CUDA's are not here.
    """
    torch_spec = importlib.util.find_spec("torch")
    if torch_spec is None or torch_spec.origin is None:
        raise RuntimeError(f"{sys.executable} has no torch")
    torch_folder, python_headers = Path(torch_spec.origin).parent, Path(sysconfig.get_paths()["include"])
    if not (python_headers / "Python.h").exists():
        raise RuntimeError(f"there is no Python.h in {python_headers}: Python's headers (python3-dev) are needed")
    facts = json.loads((PACKAGE / "build.json").read_text())
    macros = ["-DFUSED_GAN_WITH_CUDA"] * bool(facts["cuda"]) + ["-DFUSED_GAN_WITH_WGMMA"] * bool(facts["wgmma"])
    torch_headers = torch_folder / "include"
    includes = [
        *(f"-I{folder}" for folder in (torch_headers, torch_headers / "torch/csrc/api/include", python_headers)),
        *([cuda_headers()] if facts["cuda"] else []),
    ]
    target = PACKAGE / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    return [
        os.environ.get("CXX", "c++"), "-O2", "-g0", "-std=c++20", "-shared", "-fPIC", *macros,
        *includes, "csrc/python.cpp", f"-L{PACKAGE}", "-lfused_gan",
        "-Wl,-rpath,$ORIGIN", f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", "-o", str(target),
    ]  # fmt: skip


def facts() -> dict[str, str]:
    """GPU, driver, versions and commit that the results belong to."""

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    def commit() -> str:
        if (tool := find_tool("git")) is None:
            return ""
        git = subprocess.run([tool, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
        return git.stdout.strip()

    build = PACKAGE / "build.json"
    return {
        "gpu": nvidia_smi("name") or "none",
        "driver": nvidia_smi("driver_version") or "none",
        "compute capability": nvidia_smi("compute_cap") or "none",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": os.environ.get("FUSED_GAN_COMMIT") or commit() or "unknown",
        "build": build.read_text().replace("\n", " ") if build.exists() else "none",
    }
