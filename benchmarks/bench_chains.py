"""Whole networks, forward + backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.cases import BATCHES, CHAINS, POINTWISE_CHAINS, Chain, ChainCase
from benchmarks.memory import peak_memory
from benchmarks.side_by_side import side_by_side

chains = pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
batches = pytest.mark.parametrize("batch", BATCHES)
pointwise_chains = pytest.mark.parametrize("chain", POINTWISE_CHAINS, ids=lambda chain: chain.name)


def bench(benchmark: Any, case: ChainCase) -> None:
    variants = case.forward_backward()
    memory = {name: peak_memory(variants[name]) for name in ("fused_gan", "eager")}
    side_by_side(benchmark, variants, case.flops, case.traffic, case.dtype, memory=memory)


@batches
@chains
def bench_chain(benchmark: Any, chain: Chain, batch: int) -> None:
    bench(benchmark, ChainCase(chain, batch, torch.float32))


@batches
@chains
def bench_chain_bfloat16(benchmark: Any, chain: Chain, batch: int) -> None:
    bench(benchmark, ChainCase(chain, batch, torch.bfloat16))


@batches
@chains
def bench_chain_float16(benchmark: Any, chain: Chain, batch: int) -> None:
    bench(benchmark, ChainCase(chain, batch, torch.float16))


@pytest.mark.parametrize("batch", [64, 256, 1024])
@pointwise_chains
def bench_pointwise_chain(benchmark: Any, chain: Chain, batch: int) -> None:
    bench(benchmark, ChainCase(chain, batch, torch.float32))
