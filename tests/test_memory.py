"""A chain's forward and backward need no more memory at their peak than stock PyTorch's.

Counted allocation by allocation (benchmarks/memory.py), so that nothing here depends on the machine or on what ran
before.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import CHAINS, Chain, ChainCase
from benchmarks.memory import peak_memory


@pytest.mark.xfail(reason="inner outputs are held until the last gradient is done, scratch memory beyond that")
@pytest.mark.parametrize("batch", [64, 256, 1024])
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_peak_of_a_chain(chain: Chain, batch: int) -> None:
    variants = ChainCase(chain, batch, torch.float32).forward_backward()
    ours, stock = peak_memory(variants["fused_gan"]), peak_memory(variants["eager"])
    assert ours <= stock, f"{ours:,} bytes, stock {stock:,}"


def test_the_peak_is_what_is_held_at_a_time() -> None:
    """So that the measure itself is measured: freed memory does not count, memory that is handed back does."""

    def call() -> torch.Tensor:
        torch.empty(1000, dtype=torch.uint8)
        torch.empty(3000, dtype=torch.uint8)
        return torch.empty(2000, dtype=torch.uint8)

    assert peak_memory(call) == 3000
    kept: list[torch.Tensor] = []
    assert peak_memory(lambda: kept.extend(call() for _ in range(2))) == 5000
