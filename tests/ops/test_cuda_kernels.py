"""The CUDA kernels compute the right thing, executed on a CPU.

nvcc compiles them to PTX, and a CUDA runtime for CPUs (its folder is named by FUSED_GAN_CUDACPU) interprets that under
its checks of bounds, initialisation and races. tests/cuda/test_pointwise.cpp and test_product.cpp hold the comparisons.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from helpers.cuda_programs import ROOT, build, execute, find_cuda_home, find_cutlass

NOT_EXECUTED = "the CUDA kernels were not executed: "

# The settings of one run: which PTX runs, what is checked, in which order warps and blocks run.
RACES = {"RACECHECK": "1", "INITCHECK": "shared"}
SM_90 = {"CAPABILITY": "90"}
POINTWISE_RUNS = {
    "sm_80": {},
    "sm_90a": SM_90,
    "initialisation": {"INITCHECK": "1"},
    "races and shared initialisation": RACES,
    "random order 1": RACES | {"SCHEDULE_SEED": "1"},
    "random order 2": RACES | {"SCHEDULE_SEED": "2"},
    "random order 3, sm_90a": RACES | SM_90 | {"SCHEDULE_SEED": "3"},
}
PRODUCT_RUNS = {
    "in order": {},
    # Copies land as early as they may: what overwrites a stage that is still read shows here.
    "early copies, random order": {"CPASYNC": "early", "SCHEDULE_SEED": "1"},
    "races and shared initialisation, random order": RACES | {"SCHEDULE_SEED": "2"},
}


@pytest.fixture(scope="module")
def runtime() -> str:
    folder = os.environ.get("FUSED_GAN_CUDACPU")
    if not folder:
        pytest.skip(NOT_EXECUTED + "FUSED_GAN_CUDACPU does not name the folder of a CUDA runtime for CPUs")
    return folder


@pytest.fixture(scope="module")
def cuda_home() -> Path:
    home = find_cuda_home()
    if home is None:
        pytest.skip(NOT_EXECUTED + "no CUDA toolkit with nvcc in CUDA_HOME, PATH or /usr/local/cuda")
    return home


def test_pointwise_kernels_match_the_reference_and_repeat_bit_for_bit(runtime: str, cuda_home: Path) -> None:
    program = build("test_pointwise", cuda_home, runtime, find_cutlass())
    fingerprints = {}
    for name, settings in POINTWISE_RUNS.items():
        printed = execute([program], settings)
        found = re.search(r"^\d+ plans and (\d+) tensors, 0 failures\nbias gradients (\w+)$", printed, re.MULTILINE)
        assert found, printed
        assert int(found[1]) > 4000, printed
        fingerprints[name] = found[2]
    assert len(set(fingerprints.values())) == 1, fingerprints


def product_results(program: Path, precision: str, settings: dict[str, str]) -> tuple[int, str]:
    """How many tensors were compared, and the fingerprint of all results."""
    printed = execute([program, precision], settings)
    found = re.search(r"^(\d+) tensors, 0 failures\nresults (\w+)$", printed, re.MULTILINE)
    assert found, printed
    return int(found[1]), found[2]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32", "float32"])
def test_products_match_the_reference_and_repeat_bit_for_bit(precision: str, runtime: str, cuda_home: Path) -> None:
    """The kernels of sm_80, in both directions, whatever tile, activation, alignment and number of parts."""
    program = build("test_product", cuda_home, runtime, find_cutlass())
    results = {name: product_results(program, precision, settings) for name, settings in PRODUCT_RUNS.items()}
    assert len(set(results.values())) == 1, results
    assert min(tensors for tensors, _ in results.values()) > 300


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32"])
def test_products_of_hopper_match_the_reference(precision: str, runtime: str, cuda_home: Path) -> None:
    """The wgmma kernels beside those of sm_80, as a device of capability 9.0 runs them."""
    cutlass = find_cutlass()
    if cutlass is None:
        pytest.skip(NOT_EXECUTED + "no CUTLASS headers (CUTLASS_PATH, or pip install --no-deps nvidia-cutlass)")
    program = build("test_product", cuda_home, runtime, cutlass)
    for source in (ROOT / "csrc" / "cuda").glob("wgmma_*.cu"):
        assert b"wgmma.mma_async" in (program.parent / f"{source.stem}.o").read_bytes(), source.name
    in_order, other = (product_results(program, precision, SM_90 | order) for order in ({}, {"SCHEDULE_SEED": "3"}))
    assert in_order == other
    older, _ = product_results(program, precision, {})
    assert in_order[0] >= older + 20  # that many more tensors come from wgmma


@pytest.mark.skipif(
    os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 10 << 30,
    reason=NOT_EXECUTED + "a machine with 10 GB of memory is wanted, as 4.3 GB are filled",
)
@pytest.mark.parametrize("words", [["test_pointwise", "far"], ["test_product", "far", "bfloat16"]], ids=lambda w: w[0])
def test_offsets_beyond_two_to_the_31_elements(words: list[str], runtime: str, cuda_home: Path) -> None:
    """Rows so far apart that no 32-bit number reaches the last one, in every operand of every kernel."""
    program = build(words[0], cuda_home, runtime, find_cutlass())
    found = re.search(r"(\d+) tensors, 0 failures", execute([program, *words[1:]], SM_90))
    assert found
    assert int(found[1]) >= 4


def test_plan_and_arithmetic(cuda_home: Path) -> None:
    for cutlass in (None, find_cutlass()):
        printed = execute([build("test_plan", cuda_home, cutlass=cutlass)], {})
        assert re.search(r"^\d{4,} checks, 0 failures$", printed, re.MULTILINE), printed
