"""A container that is more than nn.Sequential runs on as it is, fused inside or not at all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from fused_gan.nn.fusing import fuse
from helpers.left_alone import reasons, x
from helpers.networks import assert_same_step, one_process, operators_run


class Reversed(nn.Sequential):
    """A Sequential with a forward of its own, which indexes."""

    def forward(self, input: Tensor) -> Tensor:
        for index in reversed(range(len(self))):
            input = self[index](input)
        return input


class Shuffled(nn.Sequential):
    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(list(super().__iter__())[::-1])


class Called(nn.Sequential):
    def __call__(self, input: Tensor) -> Tensor:
        return super().__call__(input) * 2


@pytest.mark.parametrize("kind", [Reversed, Shuffled])
def test_kind_of_sequential_that_runs_otherwise(kind: type[nn.Sequential]) -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), kind(nn.Linear(5, 5), nn.ReLU())).double()
    fused = fuse(stock)
    assert type(fused[2]) is kind
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["tanh"]]
    assert "forward of its own" in reasons(fused)


def test_nested_sequential_that_gets_another_class() -> None:
    stock = nn.Sequential(nn.Sequential(nn.Linear(5, 5), nn.Tanh()), nn.Linear(5, 5), nn.ReLU()).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["tanh", "relu"]]
    for model in (stock, fused):
        model[0].__class__ = Reversed
    inputs = x()
    torch.testing.assert_close(fused(inputs), stock(inputs))


def test_container_with_a_call_of_its_own() -> None:
    stock = Called(nn.Linear(5, 5), nn.ReLU()).double()
    assert type(fuse(stock)) is Called
    assert_same_step(fuse(stock), stock, x())
    assert "__call__" in reasons(stock)


def test_container_whose_forward_was_replaced() -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU()).double()
    stock.forward = lambda input: stock[0](input)
    assert type(fuse(stock, inplace=True)) is nn.Sequential
    assert "its forward was replaced" in reasons(stock)


class Registry(nn.Sequential):
    known: list[type] = []  # noqa: RUF012  (a registry, as people write them)

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        Registry.known.append(cls)


def test_container_that_registers_its_subclasses() -> None:
    assert type(fuse(Registry(nn.Linear(5, 5), nn.ReLU()))) is Registry
    assert Registry.known == []


class Reduced(nn.Sequential):
    def __reduce__(self) -> tuple[object, ...]:
        return Reduced, (nn.Linear(5, 5), nn.ReLU())


def test_container_with_a_pickle_of_its_own() -> None:
    assert type(fuse(Reduced(nn.Linear(5, 5), nn.ReLU()))) is Reduced


class Features(nn.Module):
    """Indexes and slices its Sequential, and runs a layer that another parent holds, too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh())
        self.first = self.body[0]
        self.view = self.body[:2]

    def forward(self, input: Tensor) -> Tensor:
        linear = self.body[0](input)
        both = self.body[2:](self.view(input))
        return linear + self.first(input) + both + self.body(input)


def test_container_that_is_indexed_sliced_and_shared() -> None:
    stock = Features().double()
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert fused.first is fused.body[0] is fused.view[0]
    assert operators_run(fused, x()) == [["relu"], ["tanh"], ["relu", "tanh"]]


def test_sharded_by_fsdp2_before() -> None:
    inputs = torch.randn(6, 5)
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh())
    model = copy.deepcopy(stock)
    with one_process() as mesh:
        fully_shard(model[0], mesh=mesh)
        fuse(model, inplace=True)  # the container is not sharded yet
        fully_shard(model, mesh=mesh)
        kind = type(model)
        assert type(fuse(model, inplace=True)) is kind
        assert operators_run(model, inputs) == [["tanh"]]
        torch.testing.assert_close(model(inputs), stock(inputs))


def test_container_sharded_before() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    with one_process() as mesh:
        fully_shard(model, mesh=mesh)
        kind = type(model)
        assert type(fuse(model, inplace=True)) is kind
        assert "fuse first" in reasons(model)


class Hundredfold(nn.Sequential):
    def __call__(self, input: Tensor) -> Tensor:
        return 100 * super().__call__(input)


def test_nested_container_with_a_call_of_its_own() -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), Hundredfold(nn.Linear(5, 5), nn.Tanh())).double()
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["relu"]]
    assert "__call__" in reasons(fused)
