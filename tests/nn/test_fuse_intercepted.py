"""Somebody who stands between modules and operators sees, and may change, what he sees and changes in stock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fused_gan


class Written(nn.Module):
    """A module whose forward calls the activation on the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(x))


def sequential() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 4), nn.Tanh()))


class Doubled(TorchFunctionMode):
    """Doubles what F.linear gives, and notes the functions that it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        result = func(*args, **(kwargs or {}))
        return 2 * result if func is F.linear else result


class Operators(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """The classes of the modules that are called, noted by a replaced ``nn.Module.__call__``."""
    called: list[str] = []
    stock = nn.Module.__call__

    def noting(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        called.append(type(self).__name__)
        return stock(self, *args, **kwargs)

    nn.Module.__call__ = noting  # type: ignore[method-assign]
    yield called
    nn.Module.__call__ = stock  # type: ignore[method-assign]


models = pytest.mark.parametrize(
    ("make", "trace"), [(sequential, False), (Written, True)], ids=["sequential", "forward"]
)


@models
def test_a_function_mode_changes_what_it_changes_in_stock(make: Callable[[], nn.Module], trace: bool) -> None:
    stock, x = make(), torch.randn(3, 6)
    fused = fused_gan.fuse(stock, trace=trace)
    fused(x)
    with Doubled() as of_stock:
        expected = stock(x)
    with Doubled() as of_fused:
        got = fused(x)
    assert torch.equal(got, expected)
    assert of_fused.seen == of_stock.seen
    assert not torch.equal(expected, stock(x)), "the mode changes something"


@models
def test_a_replaced_call_sees_each_module(calls: list[str], make: Callable[[], nn.Module], trace: bool) -> None:
    stock, x = make(), torch.randn(3, 6)
    fused = fused_gan.fuse(stock, trace=trace)
    stock(x)
    seen, calls[:] = list(calls), []
    fused(x)
    assert [name.removeprefix("Fused") for name in calls] == seen


@models
def test_a_default_device_leaves_the_layers_fused(make: Callable[[], nn.Module], trace: bool) -> None:
    fused, x = fused_gan.fuse(make(), trace=trace), torch.randn(3, 6)
    with torch.device("cpu"), Operators() as ran:
        fused(x)
    assert any(name.startswith("fused_gan.") for name in ran.names)


class Raised(TorchFunctionMode):
    """Adds 1 to what relu gives."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result + 1 if func in (torch.relu, F.relu) else result


@models
def test_a_function_mode_changes_a_compiled_model_too(make: Callable[[], nn.Module], trace: bool) -> None:
    stock, x = make(), torch.randn(3, 6)
    fused = torch.compile(fused_gan.fuse(stock, trace=trace), backend="eager")
    torch.testing.assert_close(fused(x), stock(x))
    with Raised():
        expected = torch.compile(stock, backend="eager")(x)
        torch.testing.assert_close(fused(x), expected)
    assert not torch.equal(expected, stock(x)), "the mode changes something"


class Refusing(TorchDispatchMode):
    """Raises an error of its own kind."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise json.JSONDecodeError("refused", "document", 0)


def test_an_error_of_somebody_else_comes_through_as_it_is() -> None:
    with Refusing(), pytest.raises(json.JSONDecodeError, match="refused"):
        fused_gan.linear_act(torch.ones(2, 3), torch.ones(4, 3))
