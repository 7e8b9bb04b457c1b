"""What fuse() does to classes: others find them by their names, and their registries are left alone."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fused_gan.nn import FusedLinear, FusedSequential
from fused_gan.nn.fusing import fuse, unfuse
from fused_gan.nn.fusion_report import fusion_report
from helpers.networks import operators_run


def x() -> Tensor:
    return torch.randn(3, 5)


class Block(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.block = nn.Linear(5, 5), Block()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.body(F.relu(self.fc(x))))


def names(model: nn.Module) -> list[tuple[str, str, str]]:
    return [(type(m).__name__, type(m).__qualname__, type(m).__module__) for m in model.modules()]


def test_classes_keep_their_names() -> None:
    """Sharding policies and device maps look for classes by name."""
    stock = Net()
    fused = fuse(stock, trace=True)
    assert operators_run(fused, x()) == [["relu"], ["relu"], ["relu", "tanh"]]
    assert names(fused) == names(stock)
    assert isinstance(fused.body, FusedSequential)
    assert repr(fused) != repr(stock), "what is fused should be seen"
    assert names(pickle.loads(pickle.dumps(fused))) == names(stock)
    assert repr(unfuse(fused)) == repr(stock)


class Registry(type):
    """Keeps each class by its name, and refuses a name that it has."""

    known: ClassVar[dict[str, type]] = {}

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> None:
        super().__init__(name, bases, body)
        if name in Registry.known:
            raise KeyError(f"{name} was registered already")
        Registry.known[name] = cls


class Registered(nn.Sequential, metaclass=Registry):
    pass


class Abstract(ABC, nn.Sequential):
    @abstractmethod
    def name(self) -> str: ...


class Concrete(Abstract):
    def name(self) -> str:
        return "concrete"


def layers() -> list[nn.Module]:
    return [nn.Linear(5, 5), nn.ReLU()]


def test_a_metaclass_that_registers_classes_is_left_alone_and_reported() -> None:
    model = fuse(Registered(*layers()))
    assert type(model) is Registered
    assert Registry.known == {"Registered": Registered}
    [site] = fusion_report(model)
    assert site.reason == "Registered keeps watch over its subclasses"


def test_an_abstract_base_class_is_no_obstacle() -> None:
    fused = fuse(Concrete(*layers()))
    assert operators_run(fused, x()) == [["relu"]]
    assert fused.name() == "concrete"


Kind = TypeVar("Kind")


class OfType(nn.Sequential, Generic[Kind]):
    pass


def test_a_generic_class_is_no_obstacle() -> None:
    for model in (OfType(*layers()), OfType[int](*layers())):
        fused = fuse(model)
        assert isinstance(fused, OfType)
        assert operators_run(fused, x()) == [["relu"]]


def test_an_activation_behind_a_fused_linear_is_not_its_activation() -> None:
    [site] = fusion_report(FusedSequential(FusedLinear(5, 5, activation="tanh"), nn.ReLU()))
    assert (site.what, site.fused) == ("0 FusedLinear, tanh", True)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Unknown(nn.Module):
    """Activations that cannot be fused, in each way in which a forward can call them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fcs = nn.Linear(5, 5), nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        self.act, self.norm, self.function = nn.Hardswish(), nn.LayerNorm(5), swish

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.fc(x))
        x = self.fc(x)
        x = F.softsign(x)
        x = self.act(self.fc(x))
        for fc in self.fcs:
            x = self.function(fc(x))
        x = swish(self.fc(x))
        x = F.dropout(self.fc(x), 0.5, self.training)
        return self.norm(self.fc(x))


@pytest.mark.parametrize("prepare", [lambda m: m, lambda m: fuse(m, trace=True)], ids=["stock", "fused"])
def test_activations_that_are_not_known_are_reported(prepare: Callable[[nn.Module], nn.Module]) -> None:
    report = fusion_report(prepare(Unknown()))
    assert [(site.what, site.fused) for site in report] == [
        ("self.fc → F.hardswish", False),
        ("self.fc → F.softsign", False),
        ("self.fc → self.act", False),
        ("fc → self.function", False),
        ("self.fc → swish", False),
    ]
    assert {site.reason.removesuffix(" is not among the activations that can be fused") for site in report} == {
        "torch.nn.functional.hardswish",
        "torch.nn.functional.softsign",
        "Hardswish",
        f"{__name__}.swish",
    }
