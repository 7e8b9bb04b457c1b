"""The register budget of the CUDA kernels fails on growth, on spills, and on kernels that come or go unannounced."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "cuda" / "check_ptxas.py"
spec = importlib.util.spec_from_file_location("check_ptxas", SCRIPT)
assert spec
assert spec.loader
check_ptxas = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_ptxas)

SYMBOL = (
    "_ZN9fused_gan4cuda3mma10mma_kernelILNS0_9PrecisionE0ELNS0_9DirectionE1ENS1_9TileShapeILi32ELi32ELi16ELi16ELi6EEE"
    "Li16EEEvNS0_16ProductArgumentsENS0_8PartialsEl"
)
LOG = f"""\
ptxas info    : Compiling entry function '{SYMBOL}' for 'sm_80'
ptxas info    : Function properties for {SYMBOL}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 1 barriers, 512 bytes cmem[0]
"""
NAME = "mma bfloat16 backward 32x32, 16 bytes an access, sm_80"


def test_a_report_is_read() -> None:
    assert check_ptxas.read(LOG) == {NAME: {"stack": 0, "spills": 0, "registers": 56}}


@pytest.mark.parametrize(
    ("grown", "word"),
    [
        (LOG.replace("56 registers", "57 registers"), "57 registers, the budget is 56"),
        (LOG.replace("0 bytes spill stores", "8 bytes spill stores"), "8 spills, the budget is 0"),
        (LOG.replace("0 bytes stack", "16 bytes stack"), "16 stack, the budget is 0"),
        (LOG.replace("sm_80", "sm_90a"), "compiled, but not in the budget"),
    ],
)
def test_growth_is_named(grown: str, word: str) -> None:
    budget = check_ptxas.read(LOG)
    assert check_ptxas.complaints(check_ptxas.read(grown), budget)
    assert any(word in line for line in check_ptxas.complaints(check_ptxas.read(grown), budget))


def test_shrinking_is_fine() -> None:
    smaller = check_ptxas.read(LOG.replace("56 registers", "40 registers"))
    assert check_ptxas.complaints(smaller, check_ptxas.read(LOG)) == []


@pytest.mark.parametrize(
    ("log", "word"), [(LOG + "C7510: Potential Performance Loss: wgmma.mma_async", "C7510"), ("", "expected ptxas")]
)
def test_serialised_wgmma_and_an_empty_report_fail(log: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    path.write_text(log)
    run = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert word in run.stderr


def test_no_kernel_of_the_budget_spills() -> None:
    kernels = json.loads(check_ptxas.BUDGET.read_text())["kernels"]
    assert kernels
    assert {name for name, usage in kernels.items() if usage["spills"]} == set()
