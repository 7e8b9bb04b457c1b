"""The machine of `make gpu-check`: its GPU, its tools and packages, and how the extension is built there."""

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
# Names for installing, and names for importing.
PACKAGES = {
    name: name
    for name in (
        "torch", "triton", "numpy", "pytest", "hypothesis", "accelerate", "distributed", "matplotlib", "mlxtend",
        "rich", "safetensors", "tensorboard", "torchmetrics", "tyro",
    )
} | {"pytest-benchmark": "pytest_benchmark", "nvidia-cutlass": "cutlass_library", "pillow": "PIL"}  # fmt: skip
TOOLS = ("nvcc", "c++", "make", "git", "compute-sanitizer")
TOOLKIT = Path("/usr/local/cuda")
# cuda_runtime_api.h includes crt/host_defines.h, which pip's headers of CUDA 13 keep in a separate package.
CUDA_HEADERS = ("cuda_runtime_api.h", "crt/host_defines.h")
# Folders of packages that pip installs with torch's wheels; triton's folder holds both headers.
CUDA_PACKAGES = ("nvidia/cu[0-9]*/include", "nvidia/cuda_runtime/include", "triton/backends/nvidia/include")
_running: set[subprocess.Popen[bytes]] = set()


def absent(*modules: str) -> str:
    """Return the names of the modules that cannot be found, separated by commas."""
    return ", ".join(name for name in modules if importlib.util.find_spec(name) is None)


def find_tool(name: str) -> str | None:
    """Return the path of a program in PATH or in the folders of CUDA's toolkit and driver; None if it is missing."""
    folders = [os.environ.get("PATH", ""), os.path.join(os.environ.get("CUDA_HOME", ""), "bin")]
    return shutil.which(name, path=os.pathsep.join([*folders, str(TOOLKIT / "bin"), "/usr/local/nvidia/bin"]))


def lacking() -> dict[str, str]:
    """Return the packages and tools that are missing. What needs them is left out."""
    packages = {f"package {name}": "not installed" for name, module in PACKAGES.items() if absent(module)}
    return packages | {f"tool {name}": "not found" for name in TOOLS if find_tool(name) is None}


def run_for(seconds: float, command: list[str], log: IO[str], folder: Path, environment: dict[str, str]) -> int | None:
    """Run a command in a folder, write its output to the log, and return its status; None if it had to be stopped.

    Processes that the command started end with it, in every case. A compiler or a test left behind would disturb the
    next measurement.
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
    """Stop the commands of other threads. They run in sessions of their own, which Ctrl-C does not reach."""
    for process in list(_running):
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and the processes that it started, which may outlive the command."""
    with contextlib.suppress(ProcessLookupError):  # none of these processes is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def nvidia_smi(query: str) -> str:
    """Return what nvidia-smi answers for the first GPU; empty without a GPU."""
    if (tool := find_tool("nvidia-smi")) is None:
        return ""
    command = [tool, f"--query-gpu={query}", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip().splitlines()[0] if run.returncode == 0 and run.stdout.strip() else ""


def architecture_code() -> str:
    """Return nvcc's name of the first GPU's architecture, as sm_90a for Hopper, whose tensor cores need the "a"."""
    number = nvidia_smi("compute_cap").replace(".", "")
    return f"sm_{number}a" if number == "90" else f"sm_{number}"


def architecture() -> dict[str, str]:
    """Return the environment for a build: the first GPU's architecture, or nothing, which gives the default list.

    It is also empty where TORCH_CUDA_ARCH_LIST is set.
    """
    capability = nvidia_smi("compute_cap")
    if not capability or "TORCH_CUDA_ARCH_LIST" in os.environ:
        return {}
    return {"TORCH_CUDA_ARCH_LIST": f"{capability}a" if capability == "9.0" else capability}


def cutlass() -> str:
    """Return the folder that holds include/cutlass, from CUTLASS_PATH or the package nvidia-cutlass; "" without."""
    if path := os.environ.get("CUTLASS_PATH"):
        return path
    package = importlib.util.find_spec("cutlass_library")
    return str(Path(package.origin).parent / "source") if package and package.origin else ""


def cuda_headers() -> str:
    """Return the compiler's flag for the folder of cuda_runtime_api.h, in a toolkit or one of pip's packages.

    A folder of a package holds some, but not all, headers of a toolkit, so the compiler has to search it last.

    Raises:
        RuntimeError: the headers were not found.
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
    """Return the command that compiles fused_gan._C beside an existing library, with torch's copy of pybind11.

    Raises:
        RuntimeError: torch, Python's headers or CUDA's headers are missing.
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
    """Return GPU, driver, versions and commit of the results."""

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
