"""Makes the tensors that a product is measured on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fused_gan.ops.activations import shared_parameters
from fused_gan.ops.cuda_plan import Product


class Operands(NamedTuple):
    """One set of tensors for a product: a (rows, depth), b (columns, depth) or (depth, columns), bias or y below."""

    a: Tensor
    b: Tensor
    bias: Tensor
    below: Tensor

    def run(self, direction: str, weight_gradient: bool) -> None:
        """Run the operator that does the product and as little else as it can; backward may add the weight gradient."""
        if direction == "forward":
            torch.ops.fused_gan.linear_act(self.a, self.b, self.bias, "leaky_relu", _parameters("leaky_relu"))
            return
        # The upper layer's step in a chain of two. Of the lower layer only the bias gradient is computed.
        rows, columns = self.below.shape
        torch.ops.fused_gan.mlp_backward(
            self.a,
            [self.below],
            [],
            self.below.new_empty(rows, 1),
            [self.below.new_empty(columns, 1), self.b],
            ["leaky_relu", "identity"],
            _parameters("leaky_relu", "identity"),
            False,
            [False, weight_gradient],
            [True, False],
        )


def _parameters(*activations: str) -> list[float]:
    return shared_parameters(activations, 0.2, {})


def rotation(product: Product, dtype: torch.dtype, device: str, cache_bytes: int, most: int) -> list[Operands]:
    """Return at most `most` sets of operands, enough that each has left a cache of `cache_bytes` before its turn."""
    direction, rows, columns, depth = product.direction, product.rows, product.columns, product.depth

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, device=device).mul_(sizes[-1] ** -0.5).to(dtype)

    def operands() -> Operands:
        b = random(columns, depth) if direction == "forward" else random(depth, columns)
        return Operands(random(rows, depth), b, random(columns), random(rows, columns))

    first = operands()
    size = sum(tensor.nbytes for tensor in first)
    return [first, *(operands() for _ in range(min(most, cache_bytes // max(size, 1) + 1) - 1))]
