"""On a GPU: the benchmark's timing runs whole, both ways, on cases that are quick enough for a test. What it finds is
no business of a test."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

import fused_gan

if not torch.cuda.is_available() or fused_gan.build_info()["cuda"] is None:
    pytest.skip("no GPU, or a build without CUDA", allow_module_level=True)

from benchmarks.cases import CHAINS, LAYERS
from benchmarks.gpu import bench, timing
from benchmarks.gpu.cases import PRECISIONS, Case, chain_training, layer_forward


@pytest.fixture(autouse=True)
def few_and_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(timing, "GRAPH_CALLS", 2)
    monkeypatch.setattr(timing, "STREAM_SECONDS", 1e-4)
    monkeypatch.setattr(timing.seconds, "__defaults__", (2,))
    monkeypatch.setattr(timing.peak, "__defaults__", (64,))
    monkeypatch.setattr(timing, "cache_bytes", lambda: 2**20)
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    "case",
    [
        *(layer_forward(LAYERS[0], 16, precision) for precision in PRECISIONS),
        *(chain_training(CHAINS[-1], 8, precision) for precision in PRECISIONS[:2]),
    ],
    ids=lambda case: case.name,
)
def test_a_case_is_measured_both_ways(case: Case) -> None:
    *_, record = bench.measure(case, (), {}, math.inf)
    for way in timing.WAYS:
        found = record[way]
        assert found["median"].keys() == {"fused_gan", "eager", "floor"}
        assert found["ratio"].keys() == {"eager", "floor"}
        assert not found["failed"]
        assert not found["not_run"]
    assert bench.table([record]).count(case.name) == 2
