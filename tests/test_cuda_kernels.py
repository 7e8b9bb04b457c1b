"""The hand-written CUDA kernels compute the right thing, executed on a CPU.

nvcc compiles them to PTX, and a CUDA runtime for CPUs (its folder is named by FUSED_GAN_CUDACPU) interprets that under
its checks of bounds, initialisation and races. tests/cuda/test_pointwise.cpp holds the comparisons.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_EXECUTED = "the CUDA kernels were not executed: "

# The settings of one run: which PTX runs, what is checked, in which order warps and blocks run.
RUNS = {
    "sm_80": {},
    "sm_90a": {"CAPABILITY": "90"},
    "initialisation": {"INITCHECK": "1"},
    "races and shared initialisation": {"RACECHECK": "1", "INITCHECK": "shared"},
    "random order 1": {"RACECHECK": "1", "INITCHECK": "shared", "SCHEDULE_SEED": "1"},
    "random order 2": {"RACECHECK": "1", "INITCHECK": "shared", "SCHEDULE_SEED": "2"},
    "random order 3, sm_90a": {"RACECHECK": "1", "INITCHECK": "shared", "SCHEDULE_SEED": "3", "CAPABILITY": "90"},
}


def find_cuda_home() -> Path | None:
    """The toolkit's folder: CUDA_HOME, the one above the nvcc in PATH (which may be a wrapper), or the usual place."""
    in_path = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), in_path and Path(in_path).parent.parent, "/usr/local/cuda"]
    wanted = ("bin/nvcc", "include/cuda_runtime_api.h")
    return next((Path(home) for home in candidates if home and all(Path(home, file).exists() for file in wanted)), None)


@pytest.fixture(scope="module")
def program() -> Path:
    """The test program, built once and again only where a source has changed."""
    runtime = os.environ.get("FUSED_GAN_CUDACPU")
    if not runtime:
        pytest.skip(NOT_EXECUTED + "FUSED_GAN_CUDACPU does not name the folder of a CUDA runtime for CPUs")
    cuda_home = find_cuda_home()
    if cuda_home is None:
        pytest.skip(NOT_EXECUTED + "no CUDA toolkit with nvcc in CUDA_HOME, PATH or /usr/local/cuda")
    folder = ROOT / "build" / "cuda-tests"
    make = [
        "make",
        "-C",
        str(ROOT / "tests" / "cuda"),
        f"CUDACPU={runtime}",
        f"BUILD={folder}",
        f"CUDA_HOME={cuda_home}",
    ]
    built = subprocess.run(make, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return folder / "test_pointwise"


def execute(program: Path, settings: dict[str, str]) -> str:
    """Run the program under `settings`, fail with its report if it does, and return the bias gradients' fingerprint."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CUDACPU_")}
    environment = clean | {f"CUDACPU_{name}": value for name, value in settings.items()}
    run = subprocess.run([program], env=environment, capture_output=True, text=True, check=False, timeout=600)
    report = run.stdout[-4000:] + run.stderr[-4000:]
    assert run.returncode == 0, report
    compared = re.search(r"^\d+ plans and (\d+) tensors, 0 failures\nbias gradients (\w+)$", run.stdout, re.MULTILINE)
    assert compared, report
    assert int(compared[1]) > 4000, report
    return compared[2]


def test_kernels_match_the_reference_and_repeat_bit_for_bit(program: Path) -> None:
    fingerprints = {name: execute(program, settings) for name, settings in RUNS.items()}
    assert len(set(fingerprints.values())) == 1, fingerprints
