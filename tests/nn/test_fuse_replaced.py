"""What is put into a fused container between calls is what runs, as in stock."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import fused_gan


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())


class Equal(nn.Linear):
    """A Linear that calls each other one of its sizes equal, as a value type would."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, nn.Linear) and other.weight.shape == self.weight.shape

    __hash__ = nn.Linear.__hash__


def test_a_module_that_says_it_equals_the_one_before_it_is_run() -> None:
    model = fused_gan.fuse(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Equal(8, 4), nn.Tanh()))
    x = torch.randn(3, 6)
    model(x)
    other = Equal(8, 4)
    assert other == model[2]
    model[2] = other
    expected = torch.tanh(other(torch.relu(model[0](x))))
    torch.testing.assert_close(model(x), expected)
    model(x).sum().backward()
    assert other.weight.grad is not None, "the new module is what trains"


def test_a_sparse_weight_put_in_after_a_call_runs_as_in_stock() -> None:
    stock = network()
    fused = fused_gan.fuse(copy.deepcopy(stock))
    x = torch.randn(3, 6)
    fused(x)
    sparse = stock[0].weight.detach().to_sparse_csr()
    for model in (stock, fused):
        model[0].weight = nn.Parameter(sparse.clone(), requires_grad=False)
    torch.testing.assert_close(fused(x), stock(x))
    for model in (stock, fused):
        model[0].weight = nn.Parameter(sparse.to_dense())
    torch.testing.assert_close(fused(x), stock(x))


def test_a_weight_of_one_dimension_put_in_after_a_call_runs_as_in_stock() -> None:
    stock = nn.Sequential(nn.Linear(6, 1, bias=False), nn.ReLU())
    fused = fused_gan.fuse(copy.deepcopy(stock))
    x = torch.randn(3, 6)
    assert fused(x).shape == (3, 1)
    for model in (stock, fused):
        model[0].weight = nn.Parameter(torch.ones(6))
    assert fused(x).shape == stock(x).shape == (3,)
    torch.testing.assert_close(fused(x), stock(x))


@pytest.mark.parametrize("wrong", [torch.zeros(3, 5), torch.zeros(3, 6, dtype=torch.float64)], ids=["width", "dtype"])
def test_whoever_catches_what_stock_raises_catches_what_fused_raises(wrong: Tensor) -> None:
    layer = fused_gan.FusedLinear(6, 4)
    for model in (network(), fused_gan.fuse(network()), layer, lambda x: fused_gan.linear_act(x, layer.weight)):
        with pytest.raises(RuntimeError):
            model(wrong)
    kind = TypeError if wrong.dtype == torch.float64 else ValueError
    with pytest.raises(kind, match=r"^(weights\[0\]|weight|input)"):
        fused_gan.fuse(network())(wrong)
