"""Each instruction set of the CPU kernels passes the operator's tests, not only the best one of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fused_gan

HERE = Path(__file__).parent
VARIABLE = "FUSED_GAN_CPU_CAPABILITY"
NAMES = ["amx", "amx_model", "avx512", "avx2", "portable"]
# What an instruction set can get wrong: products at the edges of tiles, pointwise loops, exponentials, conversions.
FILES = ["test_equivalence.py", "test_special_values.py", "test_accuracy.py", "test_determinism.py"]
FILES += ["test_poisoned_memory.py", "test_tiles.py", "test_properties.py", "test_cpu_plan.py"]  # chains too


def python(arguments: list[str], capability: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, VARIABLE: capability, "CUDA_VISIBLE_DEVICES": ""},  # a GPU knows none of this
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=1500,  # the model of the tiles takes minutes on a machine that is shared
    )


def chosen(capability: str) -> subprocess.CompletedProcess[str]:
    return python(["-c", "import fused_gan; print(fused_gan.build_info()['cpu_capability'])"], capability)


@pytest.mark.parametrize("name", NAMES)
def test_operator_passes_its_tests(name: str) -> None:
    if name == fused_gan.build_info()["cpu_capability"]:
        pytest.skip("the set in use here, which the other files test")
    run = chosen(name)
    if "expected one of" in run.stderr:
        pytest.skip(f"this processor has no {name}")
    assert run.stdout.strip() == name
    options = ["-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "--hypothesis-profile=brief"]
    tests = python(["-m", "pytest", *options, *FILES], name)
    assert tests.returncode == 0, tests.stdout[-4000:] + tests.stderr[-2000:]


@pytest.mark.parametrize("name", ["sse9", "AVX2", " avx2"], ids=repr)
def test_unknown_name(name: str) -> None:
    """A clear error from the facts and from the operator itself; portable is always among the names."""
    call = "import torch, fused_gan; fused_gan.linear_act(torch.ones(1, 1), torch.ones(1, 1))"
    for run in (chosen(name), python(["-c", call], name)):
        assert run.returncode == 1
        message = run.stderr.strip().splitlines()[-1]
        assert f"RuntimeError: {VARIABLE} is '{name}', expected one of: " in message
        assert message.endswith("portable")


def test_empty_name_is_no_name() -> None:
    """VARIABLE= in a shell means: not set."""
    run = chosen("")
    assert run.returncode == 0, run.stderr.strip().splitlines()[-1]
    assert run.stdout.strip() in NAMES
