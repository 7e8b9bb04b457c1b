"""Python's list of activations. A test fails if it differs from the list in csrc/activations.h.

Everything that Python knows of an activation is its row in `ACTIVATIONS`: PyTorch's function and module, the numbers
that they take, and what tells two rows of one function apart. An activation's numbers ("parameters") are a tuple in the
row's order. The operators take four numbers for each layer, one layer after the other, in one list (`flattened`): two
of the activation, and the `Scale` behind it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEFAULT_NEGATIVE_SLOPE = 0.01  # of LeakyReLU, as in torch.nn.LeakyReLU
NONE_GIVEN: Mapping[str, float] = {}
OWN_NUMBERS = 2  # of an activation, as the operators take them; those that it does not have are 0
_FLOAT32 = torch.finfo(torch.float32)  # what most kernels compute in


class Activation(NamedTuple):
    """One activation in plain PyTorch.

    Its function is called as ``function(z, **parameters, **fixed)``, and its module made as ``module(**parameters,
    **fixed)``. The module has an attribute of the name of each argument.
    """

    function: Callable[..., Tensor]
    module: type[nn.Module]
    parameters: dict[str, float]  # names and torch's defaults, in the operators' order
    fixed: dict[str, str]  # arguments that tell this activation from others with the same function
    constants: dict[str, float]  # attributes that the module has, and of which the function is the only case


def _identity(z: Tensor) -> Tensor:
    return z


def _row(
    function: Callable[..., Tensor],
    module: type[nn.Module],
    fixed: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
    **defaults: float,
) -> Activation:
    return Activation(function, module, defaults, dict(fixed or {}), dict(constants or {}))


ACTIVATIONS: dict[str, Activation] = {
    "identity": _row(_identity, nn.Identity),
    "relu": _row(F.relu, nn.ReLU),  # quantize_fx does not know torch.relu
    "leaky_relu": _row(F.leaky_relu, nn.LeakyReLU, negative_slope=DEFAULT_NEGATIVE_SLOPE),
    "tanh": _row(torch.tanh, nn.Tanh),
    "sigmoid": _row(torch.sigmoid, nn.Sigmoid),
    "relu6": _row(F.relu6, nn.ReLU6, constants={"min_val": 0.0, "max_val": 6.0}),  # the module reads its bounds
    "hardtanh": _row(F.hardtanh, nn.Hardtanh, min_val=-1.0, max_val=1.0),
    "hardsigmoid": _row(F.hardsigmoid, nn.Hardsigmoid),
    "elu": _row(F.elu, nn.ELU, alpha=1.0),
    "selu": _row(F.selu, nn.SELU),
    "celu": _row(F.celu, nn.CELU, alpha=1.0),
    "softplus": _row(F.softplus, nn.Softplus, beta=1.0, threshold=20.0),
    "gelu": _row(F.gelu, nn.GELU, {"approximate": "none"}),  # torch's default, so it comes before gelu_tanh
    "gelu_tanh": _row(F.gelu, nn.GELU, {"approximate": "tanh"}),
    "silu": _row(F.silu, nn.SiLU),
    "mish": _row(F.mish, nn.Mish),
}
PARAMETERS = tuple(dict.fromkeys(name for row in ACTIVATIONS.values() for name in row.parameters))

# The names of the rows with each class of modules. ReLU6 inherits from Hardtanh, so a class has to match exactly.
ACTIVATION_MODULES: dict[type[nn.Module], tuple[str, ...]] = {
    row.module: tuple(name for name, other in ACTIVATIONS.items() if other.module is row.module)
    for row in ACTIVATIONS.values()
}

# The names of the rows with each of torch's functions: those of the rows, and others of the same name in `torch`.
ACTIVATION_FUNCTIONS: dict[Any, tuple[str, ...]] = {
    function: tuple(other for other in ACTIVATIONS if ACTIVATIONS[other].function is row.function)
    for name, row in ACTIVATIONS.items()
    if name != "identity"
    for function in (row.function, *(getattr(home, name) for home in (torch, F) if hasattr(home, name)))
}


# In place PyTorch keeps their output alone, which the next layer keeps too. Fused, they keep the pre-activation too.
KEPT_LESS_IN_PLACE = ("elu", "selu", "celu")


class Found(NamedTuple):
    """An activation that a module or a call of a function turned out to be."""

    activation: str
    parameters: tuple[float, ...]  # in the order of the activation's row
    in_place: bool = False  # a LeakyReLU keeps its output then, so nobody may overwrite it, in PyTorch and here


class Scale(NamedTuple):
    """What StyleGAN has behind an activation: a factor, and a bound of the absolute value."""

    gain: float = 1.0
    clamp: float = math.inf


UNSCALED = Scale()
# What a layer has beside its activation's parameters, with the values that change nothing.
IDLE: Mapping[str, float | None] = {"gain": 1.0, "clamp": None, "weight_gain": 1.0}


class Fault(NamedTuple):
    """A parameter that has a wrong value."""

    parameter: str
    expected: str
    got: object


# ---- checks ---------------------------------------------------------------------------------------------------------


def find_activation(activation: object, argument: str = "activation") -> Activation:
    """Return the activation of that name.

    Raises:
        ValueError: the name is unknown; the message says the argument and the known names.
    """
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"{argument}: expected one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    return ACTIVATIONS[activation]


def fault(activation: str, values: Sequence[object]) -> Fault | None:
    """Return what is wrong with the parameters of an activation; None where the operators accept them.

    They accept what PyTorch's functions do for float32, but no NaN, no infinity, and no division by 0.

    Args:
        activation: a name in `ACTIVATIONS`.
        values: the parameters, in the order of its row.
    """
    names = ACTIVATIONS[activation].parameters
    for name, value in zip(names, values, strict=True):
        if not _is_finite(value):
            return Fault(name, "a finite number", value)
        divides = (activation, name) in (("celu", "alpha"), ("softplus", "beta"))
        if divides and abs(value) < _FLOAT32.tiny:  # type: ignore[arg-type]
            return Fault(name, "a finite number other than 0", value)
    if activation == "hardtanh" and values[0] > values[1]:  # type: ignore[operator]
        return Fault("min_val", f"at most max_val ({values[1]!r})", values[0])
    return None


def check_parameters(activations: Sequence[str], negative_slope: object, given: Mapping[str, object]) -> None:
    """Check the parameters that several layers share.

    Args:
        activations: names in `ACTIVATIONS`.
        negative_slope: of each leaky_relu; a number even where there is none.
        given: the other parameters by name.

    Raises:
        TypeError: a parameter is of no activation that exists.
        ValueError: a parameter is of none of these activations, or has a wrong value.
    """
    for name in given:
        if name not in PARAMETERS:
            raise TypeError(f"{name}: expected one of the parameters {', '.join(PARAMETERS)}, got an unknown name")
    for activation in dict.fromkeys(("leaky_relu", *activations)):
        if found := fault(activation, values_of(activation, negative_slope, given)):
            raise ValueError(f"{found.parameter}: expected {found.expected}, got {found.got!r}")
    for name, value in given.items():
        if not any(name in ACTIVATIONS[activation].parameters for activation in activations):
            takers = " or ".join(repr(taker) for taker, row in ACTIVATIONS.items() if name in row.parameters)
            others = ", ".join(map(repr, dict.fromkeys(activations)))
            raise ValueError(
                f"{name}: expected no value without {takers} among the activations {others}, got {value!r}"
            )


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _FLOAT32.max


# ---- parameters -----------------------------------------------------------------------------------------------------


def values_of(activation: str, negative_slope: Any, given: Mapping[str, Any] = NONE_GIVEN) -> tuple[Any, ...]:
    """Return an activation's parameters among those that several layers share; what is not given is torch's default."""
    row = ACTIVATIONS[activation].parameters
    return tuple(
        negative_slope if name == "negative_slope" else given.get(name, default) for name, default in row.items()
    )


def defaults_of(activation: str) -> tuple[float, ...]:
    """Return an activation's parameters as torch's module has them by default."""
    return tuple(ACTIVATIONS[activation].parameters.values())


def make_scale(gain: object, clamp: object) -> Scale:
    """Return the scale of these arguments, of which `clamp` may be None.

    Raises:
        ValueError: one of them has a wrong value.
    """
    if not _is_finite(gain):
        raise ValueError(f"gain: expected a finite number, got {gain!r}")
    if clamp is None:
        return Scale(float(gain))  # type: ignore[arg-type]
    if not _is_finite(clamp) or clamp < 0:  # type: ignore[operator]
        raise ValueError(f"clamp: expected a finite number of at least 0, or None, got {clamp!r}")
    return Scale(float(gain), float(clamp))  # type: ignore[arg-type]


def check_weight_gain(weight_gain: object) -> None:
    """Raise ValueError if a weight's factor is not a finite number."""
    if not _is_finite(weight_gain):
        raise ValueError(f"weight_gain: expected a finite number, got {weight_gain!r}")


def shared_parameters(
    activations: Sequence[str], negative_slope: Any, given: Mapping[str, Any], gain: Any = 1.0, clamp: Any = None
) -> list[float]:
    """Return the operators' list for layers that share their parameters: empty where all are torch's defaults.

    Args:
        activations: one name per layer.
        negative_slope: of each leaky_relu.
        given: the other parameters by name.
        gain, clamp: behind each activation.

    Raises:
        TypeError, ValueError: as `check_parameters` and `make_scale`; an activation is unknown.
    """
    for activation in activations:
        find_activation(activation)
    check_parameters(activations, negative_slope, given)
    layers = ((activation, values_of(activation, negative_slope, given)) for activation in activations)
    return flattened(layers, make_scale(gain, clamp))


def flattened(
    layers: Iterable[tuple[str, tuple[float, ...]]], scale: Scale = UNSCALED, open_end: bool = False
) -> list[float]:
    """Return the operators' list of the layers' activations and parameters: empty where all are torch's defaults.

    Args:
        layers: activation and parameters of each layer.
        scale: behind each of them.
        open_end: whether the last layer's output may be overwritten by others before its gradient is computed, as
            PyTorch allows behind a LeakyReLU. The operators then keep its pre-activation, which takes as much memory as
            PyTorch. Otherwise they keep the output alone. (The gradients of other activations read what PyTorch's do.)
    """
    flat: list[float] = []
    activation, differ = "", scale != UNSCALED
    for activation, values in layers:
        differ = differ or values != defaults_of(activation)
        flat += [*map(float, values), *[0.0] * (OWN_NUMBERS - len(values)), *scale]
    if open_end and activation == "leaky_relu":
        flat[-len(scale) - 1] = 1.0  # leaky_relu's second number is this mark
        return flat
    return flat if differ else []


# ---- PyTorch's functions and modules --------------------------------------------------------------------------------


def apply(activation: str, z: Tensor, values: Sequence[float], scale: Scale = UNSCALED) -> Tensor:
    """Return the activation of z by PyTorch's function, with these parameters, in z's shape, dtype and device."""
    row = ACTIVATIONS[activation]
    y = row.function(z, **dict(zip(row.parameters, values, strict=True)), **row.fixed)
    if scale.gain != 1:
        y = y * scale.gain
    return y if scale.clamp == math.inf else y.clamp(-scale.clamp, scale.clamp)


def make_module(activation: str, values: Sequence[float]) -> nn.Module:
    """Return PyTorch's module for an activation with these parameters."""
    row = ACTIVATIONS[activation]
    module = row.module(**row.fixed)
    # As attributes, because nn.Hardtanh refuses to be made with equal bounds, which its function accepts.
    for name, value in zip(row.parameters, values, strict=True):
        setattr(module, name, value)
    return module


def read_module(module: nn.Module) -> Found | Fault:
    """Return the activation of a module whose class is in `ACTIVATION_MODULES`, or what the operators do not take."""
    own, names = vars(module), ACTIVATION_MODULES[type(module)]
    row = ACTIVATIONS[names[0]]
    for name in (*row.parameters, *row.fixed):
        if name not in own:  # deleted, or a buffer or parameter now
            return Fault(name, "a plain attribute", getattr(module, name, None))
    for name, value in row.constants.items():
        if own.get(name) != value:
            return Fault(name, repr(value), own.get(name))
    return _read(names, own)


def read_call(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Found | Fault | None:
    """Return the activation that a call of a function on z is, or what the operators do not take.

    Args:
        function: what is called.
        args, kwargs: its arguments behind z.

    Returns:
        None for a function that is not in `ACTIVATION_FUNCTIONS`, or does not take these arguments.
    """
    names = ACTIVATION_FUNCTIONS.get(function)
    if names is None:
        return None
    positional, by_name = _SIGNATURES[function]
    given = dict(zip(positional, args, strict=False)) | dict(kwargs)
    if len(args) > len(positional) or len(given) < len(args) + len(kwargs) or not given.keys() <= by_name:
        return None
    return _read(names, given)


def _read(names: tuple[str, ...], given: Mapping[str, Any]) -> Found | Fault:
    """Return which of the activations it is by the arguments given, or the attributes; what is missing is default."""
    fixed = ACTIVATIONS[names[0]].fixed
    for argument, default in fixed.items():
        wanted = given.get(argument, default)
        known = {ACTIVATIONS[name].fixed[argument]: name for name in names}
        if not isinstance(wanted, str) or wanted not in known:
            return Fault(argument, " or ".join(map(repr, known)), wanted)
        names = (known[wanted],)
    if names[0] in KEPT_LESS_IN_PLACE and given.get("inplace"):
        return Fault("inplace", "False (in place it keeps one tensor less than fused)", given["inplace"])
    values = tuple(given.get(name, default) for name, default in ACTIVATIONS[names[0]].parameters.items())
    return fault(names[0], values) or Found(names[0], values, bool(given.get("inplace")))


def _signature(function: Any) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of a function's arguments behind z: those that may be positional, and all.

    A function in C++ has no signature to be read. It takes the row's parameters in their order, the fixed argument by
    name alone, and no `inplace`.
    """
    try:
        _, *names = inspect.signature(function).parameters
    except ValueError:
        row = ACTIVATIONS[ACTIVATION_FUNCTIONS[function][0]]
        return tuple(row.parameters), frozenset((*row.parameters, *row.fixed))
    return tuple(names), frozenset(names)


_SIGNATURES = {function: _signature(function) for function in ACTIVATION_FUNCTIONS}
