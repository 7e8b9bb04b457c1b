"""Bad input is refused with an error that names the argument, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fused_gan
from fused_gan import FusedLinear, linear_act, mlp
from fused_gan.ops import reference
from fused_gan.ops.activations import UNSCALED
from helpers.cases import ACTIVATION_NAMES

X, W, B = torch.ones(2, 4), torch.ones(5, 4), torch.ones(5)
META = torch.device("meta")


def quantized() -> Tensor:
    return torch._empty_affine_quantized([2, 4], scale=0.1, zero_point=0, dtype=torch.quint8)


CASES: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    # shapes
    "input is a scalar": ((torch.tensor(1.0), W), ValueError, r"input: expected shape \(\.\.\., in_features\).*scalar"),
    "input too short": ((X[:, :3], W), ValueError, r"input: expected last dimension 4.*got shape \[2, 3\]"),
    "input 1-D too long": ((torch.ones(5), W), ValueError, r"input: expected last dimension 4.*got shape \[5\]"),
    "weight is a vector": ((X, W[0]), ValueError, r"weight: expected shape \(out_features, in_features\), got \[4\]"),
    "weight is 3-D": ((X, W[None]), ValueError, r"weight: expected shape .*, got \[1, 5, 4\]"),
    "weight is transposed": ((X, W.T), ValueError, r"input: expected last dimension 5.*got shape \[2, 4\]"),
    "bias too short": ((X, W, B[:4]), ValueError, r"bias: expected shape \(5,\).*got \[4\]"),
    "bias would broadcast": ((X, W, B[:1]), ValueError, r"bias: expected shape \(5,\).*got \[1\]"),
    "bias is a scalar": ((X, W, B[0]), ValueError, r"bias: expected shape \(5,\).*got \[\]"),
    "bias is a matrix": ((X, W, B[None]), ValueError, r"bias: expected shape \(5,\).*got \[1, 5\]"),
    # activation and slope
    "unknown activation": ((X, W, B, "swish"), ValueError, r"activation: expected one of .*got 'swish'"),
    "empty activation": ((X, W, B, ""), ValueError, r"activation: expected one of .*got ''"),
    "activation in capitals": ((X, W, B, "ReLU"), ValueError, r"activation: expected one of .*got 'ReLU'"),
    "activation is None": ((X, W, B, None), (TypeError, RuntimeError), r"'activation'.*NoneType"),
    "activation is a module": ((X, W, B, nn.ReLU()), (TypeError, RuntimeError), r"'activation'.*ReLU"),
    "slope is infinite": ((X, W, B, "leaky_relu", float("inf")), ValueError, r"negative_slope: expected.*got inf"),
    "slope is NaN": ((X, W, B, "leaky_relu", float("nan")), ValueError, r"negative_slope: .*got nan"),
    "slope is a string": ((X, W, B, "leaky_relu", "steep"), ValueError, r"negative_slope: expected.*got 'steep'"),
    # dtypes
    "integer input": ((X.long(), W), TypeError, r"input: expected dtype float32, .*, got (int64|Long)"),
    "boolean weight": ((X, W.bool()), TypeError, r"weight: expected dtype float32, .*, got (bool|Bool)"),
    "complex input": ((X.to(torch.complex64), W), TypeError, r"input: expected dtype .*got (complex64|ComplexFloat)"),
    "float8": ((X.to(torch.float8_e4m3fn), W), TypeError, r"input: expected dtype .*got Float8_e4m3fn|float8_e4m3fn"),
    "quantized input": ((quantized(), W), TypeError, r"input: expected dtype float32.*got (QUInt8|quint8)"),
    "two dtypes": ((X, W.double()), TypeError, r"weight: expected the dtype of input, .*[Ff]loat.*, got .*"),
    "bias of another dtype": ((X, W, B.half()), TypeError, r"bias: expected the dtype of input, .*[Ff]loat.*, got .*"),
    # devices
    "weight elsewhere": ((X, W.to(META)), RuntimeError, r"weight: expected the device of input, cpu, got meta"),
    "input elsewhere": ((X.to(META), W), RuntimeError, r"weight: expected the device of input, meta, got cpu"),
    "bias elsewhere": ((X, W, B.to(META)), RuntimeError, r"bias: expected the device of input, cpu, got meta"),
    # no tensors
    "input is None": ((None, W), TypeError, r"input.*(None|no tensor)"),
    "weight is None": ((X, None), TypeError, r"weight.*(None|no tensor)"),
    "input is an array": ((np.ones((2, 4), np.float32), W), (TypeError, RuntimeError), r"'input'.*ndarray"),
    "bias is a number": ((X, W, 1.0), (TypeError, RuntimeError), r"'bias'.*float"),
}


@pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse CSR|quantized tensor).*:UserWarning")
@pytest.mark.parametrize("requires_grad", [False, True], ids=["no graph", "graph"])
@pytest.mark.parametrize(("args", "error", "message"), CASES.values(), ids=CASES)
def test_operator(args: tuple[Any, ...], error: type[Exception], message: str, requires_grad: bool) -> None:
    if requires_grad:
        args = tuple(nn.Parameter(t) if t is W else t for t in args)
    with torch.set_grad_enabled(requires_grad), pytest.raises(error, match=message):
        linear_act(*args)


class Marked(Tensor):
    """A subclass that sees each of torch's functions that is called on it."""


# What is more than its values: (input, weight, bias).
NOT_PLAIN: dict[str, Callable[[], tuple[Any, ...]]] = {
    "sparse input": lambda: (X.to_sparse(), W, B),
    "sparse weight": lambda: (X, W.to_sparse_csr(), None),
    "oneDNN layout": lambda: (X.to_mkldnn(), W, B),
    "nested, jagged": lambda: (torch.nested.nested_tensor([X, X[:1]], layout=torch.jagged), W, B),
    "nested, strided": lambda: (torch.nested.nested_tensor([X, X[:1]]), W, B),
    "input of a subclass": lambda: (X.as_subclass(Marked), W, B),
    "weight of a subclass": lambda: (X, W.as_subclass(Marked), B),
    "bias of a subclass": lambda: (X, W, B.as_subclass(Marked)),
}


def outcome(function: Callable[..., Any], *args: Any) -> tuple[type, Any]:
    try:
        result = function(*args)
    except Exception as error:
        return type(error), str(error)
    return type(result), result


@pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse CSR).*:UserWarning")
@pytest.mark.parametrize("make", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_tensors_that_are_more_than_their_values_get_what_stock_gives(make: Callable[[], tuple[Any, ...]]) -> None:
    input, weight, bias = make()
    layer = FusedLinear(4, 5, bias is not None, "tanh")
    del layer.weight, layer.bias
    layer.weight, layer.bias = weight, bias
    kind, expected = outcome(reference.linear_act, input, weight, bias, "tanh")
    for found, result in (
        outcome(linear_act, input, weight, bias, "tanh"),
        outcome(mlp, input, [weight], [bias], ["tanh"]),
        outcome(layer, input),
    ):
        assert found is kind
        if isinstance(expected, str):
            assert result == expected
        elif expected.is_nested:
            assert all(map(torch.equal, result.unbind(), expected.unbind()))
        else:
            assert torch.equal(result.to_dense(), expected.to_dense())


@pytest.mark.parametrize(
    ("options", "message"), [(("swish",), "activation: "), (("leaky_relu", float("nan")), "negative_slope: ")]
)
def test_what_no_operator_takes_is_refused_for_subclasses_too(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}expected"):
        linear_act(X.as_subclass(Marked), W, B, *options)


def test_unknown_activation_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="expected one of " + ", ".join(f"'{name}'" for name in ACTIVATION_NAMES)):
        linear_act(X, W, B, "swish")


def test_shapes_are_checked_on_meta_too() -> None:
    with pytest.raises(ValueError, match="input: expected last dimension 4"):
        linear_act(X[:, :3].to(META), W.to(META))


BACKWARD = torch.ops.fused_gan.linear_act_backward
DY = torch.full((2, 5), 0.5)
BACKWARD_CASES: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "gradient's shape": ((X, DY, X, W), ValueError, r"kept: expected grad's shape \[2, 4\], got \[2, 5\]"),
    "gradient's dtype": (
        (DY.double(), DY, X, W),
        TypeError,
        r"kept: expected the dtype of grad, float64, got float32",
    ),
    "no input": ((DY, DY, None, W), ValueError, r"input: expected a tensor, as weight's gradient is wanted, got None"),
    "no weight": ((DY, DY, X, None), ValueError, r"weight: expected a tensor, as input's gradient is wanted, got None"),
    "input's rows": (
        (DY, DY, X[:1], W),
        ValueError,
        r"input: expected grad's leading dimensions, \[2\], got shape \[1, 4\]",
    ),
    "input's features": (
        (DY, DY, X[:, :3], W),
        ValueError,
        r"input: expected last dimension 4 \(weight's in_features\), got shape \[2, 3\]",
    ),
    "weight's shape": ((DY, DY, X, W[:4]), ValueError, r"weight: expected shape \(5, in_features\), got \[4, 4\]"),
    "no output": ((DY, None, X, W), ValueError, r"kept: expected a tensor for activation 'relu', got None"),
    "output's shape": ((DY, DY[:1], X, W), ValueError, r"kept: expected grad's shape \[2, 5\], got \[1, 5\]"),
    "output's device": ((DY, DY.to(META), X, W), RuntimeError, r"kept: expected the device of grad, cpu, got meta"),
}


@pytest.mark.parametrize(("args", "error", "message"), BACKWARD_CASES.values(), ids=BACKWARD_CASES)
def test_backward_operator(args: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BACKWARD(*args, "relu", [], [True, True, True])


@pytest.mark.parametrize(
    ("activation", "parameters", "message"),
    [
        ("relu", [0.1, 0.0], "parameters: expected 4 numbers for each activation, or none, got 2"),
        ("leaky_relu", [float("nan"), 0.0, *UNSCALED], "negative_slope: expected a number, got NaN"),
        ("softplus", [1.0, float("nan"), *UNSCALED], "threshold: expected a number, got NaN"),
        ("hardtanh", [1.0, 0.5, *UNSCALED], "min_val: expected at most max_val, 0.5, got 1"),
        ("celu", [0.0, 0.0, *UNSCALED], "alpha: expected a number other than 0 for 'celu', got 0"),
        ("relu", [0.0, 0.0, float("nan"), 1.0], "gain: expected a number, got NaN"),
        ("relu", [0.0, 0.0, 1.0, -1.0], "clamp: expected a number of at least 0, got -1"),
    ],
)
def test_parameters_of_the_operators(activation: str, parameters: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        torch.ops.fused_gan.linear_act(X, W, B, activation, parameters)
    with pytest.raises(
        ValueError, match=re.escape(message.replace("activation, or none", "of the 1 weights, or none"))
    ):
        torch.ops.fused_gan.mlp(X, [W], [B], [activation], parameters)


CHAIN = ([W, torch.ones(3, 5)], ["tanh", "gelu"])
CHAIN_CASES: dict[str, tuple[tuple[Any, ...], str]] = {
    "too few outputs": (([], [torch.ones(2, 3)]), "outputs: expected 2, one a layer, got 0"),
    "no pre-activation": (([DY], []), "preactivations: expected 1, one for each activation whose gradient reads it"),
    "one too many": (([DY], [DY, torch.ones(2, 3)]), "preactivations: expected 1"),
    "another shape": (([DY], [DY]), "preactivations[1]: expected input's shape with last dimension 3"),
}


@pytest.mark.parametrize(("kept", "message"), CHAIN_CASES.values(), ids=CHAIN_CASES)
def test_backward_of_a_chain(kept: tuple[list[Tensor], list[Tensor]], message: str) -> None:
    weights, activations = CHAIN
    with pytest.raises(ValueError, match=re.escape(message)):
        torch.ops.fused_gan.mlp_backward(
            torch.ones(2, 3), *kept, X, weights, activations, [], True, [True] * 2, [False] * 2
        )


def test_flags_of_a_chain() -> None:
    weights, activations = CHAIN
    with pytest.raises(
        ValueError, match="outputs_wanted and preactivations_wanted: expected 2 flags each, got 1 and 2"
    ):
        torch.ops.fused_gan.mlp_forward(X, weights, [None] * 2, activations, [], [True], [True] * 2)


def test_backward_operator_has_no_wrong_second_order() -> None:
    """Autograd's own Function gives the second order; this one, called by hand, is right too or raises."""
    dy = DY.clone().requires_grad_()
    try:
        BACKWARD(dy, DY, X, W, "tanh", [], [True, True, True])[0].sum().backward()
    except RuntimeError:
        return
    expected = W.sum(1).expand(2, 5) * (1 - DY * DY)
    torch.testing.assert_close(dy.grad, expected)


LAYER_CASES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown activation": (
        {"activation": "swish"},
        ValueError,
        r"activation: expected one of 'identity', .*got 'swish'",
    ),
    "activation is a list": ({"activation": ["relu"]}, (TypeError, ValueError), r"activation: expected .*\['relu'\]"),
    "activation is a module": ({"activation": nn.ReLU()}, (TypeError, ValueError), r"activation: expected .*ReLU\(\)"),
    "slope is infinite": ({"negative_slope": float("inf")}, ValueError, r"negative_slope: expected .*got inf"),
    "slope is NaN": ({"negative_slope": float("nan")}, ValueError, r"negative_slope: .*got nan"),
    "slope is a string": ({"negative_slope": "1"}, (TypeError, ValueError), r"negative_slope: expected .*1"),
}


@pytest.mark.parametrize(("options", "error", "message"), LAYER_CASES.values(), ids=LAYER_CASES)
def test_layer(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FusedLinear(4, 5, **options)


def test_layer_changed_afterwards() -> None:
    layer = FusedLinear(4, 5)
    layer.activation = "swish"
    with pytest.raises(ValueError, match="got 'swish'"):
        layer(X)


PLAN_CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "two sizes": (((1, 2),), {}, "shape: expected (samples, in_features, out_features)"),
    "a negative size": (((1, 2, -3),), {}, "shape: expected whole numbers ≥ 0, got (1, 2, -3)"),
    "a broken size": (((1.5, 2, 3),), {}, "shape: expected"),
    "a number": ((5,), {}, "shape: expected"),
    "no Linear": ((nn.Conv1d(1, 1, 1), 4), {}, "layer: expected an nn.Linear or a FusedLinear, got Conv1d"),
    "no samples": ((nn.Linear(2, 3),), {}, "samples: expected the number of input rows"),
    "samples twice": (((1, 2, 3), 4), {}, "shape: expected (samples, in_features, out_features) alone"),
    "another dtype": (((1, 2, 3),), {"dtype": torch.int8}, "dtype: expected one of torch.float32"),
    "another device": (((1, 2, 3),), {"device": "meta"}, "device: expected 'cpu' or 'cuda', got 'meta'"),
    "no device": (((1, 2, 3),), {"device": "gpu"}, "device: expected 'cpu' or 'cuda', got 'gpu'"),
}


@pytest.mark.parametrize(("args", "options", "message"), PLAN_CASES.values(), ids=PLAN_CASES)
def test_plan(args: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        fused_gan.plan(*args, **options)


@pytest.mark.skipif(bool(fused_gan.build_info()["cuda"]), reason="this build has CUDA")
def test_plan_without_cuda() -> None:
    with pytest.raises(ValueError, match="device: 'cuda' is not in this build"):
        fused_gan.plan((1, 2, 3), device="cuda")
