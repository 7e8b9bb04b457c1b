"""Every activation of the list runs fused behind a Linear, with its own parameters, however a model calls it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fused_gan import FusedLinear, FusedSequential
from fused_gan.nn.fusing import fuse
from fused_gan.nn.fusion_report import fusion_report
from fused_gan.ops import activations
from helpers.left_alone import AROUND, network, reasons, x
from helpers.networks import assert_same_step, operators_run

# Each activation as a module, with parameters that are not torch's defaults where it has some.
MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.3),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(-0.4, 0.6),
    "hardsigmoid": nn.Hardsigmoid,
    "elu": lambda: nn.ELU(0.5),
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(0.5),
    "softplus": lambda: nn.Softplus(3, 0.5),
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
}
every_activation = pytest.mark.parametrize("name", MODULES)
PARAMETERS = [(name, parameter) for name, row in activations.ACTIVATIONS.items() for parameter in row.parameters]


def test_the_table_has_every_activation() -> None:
    assert ["identity", *MODULES] == list(activations.ACTIVATIONS)


# ---- in a Sequential --------------------------------------------------------------------------------------------


@every_activation
def test_in_a_sequential(name: str) -> None:
    stock = nn.Sequential(nn.Linear(5, 5), MODULES[name](), nn.Linear(5, 5), nn.LayerNorm(5)).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [[name, "identity"]]
    assert_same_step(fused, stock, x(), name)
    assert fusion_report(fused).left == []


@every_activation
def test_copies(name: str) -> None:
    fused, inputs = fuse(network(nn.Linear(5, 5), MODULES[name]())), x()
    fused(inputs)
    for twin in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert operators_run(twin, inputs) == [["tanh"], [name], ["sigmoid"]]
        assert torch.equal(twin(inputs), fused(inputs))


def test_every_layer_of_a_chain_has_its_own_parameters() -> None:
    layers = [nn.Linear(5, 5), nn.LeakyReLU(-0.4)]
    for make in (*MODULES.values(), lambda: nn.LeakyReLU(0.1), lambda: nn.ELU(-2.0), lambda: nn.Hardtanh(-2, 1)):
        layers += [nn.Linear(5, 5), make()]
    stock = nn.Sequential(*layers).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["leaky_relu", *MODULES, "leaky_relu", "elu", "hardtanh"]]
    assert_same_step(fused, stock, x(), *MODULES)


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_a_parameter_that_changes_after_fusing(name: str, parameter: str) -> None:
    stock = nn.Sequential(
        nn.Linear(5, 5), MODULES[name](), nn.Linear(5, 5), FusedLinear(5, 5, activation=name)
    ).double()
    fused = fuse(stock)
    for place in (1, 3):
        fused(x())
        for model in (stock, fused):
            setattr(model[place], parameter, getattr(model[place], parameter) + 0.35)
        assert operators_run(fused, x()) == [[name, "identity", name]]
        assert_same_step(fused, nn.Sequential(*copy.deepcopy(stock)), x(), name)


def test_a_gelu_that_changes_after_fusing() -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.GELU()).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["gelu"]]
    fused[1].approximate = stock[1].approximate = "tanh"
    assert operators_run(fused, x()) == [["gelu_tanh"]]
    assert_same_step(fused, stock, x())


def test_a_relu6_whose_bounds_change_after_fusing() -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU6()).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["relu6"]]
    fused[1].max_val = stock[1].max_val = 0.25
    inputs = x()
    assert torch.equal(fused(inputs), stock(inputs))


def test_a_fused_linear_whose_activation_changes_within_a_chain() -> None:
    fused = FusedSequential(nn.Linear(5, 5), nn.Tanh(), FusedLinear(5, 5)).double()
    assert operators_run(fused, x()) == [["tanh", "relu"]]
    fused[2].activation = "elu"
    assert operators_run(fused, x()) == [["tanh", "elu"]]
    fused[2].alpha = 0.3  # an attribute that it did not have
    assert_same_step(fused, nn.Sequential(*copy.deepcopy(fused)), x())
    fused[2].alpha = float("nan")
    with pytest.raises(ValueError, match=r"^alpha: expected a finite number, got nan$"):
        fused(x())
    fused[2].activation = "swish"
    with pytest.raises(ValueError, match=r"^activation: expected one of .* got 'swish'$"):
        fused(x())


def with_attribute(module: nn.Module, name: str, value: float) -> nn.Module:
    setattr(module, name, value)
    return module


def with_buffer(module: nn.Module, name: str, value: float) -> nn.Module:
    delattr(module, name)
    module.register_buffer(name, torch.tensor(value))
    return module


ODD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "alpha is NaN": (lambda: nn.ELU(float("nan")), "its alpha is nan: a finite number is needed"),
    "alpha is a flag": (lambda: nn.CELU(True), "its alpha is True: a finite number is needed"),
    "beta is a tensor": (lambda: nn.Softplus(torch.tensor(2.0)), "its beta is tensor"),  # type: ignore[arg-type]
    "beta is 0": (lambda: nn.Softplus(0.0), "its beta is 0.0: a finite number other than 0 is needed"),
    "threshold is infinite": (lambda: nn.Softplus(1, float("inf")), "its threshold is inf: a finite number is needed"),
    "no upper bound": (lambda: nn.Hardtanh(0, float("inf")), "its max_val is inf: a finite number is needed"),
    "alpha is no float32": (lambda: nn.ELU(1e60), "its alpha is 1e+60: a finite number is needed"),
    "alpha is a buffer": (lambda: with_buffer(nn.ELU(), "alpha", 2.0), "a plain attribute is needed"),
    "other bounds": (lambda: with_attribute(nn.ReLU6(), "max_val", 1.0), "its max_val is 1.0: 6.0 is needed"),
    "elu in place": (lambda: nn.ELU(inplace=True), "its inplace is True: False (in place it keeps one tensor less"),
    "selu in place": (lambda: nn.SELU(inplace=True), "its inplace is True: False (in place it keeps one tensor less"),
    "celu in place": (lambda: nn.CELU(inplace=True), "its inplace is True: False (in place it keeps one tensor less"),
    "a subclass": (type("Gelu", (nn.GELU,), {}), "Gelu is not among the activations that can be fused"),
}


@pytest.mark.parametrize(("make", "reason"), ODD.values(), ids=ODD)
def test_what_the_operators_do_not_take_is_left_alone(make: Callable[[], nn.Module], reason: str) -> None:
    stock = network(nn.Linear(5, 5), make())
    fused, inputs = fuse(stock), x()
    assert operators_run(fused, inputs) == AROUND
    assert reason in reasons(fused)
    torch.testing.assert_close(fused(inputs), stock(inputs), equal_nan=True)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("relu", "tanh", "sigmoid")])
def test_an_output_that_is_overwritten(name: str) -> None:
    """As PyTorch, the operators read these gradients from the pre-activation, which nobody else has."""
    stock = network(nn.Linear(5, 5), MODULES[name](), nn.ReLU(inplace=True))
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["tanh"], [name], ["sigmoid"]]
    assert_same_step(fused, stock, x(), name)


# ---- in a forward of somebody's -----------------------------------------------------------------------------------


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5).double()
        self.alpha, self.kind = 0.4, "tanh"


class Positional(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.fc(x), True)
        x = F.hardtanh(self.fc(x), -0.5, 0.75)
        x = F.hardsigmoid(self.fc(x))
        x = F.elu(self.fc(x), self.alpha, False)
        x = F.selu(self.fc(x))
        x = torch.selu(self.fc(x))
        x = F.celu(self.fc(x), 0.5)
        x = torch.celu(self.fc(x), 0.7)
        x = F.softplus(self.fc(x), 2.0, 0.3)
        x = F.gelu(self.fc(x))
        x = F.silu(self.fc(x), False)
        x = F.mish(self.fc(x))
        return F.leaky_relu(self.fc(x), -0.1)


OF_FUNCTIONS = [
    *("relu6", "hardtanh", "hardsigmoid", "elu", "selu", "selu", "celu", "celu", "softplus", "gelu"),
    *("silu", "mish", "leaky_relu"),
]


class ByKeyword(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.fc(x), inplace=True)
        x = F.hardtanh(self.fc(x), max_val=0.75)
        x = F.hardsigmoid(self.fc(x), inplace=False)
        x = F.elu(self.fc(x), alpha=self.alpha)
        x = F.selu(self.fc(x), inplace=False)
        x = torch.selu(self.fc(x))
        x = F.celu(self.fc(x), inplace=False, alpha=0.5)
        x = torch.celu(self.fc(x), alpha=0.7)
        x = F.softplus(self.fc(x), threshold=0.3)
        x = F.gelu(self.fc(x), approximate="none")
        x = F.gelu(self.fc(x), approximate=self.kind)
        x = F.silu(self.fc(x), inplace=True)
        return F.mish(self.fc(x), inplace=True)


OF_KEYWORDS = [*OF_FUNCTIONS[:10], "gelu_tanh", "silu", "mish"]


@pytest.mark.parametrize(
    ("kind", "names"), [(Positional, OF_FUNCTIONS), (ByKeyword, OF_KEYWORDS)], ids=["positional", "by keyword"]
)
def test_functions(kind: type[nn.Module], names: list[str]) -> None:
    stock = kind()
    fused = fuse(stock, trace=True)
    assert operators_run(fused, x()) == [[name] for name in names]
    assert_same_step(fused, stock, x(), *names)
    assert fusion_report(fused).left == []
    for model in (stock, fused):
        model.alpha = 0.9  # of the elu; the call finds it
    assert_same_step(fused, stock, x(), *names)


class InPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.fc(x), inplace=True)
        x = F.selu(self.fc(x), True)
        return F.celu(self.fc(x), 0.5, True)


def test_functions_that_keep_less_in_place_are_called_themselves() -> None:
    stock = InPlace()
    fused = fuse(stock, trace=True)
    assert operators_run(fused, x()) == []
    assert_same_step(fused, stock, x())


class OfModules(Base):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.act = MODULES[name]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fc(x))


@every_activation
def test_modules_of_a_forward(name: str) -> None:
    stock = OfModules(name)
    fused = fuse(stock, trace=True)
    for twin in (fused, copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert operators_run(twin, x()) == [[name]]
        assert_same_step(twin, stock, x(), name)
    assert fusion_report(fused).left == []


class OddFunctions(Base):
    def __init__(self) -> None:
        super().__init__()
        self.tensor = torch.tensor(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.fc(x), True)
        x = F.leaky_relu(self.fc(x), self.tensor)
        return F.softplus(self.fc(x), 1.0, float("inf")) + F.hardtanh(self.fc(x), -1.0, INFINITE)


INFINITE = float("inf")


def test_functions_with_odd_values_are_called_themselves() -> None:
    stock = OddFunctions()
    fused = fuse(stock, trace=True)
    assert operators_run(fused, x()) == []
    assert_same_step(fused, stock, x())


class Wrong(Base):
    def __init__(self, call: str) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        if self.call == "gelu":
            return F.gelu(self.fc(x), approximate="sometimes")
        if self.call == "tanh":
            return torch.tanh(self.fc(x), inplace=True)
        if self.call == "twice":
            return F.elu(self.fc(x), 1.0, alpha=2.0)
        return F.celu(self.fc(x), 0.0)


@pytest.mark.parametrize("call", ["gelu", "tanh", "twice", "celu"])
def test_calls_that_pytorch_refuses_are_refused_in_its_words(call: str) -> None:
    stock = Wrong(call)
    with pytest.raises((RuntimeError, TypeError)) as theirs:
        stock(x())
    with pytest.raises(type(theirs.value)) as ours:
        fuse(stock, trace=True)(x())
    assert str(ours.value) == str(theirs.value)


# ---- the list -----------------------------------------------------------------------------------------------------


@every_activation
def test_function_and_module_of_a_row_agree_with_torchs_module(name: str) -> None:
    module, row = MODULES[name](), activations.ACTIVATIONS[name]
    found = activations.read_module(module)
    assert isinstance(found, activations.Found)
    assert found.activation == name
    z = torch.linspace(-8, 8, 201)
    assert torch.equal(activations.apply(*found[:1], z, found.parameters), module(z))
    assert repr(activations.make_module(name, found.parameters)) == repr(module)
    assert repr(row.module(**row.parameters, **row.fixed)) == repr(row.module(**row.fixed)), "torch has other defaults"
    assert torch.equal(row.function(z, **row.parameters, **row.fixed), row.function(z, **row.fixed))
