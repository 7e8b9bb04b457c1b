"""The operators as functions: thin calls into `torch.ops.fused_gan`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _is_torch_function_mode_enabled
from torch._C import _is_tracing as is_tracing  # torch.jit.is_tracing only calls this function, and takes longer
from torch.compiler import is_dynamo_compiling
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from fused_gan.ops import reference
from fused_gan.ops.activations import DEFAULT_NEGATIVE_SLOPE, shared_parameters
from fused_gan.ops.library import DTYPES, FACTS

PLAIN = (Tensor, nn.Parameter)
_DEVICES = ("cpu", "meta", "cuda") if FACTS["cuda"] else ("cpu", "meta")


class ArgumentValueError(ValueError, RuntimeError):
    """A shape, activation or parameter is wrong. Stock raises RuntimeError for a wrong shape, so it is this too."""


class ArgumentTypeError(TypeError, RuntimeError):
    """A dtype or layout is wrong. Stock raises RuntimeError for a wrong dtype, so it is this too."""


# Looked up once, because the time of a look-up is noticeable on small layers.
_linear_act = torch.ops.fused_gan.linear_act.default
_mlp = torch.ops.fused_gan.mlp.default


def is_recorded() -> bool:
    """Whether torch.export or torch.jit.trace records a program, which has to run without this package."""
    # torch.compiler.is_exporting() returns this flag alone, but torch.compile of torch 2.11 takes the function as true.
    exporting: bool = torch.compiler._is_exporting_flag
    return exporting or (not is_dynamo_compiling() and is_tracing())


def is_intercepted() -> bool:
    """Whether a `TorchFunctionMode` gets to see each call of one of torch's functions, and may change it.

    The mode of ``torch.device`` as a context and of ``torch.set_default_device`` does not count: it changes nothing but
    where new tensors are made.
    """
    # Quicker than the stack, and nothing that Dynamo knows.
    if not is_dynamo_compiling() and not _is_torch_function_mode_enabled():
        return False
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(type(mode) is not DeviceContext for mode in modes)


def is_plain(tensor: Any) -> bool:
    """Whether a tensor is not a subclass (DTensor, quantised, fx.Proxy), not sparse and not nested."""
    return type(tensor) in PLAIN and tensor.layout is torch.strided and not tensor.is_nested


def is_supported(input: Any) -> bool:
    """Whether the operators accept this input."""
    return is_plain(input) and input.dtype in DTYPES and input.device.type in _DEVICES


def _wants_stock(*tensors: Any) -> bool:
    """Whether stock's operators have to run, because somebody sees each of them or an argument is more than its values.

    (A dtype that the operators do not know is an error instead.)
    """
    for tensor in tensors:
        if tensor is not None and not is_plain(tensor):
            return True
    return is_recorded() or is_intercepted()


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
    *,
    gain: float = 1.0,
    clamp: float | None = None,
    weight_gain: float = 1.0,
    **parameters: float,
) -> Tensor:
    """Return ``activation(input @ weight.T + bias)``, computed by one operator and differentiable to any order.

    Stock's two operators compute it where an argument is a tensor subclass (DTensor, fx.Proxy, quantised), sparse or
    nested, and where each operator has to be seen (torch.export, torch.jit.trace, a ``TorchFunctionMode``).

    Args:
        input: ``(..., in_features)``, any number of leading dimensions, any strides; float32, float64, bfloat16 or
            float16, on CPU or CUDA.
        weight: ``(out_features, in_features)``, dtype and device of ``input``.
        bias: ``(out_features,)`` or None, dtype and device of ``input``.
        activation: a name in `fused_gan.ops.activations.ACTIVATIONS`, such as "relu", "gelu" or "softplus".
        negative_slope: of leaky_relu, any finite number; ignored by the others.
        gain: a finite number that the activation is multiplied by.
        clamp: a finite number of at least 0, the largest absolute value of the result; None sets no bound.
        weight_gain: a finite number that the weight is multiplied by, for weights that are learnt in another scale
            (https://arxiv.org/abs/1710.10196, "equalized learning rate").
        **parameters: the other parameters of the activation, by the names and with the defaults of its torch module:
            ``min_val`` and ``max_val`` of hardtanh, ``alpha`` of elu and celu, ``beta`` and ``threshold`` of softplus.

    Returns:
        ``(..., out_features)``, contiguous, dtype and device of ``input``.

    Raises:
        ValueError: a shape, the activation or a parameter is wrong, or the activation does not have the parameter.
        TypeError: a dtype is not supported, or dtypes differ (outside of autocast); a keyword is unknown.
        RuntimeError: the tensors lie on different devices.
    """
    if _wants_stock(input, weight, bias):
        scales: dict[str, Any] = {"gain": gain, "clamp": clamp, "weight_gain": weight_gain}
        return reference.linear_act(input, weight, bias, activation, negative_slope, **scales, **parameters)
    numbers = _list((activation,), negative_slope, gain, clamp, parameters)
    if type(weight_gain) is not float or weight_gain != 1:
        (weight,) = _scaled([weight], [weight_gain])
    return call_linear_act(input, weight, bias, activation, numbers)


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
    *,
    gain: float = 1.0,
    clamp: float | None = None,
    weight_gain: float | Sequence[float] = 1.0,
    **parameters: float,
) -> Tensor:
    """Return the result of a chain of `linear_act`s, computed by one operator and differentiable to any order.

    Args:
        input: ``(..., in_features)``, as for `linear_act`.
        weights: one ``(out_features, in_features)`` per layer; in_features is the out_features of the layer before.
        biases: one ``(out_features,)`` or None per layer; all parameters have the dtype and device of ``input``.
        activations: one name per layer.
        negative_slope: of every leaky_relu.
        gain, clamp: of every layer, as for `linear_act`.
        weight_gain: of every layer, or one number per layer.
        **parameters: as for `linear_act`, of every activation that has them.

    Returns:
        ``(..., out_features)`` of the last layer, contiguous, dtype and device of ``input``.

    Raises:
        ValueError, TypeError, RuntimeError: as for `linear_act`; the message names the layer, as in ``weights[1]``.
    """
    if isinstance(activations, str):
        raise TypeError(f"activations: expected a sequence of names, one per layer, got the string {activations!r}")
    if _wants_stock(input, *weights, *biases):
        scales: dict[str, Any] = {"gain": gain, "clamp": clamp, "weight_gain": weight_gain}
        return reference.mlp(input, weights, biases, activations, negative_slope, **scales, **parameters)
    numbers = _list(activations, negative_slope, gain, clamp, parameters)
    if type(weight_gain) is not float or weight_gain != 1:
        weights = _scaled(weights, weight_gain)
    return call_mlp(input, weights, biases, activations, numbers)


def call_linear_act(
    input: Tensor, weight: Tensor, bias: Tensor | None, activation: str, parameters: Sequence[float]
) -> Tensor:
    """Return `linear_act` of plain tensors that nobody records.

    Args:
        input, weight, bias, activation: as for `linear_act`.
        parameters: four numbers for each layer (`fused_gan.ops.activations.flattened`), or none for the defaults.
    """
    return _called(_linear_act, input, weight, bias, activation, parameters)


def call_mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    parameters: Sequence[float],
) -> Tensor:
    """Return `mlp` of plain tensors that nobody records; `parameters` as for `call_linear_act`."""
    return _called(_mlp, input, weights, biases, activations, parameters)


def _list(
    activations: Sequence[str], negative_slope: float, gain: float, clamp: float | None, given: Mapping[str, float]
) -> Sequence[float]:
    """Return the operators' `parameters`; a wrong one is an error of stock as well."""
    if (
        not given
        and type(negative_slope) is float
        and negative_slope == DEFAULT_NEGATIVE_SLOPE
        and clamp is None
        and type(gain) is float
        and gain == 1
    ):
        return ()  # the defaults, and the quickest way to say so; an unknown name is refused by the operator
    if is_dynamo_compiling():  # it raises errors of its own, and computes this once
        return shared_parameters(activations, negative_slope, given, gain, clamp)
    try:
        try:
            return _remembered(tuple(activations), negative_slope, gain, clamp, tuple(given.items()))
        except TypeError:  # something has no hash, or a name is unknown
            return shared_parameters(activations, negative_slope, given, gain, clamp)
    except ValueError as error:
        raise ArgumentValueError(*error.args) from None


@functools.lru_cache(maxsize=256, typed=True)
def _remembered(
    activations: tuple[str, ...],
    negative_slope: float,
    gain: float,
    clamp: float | None,
    given: tuple[tuple[str, float], ...],
) -> tuple[float, ...]:
    """Return `shared_parameters`, whose checks take longer than a small layer."""
    return tuple(shared_parameters(activations, negative_slope, dict(given), gain, clamp))


def _scaled(weights: Sequence[Tensor], gain: float | Sequence[float]) -> Sequence[Tensor]:
    """Return `scaled_weights`; a wrong gain is an error of stock as well."""
    try:
        return reference.scaled_weights(weights, gain)
    except ValueError as error:
        raise ArgumentValueError(*error.args) from None


def _called(operator: Any, *args: Any) -> Tensor:
    """Call an operator; its errors are those of stock as well."""
    result: Tensor
    if is_dynamo_compiling():  # it raises errors of its own
        result = operator(*args)
        return result
    try:
        result = operator(*args)
    except (ValueError, TypeError) as error:
        # Subclasses are somebody else's: of a mode, of a hook.
        if type(error) is ValueError:
            raise ArgumentValueError(*error.args) from None
        if type(error) is TypeError:
            raise ArgumentTypeError(*error.args) from None
        raise
    return result
