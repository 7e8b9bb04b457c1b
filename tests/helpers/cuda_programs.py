"""Builds the test programs of tests/cuda, and says why one cannot be built here."""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def find_cuda_home() -> Path | None:
    """The toolkit's folder: CUDA_HOME, the one above the nvcc in PATH (which may be a wrapper), or the usual place."""
    in_path = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), in_path and Path(in_path).parent.parent, "/usr/local/cuda"]
    wanted = ("bin/nvcc", "include/cuda_runtime_api.h")
    return next((Path(home) for home in candidates if home and all(Path(home, file).exists() for file in wanted)), None)


def find_cutlass() -> Path | None:
    """The folder that holds include/cutlass: CUTLASS_PATH, or in nvidia-cutlass of this or the CUDA environment."""
    package = importlib.util.find_spec("cutlass_library")
    candidates = [os.environ.get("CUTLASS_PATH"), package and package.origin and Path(package.origin).parent / "source"]
    candidates += glob.glob(str(ROOT / ".venv-cuda/lib/python3*/site-packages/cutlass_library/source"))
    return next((Path(path) for path in candidates if path and Path(path, "include/cutlass/cutlass.h").exists()), None)


def build(program: str, cuda_home: Path, cudacpu: str = "", cutlass: Path | None = None) -> Path:
    """Make one program, again only where a source has changed; returns its path."""
    folder = ROOT / "build" / ("cuda-tests-wgmma" if cutlass else "cuda-tests")
    make = ["make", "-C", str(ROOT / "tests" / "cuda"), f"-j{os.cpu_count()}", f"BUILD={folder}"]
    make += [f"CUDA_HOME={cuda_home}", f"CUDACPU={cudacpu}", *([f"CUTLASS={cutlass}"] if cutlass else [])]
    built = subprocess.run([*make, str(folder / program)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return folder / program


def execute(command: list[str | Path], settings: dict[str, str]) -> str:
    """Run a program on the CPU runtime under `settings` alone; returns what it printed, fails with it if it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CUDACPU_")}
    environment = clean | {f"CUDACPU_{name}": value for name, value in settings.items()}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return run.stdout
