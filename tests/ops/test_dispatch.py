"""The operators are registered as PyTorch wants them: opcheck, subclasses, lazy views, Meta, other devices' tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fused_gan.ops.activations import UNSCALED
from helpers.cases import DTYPES, SHAPES, SUBSETS, WAYS, Shape, arguments
from helpers.tolerance import first_order, leaves, operators

OPERATORS = torch.ops.fused_gan
SMALL = Shape((3,), 4, 5)
every_activation = pytest.mark.parametrize("activation", WAYS)


@every_activation
@pytest.mark.parametrize("name", ["odd", "1-D input", "4-D", "no rows", "no inputs", "4-D, no outputs"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_opcheck(bias: bool, name: str, activation: str, device: torch.device) -> None:
    tensors = leaves(arguments(SHAPES[name], device=device, bias=bias))
    torch.library.opcheck(OPERATORS.linear_act.default, (*tensors, activation, [0.2, 2.0, *UNSCALED]))


@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_opcheck_of_every_subset(wanted: tuple[bool, bool, bool], device: torch.device) -> None:
    tensors = leaves(arguments(SMALL, device=device), wanted)
    torch.library.opcheck(OPERATORS.linear_act.default, (*tensors, "tanh", []))


@every_activation
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_opcheck_of_backward(
    wanted: tuple[bool, bool, bool], dtype: torch.dtype, activation: str, device: torch.device
) -> None:
    args = arguments(SHAPES["4-D"], dtype, device)
    output = None if activation == "identity" else operators(activation)[1](*args[:3])  # in place of z too: a shape
    torch.library.opcheck(
        OPERATORS.linear_act_backward.default,
        (args.grad, output, args.input, args.weight, activation, [], list(wanted)),
        test_utils=("test_schema", "test_faketensor"),  # it has no derivative of its own: autograd.cpp has
    )


def test_schemas_keep_the_promised_names_and_defaults() -> None:
    arguments_of = {a.name: a.default_value for a in OPERATORS.linear_act.default._schema.arguments}
    assert list(arguments_of) == ["input", "weight", "bias", "activation", "parameters"]
    assert arguments_of["parameters"] == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_meta_says_what_a_device_gives(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Sizes, strides and dtypes of output and gradients, without data."""
    args = arguments(SHAPES[name], dtype, device)
    meta = args._replace(**{key: getattr(args, key).to("meta") for key in args._fields})
    real, traced = (first_order(operators("tanh")[0], each) for each in (args, meta))
    for key, result in real.items():
        assert traced[key].is_meta
        assert (traced[key].shape, traced[key].dtype) == (result.shape, result.dtype), key
        assert traced[key].stride() == result.stride(), key


class Plain(Tensor):
    """A subclass that changes nothing."""


class Logging(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_subclass_stays(device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    ours, stock = (operator(args.input.as_subclass(Plain), *args[1:3]) for operator in operators("relu"))
    assert type(ours) is type(stock) is Plain


@every_activation
def test_one_operator_forward_and_one_backward(activation: str, device: torch.device) -> None:
    """What a profiler or a dispatch mode sees: fused is fused."""
    args = arguments(SMALL, device=device)
    with Logging() as log:
        y = operators(activation)[0](*leaves(args))
        y.backward(args.grad)
    ours = [name for name in log.names if name.startswith("fused_gan::")]
    if activation in ("softplus", "gelu"):  # which keep their pre-activations, as a chain's layers do
        assert ours == ["fused_gan::mlp_forward", "fused_gan::mlp_backward"]
    else:
        assert ours == ["fused_gan::linear_act", "fused_gan::linear_act_backward"]
    assert not {"aten::linear", "aten::addmm", "aten::mm", "aten::relu"} & set(log.names)


def chain_leaves(device: torch.device) -> tuple[Tensor, list[Tensor], list[Tensor], list[str], list[float]]:
    """The arguments of a chain of two layers, each tensor differentiable."""
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).to(device).requires_grad_()

    return leaf(3, 4), [leaf(5, 4), leaf(2, 5)], [leaf(5), leaf(2)], ["tanh", "gelu"], []


def test_what_watches_operators_sees_those_within_a_chain(device: torch.device) -> None:
    """Without a watcher a chain calls its kernels directly, with equal results."""

    def results() -> list[Tensor]:
        input, weights, biases, *rest = chain_leaves(device)
        y = OPERATORS.mlp(input, weights, biases, *rest)
        return [y, *torch.autograd.grad(y.sum(), [input, *weights, *biases])]

    alone = results()
    with Logging() as log:
        logged = results()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        profiled = results()
    assert {"fused_gan::mlp_forward", "fused_gan::mlp_backward"} <= set(log.names)
    assert {"fused_gan::mlp_forward", "fused_gan::mlp_backward_"} <= {event.name for event in profile.events()}
    for watched in (logged, profiled):
        assert all(torch.equal(ours, plain) for ours, plain in zip(watched, alone, strict=True))


def test_a_chain_within_autocast_is_watched_too(device: torch.device) -> None:
    with torch.autocast(device.type, torch.bfloat16):
        plain = OPERATORS.mlp(*chain_leaves(device))
        with Logging() as log:
            logged = OPERATORS.mlp(*chain_leaves(device))
    assert "fused_gan::mlp_forward" in log.names
    assert torch.equal(plain, logged)


@every_activation
def test_lazy_negation(activation: str, device: torch.device) -> None:
    """The imaginary part of a lazily conjugated tensor is a view with the negative bit."""
    args = arguments(SMALL, device=device)

    def conjugated(values: Tensor) -> Tensor:
        view = torch.complex(values, -values).conj().imag
        assert view.is_neg()
        return view

    ours = operators(activation)[0]
    plain = first_order(ours, args)
    lazy = first_order(ours, args._replace(**{key: conjugated(getattr(args, key)) for key in args._fields}))
    for name, result in plain.items():
        assert torch.equal(lazy[name], result), name


def test_zero_tensor_as_gradient(device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    results = first_order(operators("tanh")[0], args._replace(grad=torch._efficientzerotensor(3, 5, device=device)))
    assert all((results[name] == 0).all() for name in results if name != "output")


def test_parameters_and_buffers_shared_with_numpy() -> None:
    """Memory that torch does not own, at an odd address."""
    raw = torch.zeros(4 * (12 + 1), dtype=torch.uint8)
    odd = raw[4:].view(torch.float32).view(3, 4)
    assert odd.data_ptr() % 16 != 0
    args = arguments(SMALL)
    odd.copy_(args.input)
    ours = operators("tanh")[0]
    assert torch.equal(ours(odd, *args[1:3]), ours(*args[:3]))
    array = args.input.numpy()
    array.setflags(write=False)
    with pytest.warns(UserWarning, match="not writable"):
        assert torch.equal(ours(torch.from_numpy(array), *args[1:3]), ours(*args[:3]))


def test_two_python_threads(device: torch.device) -> None:
    """At the same time: no state is shared."""
    from concurrent.futures import ThreadPoolExecutor

    cases = [(name, arguments(SHAPES["shared by threads"], device=device)) for name in WAYS]
    one_by_one = [first_order(operators(name)[0], args) for name, args in cases]
    with ThreadPoolExecutor(len(cases)) as pool:
        together = list(pool.map(lambda case: first_order(operators(case[0])[0], case[1]), cases))
    for alone, parallel in zip(one_by_one, together, strict=True):
        for key in alone:
            torch.testing.assert_close(parallel[key], alone[key])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda_graph(dtype: torch.dtype, device: torch.device) -> None:
    """Captured once, replayed with other values."""
    if device.type != "cuda":
        pytest.skip("CUDA only")
    args = arguments(SHAPES["odd"], dtype, device)
    ours = operators("tanh")[0]
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        first_order(ours, args)
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = first_order(ours, args)
    for tensor in args:
        tensor.copy_(torch.randn_like(tensor))
    graph.replay()
    expected = first_order(ours, args)
    for name, result in captured.items():
        assert torch.equal(result, expected[name]), name
