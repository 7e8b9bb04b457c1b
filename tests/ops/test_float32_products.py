"""float32 as three tf32 products is as exact as float32, though tensor cores truncate: because sums are promoted.

The runtime that executes the kernels on a CPU adds exactly where a tensor core truncates, so this error is simulated:
the scheme of csrc/cuda/mma.cuh, with sums cut off to the 24 bits of float32 after each instruction's eight products.
"""

from __future__ import annotations

import numpy as np
import pytest

ROWS = 48
INSTRUCTION, STAGE = 8, 32  # of the depth: what one mma.sync adds up, and after how much partial sums are promoted


def tf32(values: np.ndarray) -> np.ndarray:
    """float32 to tf32, to nearest, ties away from zero (cvt.rna)."""
    return ((values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def truncated(values: np.ndarray) -> np.ndarray:
    """float64 cut off, not rounded, to the 24 bits of float32."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.trunc(np.ldexp(mantissa, 24)), exponent - 24)


def three_products(a: np.ndarray, b: np.ndarray, promoted: bool) -> np.ndarray:
    """a (rows, depth) · b (depth, columns), both float32, as the kernel does it, or without promoting."""
    big_a, big_b = tf32(a), tf32(b)
    small_a, small_b = tf32(a - big_a), tf32(b - big_b)
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    partial = np.zeros_like(total, dtype=np.float64)
    for k in range(0, a.shape[1], INSTRUCTION):
        for left, right in ((small_a, big_b), (big_a, small_b), (big_a, big_b)):
            exact = left[:, k : k + INSTRUCTION].astype(np.float64) @ right[k : k + INSTRUCTION].astype(np.float64)
            partial = truncated(partial + exact)
        if promoted and (k + INSTRUCTION) % STAGE == 0:
            total += partial.astype(np.float32)
            partial[:] = 0
    return total if promoted else partial.astype(np.float32)


def serial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What stock's ordinary float32 units do: one product after the other, each sum rounded."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        # Exact in float64, rounded once: a fused multiply-add.
        total = (total + a[:, k : k + 1].astype(np.float64) * b[k : k + 1].astype(np.float64)).astype(np.float32)
    return total


def errors(depth: int, positive: bool) -> tuple[float, float, float, float]:
    """Norms of the errors of the scheme, of the scheme without promotion and of serial sums, and of the truth."""
    generator = np.random.default_rng(depth)
    a = generator.standard_normal((ROWS, depth)).astype(np.float32)
    b = generator.standard_normal((depth, ROWS)).astype(np.float32)
    if positive:  # as behind a ReLU
        a, b = np.abs(a), np.abs(b)
    truth = a.astype(np.float64) @ b.astype(np.float64)
    results = three_products(a, b, True), three_products(a, b, False), serial(a, b)
    ours, unpromoted, stock = (float(np.linalg.norm(result - truth)) for result in results)
    return ours, unpromoted, stock, float(np.linalg.norm(truth))


@pytest.mark.parametrize("positive", [False, True], ids=["zero mean", "positive"])
@pytest.mark.parametrize("depth", [32, 256, 1024, 4096])
def test_within_the_tolerance_rule(depth: int, positive: bool) -> None:
    ours, _, stock, size = errors(depth, positive)
    assert ours <= 2 * stock + 4 * np.finfo(np.float32).eps * size
    assert ours <= 2 * stock or depth < 256  # without the rule's allowance, too


def test_promotion_is_what_makes_it_so() -> None:
    ours, unpromoted, stock, size = errors(4096, positive=True)
    assert ours < stock
    assert unpromoted > 2 * stock + 4 * np.finfo(np.float32).eps * size
