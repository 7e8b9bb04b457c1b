"""torch.compile takes the operator whole, with dynamic shapes, forward and backward; torch.export takes it too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fused_gan import FusedLinear, FusedMLP
from helpers.cases import SUBSETS, WAYS, Shape, arguments
from helpers.tolerance import assert_all_as_close_as_stock, first_order, operators

SMALL = Shape((6,), 4, 5)
every_activation = pytest.mark.parametrize("activation", WAYS)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(function, backend: str = "aot_eager", dynamic: bool | None = None):  # type: ignore[no-untyped-def]
    return torch.compile(function, fullgraph=True, backend=backend, dynamic=dynamic)


@every_activation
@pytest.mark.parametrize("leading", [(6,), (), (2, 3), (0,)], ids=str)
def test_same_as_eager(leading: tuple[int, ...], activation: str, device: torch.device) -> None:
    args = arguments(Shape(leading, 4, 5), device=device)
    ours, stock = operators(activation)
    assert_all_as_close_as_stock(
        first_order(compiled(ours), args), first_order(stock, args), first_order(stock, args.to(torch.float64))
    )


@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_every_subset_of_gradients(wanted: tuple[bool, bool, bool], device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    ours, stock = operators("tanh")
    assert_all_as_close_as_stock(
        first_order(compiled(ours), args, wanted),
        first_order(stock, args, wanted),
        first_order(stock, args.to(torch.float64), wanted),
    )


def test_dynamic_shapes_compile_once(device: torch.device) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]):  # type: ignore[no-untyped-def]
        graphs.append(graph)
        return graph

    layer = FusedLinear(4, 5, activation="tanh", device=device)
    function = torch.compile(layer, fullgraph=True, dynamic=True, backend=counting)
    for rows in (2, 3, 17, 64):
        x = torch.randn(rows, 4, device=device)
        assert torch.equal(function(x), layer(x))
    assert len(graphs) == 1
    assert any("linear_act" in str(node.target) for node in graphs[0].graph.nodes)


def test_rows_that_only_the_data_know(device: torch.device) -> None:
    """A mask leaves a number of rows that no trace can know."""
    args = arguments(SMALL, device=device)
    ours, _ = operators("relu")

    def masked(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ours(x[x[:, 0] > 0], w, b)

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        assert torch.equal(compiled(masked)(*args[:3]), masked(*args[:3]))


def test_inductor(device: torch.device) -> None:
    """The default backend, with neighbours to fuse; dynamic, forward and backward."""
    network = nn.Sequential(
        FusedLinear(8, 16, activation="leaky_relu"), nn.LayerNorm(16), FusedLinear(16, 3, activation="sigmoid")
    ).to(device)
    function = compiled(network, backend="inductor", dynamic=True)
    for rows in (5, 12):
        x = torch.randn(rows, 8, device=device, requires_grad=True)
        results = []
        for module in (function, network):
            network.zero_grad()
            x.grad = None
            y = module(x * 2)
            y.square().sum().backward()
            results.append([y.detach(), x.grad.clone(), *(p.grad.clone() for p in network.parameters())])
        torch.testing.assert_close(*results)


@every_activation
def test_compiled_autocast(activation: str, device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    ours, _ = operators(activation)

    def under_autocast(*tensors: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return ours(*tensors)

    eager = under_autocast(*args[:3])
    assert eager.dtype == torch.bfloat16
    assert torch.equal(compiled(under_autocast)(*args[:3]), eager)


def test_errors_reach_the_user(device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    with pytest.raises(Exception, match="input: expected last dimension 4"):
        compiled(operators("relu")[0])(args.input[:, :3], args.weight, args.bias)


def test_export(device: torch.device) -> None:
    layer = FusedLinear(4, 5, activation="tanh", device=device)
    rows = torch.export.Dim("rows", min=2, max=1000)
    program = torch.export.export(layer, (torch.randn(6, 4, device=device),), dynamic_shapes=({0: rows},))
    for count in (2, 33):
        x = torch.randn(count, 4, device=device)
        torch.testing.assert_close(program.module()(x), layer(x))


NETWORKS = {
    "FusedLinear": lambda name: FusedLinear(4, 5, activation=name, negative_slope=0.2),
    "FusedMLP": lambda name: FusedMLP([4, 6, 5], name, name, 0.2),
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@every_activation
def test_exported_program_without_this_package(make, activation: str, strict: bool, device: torch.device) -> None:  # type: ignore[no-untyped-def]
    """It has ATen's operators alone, before any decomposition, and runs."""
    layer, x = make(activation).to(device), torch.randn(6, 4, device=device)
    program = torch.export.export(layer, (x,), strict=strict)
    for exported in (program, program.run_decompositions()):
        targets = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
        assert targets
        assert all(target.startswith("aten.") for target in targets), targets
        torch.testing.assert_close(exported.module()(x), layer(x))


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_traced_program_without_this_package(make, device: torch.device) -> None:  # type: ignore[no-untyped-def]
    layer, x = make("leaky_relu").to(device), torch.randn(6, 4, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(layer, x)
    assert "fused_gan::" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), layer(x))
