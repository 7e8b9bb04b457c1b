"""PyTorch's tools work on a fused model as on the stock one: compilers, tracers, autocast, torch.func, DDP, FSDP."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, jvp, vmap
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.utils.checkpoint import checkpoint

from fused_gan.nn.fusing import fuse
from helpers.fused_models import CHAIN, MODELS, every_model, x
from helpers.networks import one_process, operators_run, recorded


@every_model
def test_compile(make: Callable[[], nn.Module], operators: list[list[str]]) -> None:
    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]):  # type: ignore[no-untyped-def]
        graphs.append(graph)
        return graph

    fused = fuse(make()).eval()
    inputs = x()
    torch.testing.assert_close(torch.compile(fused, fullgraph=True, backend=backend)(inputs), fused(inputs))
    targets = [str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
    assert any("fused_gan" in target for target in targets), targets


def test_compile_trains() -> None:
    torch.compiler.reset()
    fused, inputs = fuse(MODELS["dropout between"][0]()).eval(), x()
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    gradients = []
    for network in (compiled, fused):
        fused.zero_grad()
        network(inputs).square().sum().backward()
        gradients.append([p.grad.clone() for p in fused.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("strict", [False, True])
def test_export_needs_nothing_of_ours(strict: bool) -> None:
    inputs = x()
    program = torch.export.export(fuse(MODELS["nested"][0]()), (inputs,), strict=strict).run_decompositions()
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets
    assert not any("fused_gan" in target for target in targets), targets


def test_fx_sees_the_modules_that_do_nothing_now() -> None:
    """Dropout does nothing in eval mode, and drops out again when the recorded model trains."""
    stock = nn.Sequential(
        nn.Identity(), nn.Linear(5, 5), nn.Identity(), nn.ReLU(), nn.Dropout(0.5), nn.Identity(), nn.Linear(5, 5)
    ).eval()
    recorded_by_fx = torch.fx.symbolic_trace(fuse(stock))
    names = [[str(node.target) for node in g.graph.nodes] for g in (recorded_by_fx, torch.fx.symbolic_trace(stock))]
    assert names[0] == names[1]
    inputs = x()
    torch.testing.assert_close(recorded_by_fx(inputs), stock(inputs))
    recorded_by_fx.train()
    assert not torch.equal(recorded_by_fx(inputs), recorded_by_fx(inputs))


def test_tracers_see_the_stock_layers() -> None:
    fused, inputs = fuse(MODELS["nested"][0]()), x()
    names = [str(node.target) for node in torch.fx.symbolic_trace(fused).graph.nodes if node.op == "call_module"]
    assert names == ["0.0", "0.1", "1.0.0", "1.1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert "fused_gan::" not in str(torch.jit.trace(fused, inputs).inlined_graph)


def test_checkpoint_function() -> None:
    stock = MODELS["dropout between"][0]().double()
    fused, inputs = fuse(stock), x().double()
    results = []
    for call in (lambda: fused(inputs), lambda: checkpoint(fused, inputs, use_reentrant=False)):
        fused.zero_grad()
        torch.manual_seed(5)
        call().square().sum().backward()
        results.append([p.grad.clone() for p in fused.parameters()])
    torch.testing.assert_close(*results)


def test_autocast() -> None:
    stock, inputs = MODELS["a chain"][0](), x()
    stock[2].bfloat16()  # a mixture that only autocast accepts
    fused = fuse(stock)
    with torch.autocast("cpu", torch.bfloat16), recorded() as ran:
        ours, theirs = fused(inputs), stock(inputs)
    assert ran == CHAIN
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    (ours.float().sum() + theirs.float().sum()).backward()
    for mine, other in zip(fused.parameters(), stock.parameters(), strict=True):
        assert mine.grad.dtype == mine.dtype
        torch.testing.assert_close(mine.grad, other.grad, rtol=0.1, atol=0.1)


def test_functional_transforms() -> None:
    stock, inputs = MODELS["a chain"][0]().double(), x().double()
    fused, parameters = fuse(stock), dict(stock.named_parameters())

    def per_sample(model: nn.Module) -> dict[str, Tensor]:
        loss = torch.func.grad(lambda p, row: functional_call(model, p, (row,)).square().sum())
        return vmap(loss, (None, 0))(parameters, inputs)

    torch.testing.assert_close(per_sample(fused), per_sample(stock))
    torch.testing.assert_close(jvp(fused, (inputs,), (inputs,)), jvp(stock, (inputs,), (inputs,)))


def test_ddp() -> None:
    stock, inputs = MODELS["a chain"][0](), x()
    fused = fuse(stock)
    with one_process(), recorded() as ran:
        nn.parallel.DistributedDataParallel(fused)(inputs).sum().backward()
    assert ran == CHAIN
    stock(inputs).sum().backward()
    for ours, theirs in zip(fused.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", ["a chain", "a kind of Sequential"])
def test_fully_shard(name: str) -> None:
    stock, inputs = MODELS[name][0](), x()
    with one_process() as mesh:
        fused = fully_shard(fuse(stock), mesh=mesh)
        assert operators_run(fused, inputs) == MODELS[name][1]
        fused(inputs).sum().backward()
        stock(inputs).sum().backward()
        for ours, theirs in zip(fused.parameters(), stock.parameters(), strict=True):
            torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad)


def test_expanded_weights_give_the_gradients_of_each_sample() -> None:
    """torch's expanded weights, as Opacus uses them, put stand-ins in the place of parameters."""
    stock = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())
    fused = fuse(stock)
    x = torch.randn(3, 6)
    for model in (stock, fused):
        call_for_per_sample_grads(model, loss_reduction="sum")(x).sum().backward()
    for expected, got in zip(stock.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(got.grad_sample, expected.grad_sample)
