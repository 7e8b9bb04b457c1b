"""Whole networks, forward + backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.cases import CHAIN_BATCHES, CHAINS, Chain, ChainCase
from benchmarks.side_by_side import side_by_side

chains = pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
batches = pytest.mark.parametrize("batch", CHAIN_BATCHES)


@batches
@chains
def bench_chain(benchmark: Any, chain: Chain, batch: int) -> None:
    case = ChainCase(chain, batch, torch.float32)
    side_by_side(benchmark, case.forward_backward(), case.flops)


@batches
@chains
def bench_chain_bfloat16(benchmark: Any, chain: Chain, batch: int) -> None:
    case = ChainCase(chain, batch, torch.bfloat16)
    side_by_side(benchmark, case.forward_backward(), case.flops)
