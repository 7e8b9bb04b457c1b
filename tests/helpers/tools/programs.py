"""What records a network, or counts or folds its operations: torch.fx, torch.export, ONNX, TorchScript, FLOPs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import fuse_linear_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from fused_gan import FusedLinear, FusedMLP, fuse, unfuse
from helpers.tools.table import Cell, Numbers, Tool, network, refused, tool, unchanged, with_weights_of, x


@tool("torch.fx.symbolic_trace", unchanged)
def fx(column: str) -> Numbers:
    return [torch.fx.symbolic_trace(network(column))(x()).detach()]


@tool("torch.export", unchanged)
def export(column: str) -> Numbers:
    samples = torch.export.Dim("samples")
    program = torch.export.export(network(column), (x(),), dynamic_shapes=({0: samples},))
    assert "fused_gan" not in str(program.graph)
    return [program.module()(x()).detach(), program.module()(x()[:3]).detach()]


@tool("torch.onnx.export(dynamo=True), run by onnxruntime", unchanged, "onnx", "onnxscript", "onnxruntime")
def onnx(column: str) -> Numbers:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.onnx")
        torch.onnx.export(network(column).eval(), (x(),), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [output] = session.run(None, {session.get_inputs()[0].name: x().numpy()})
    return [torch.from_numpy(output)]


@tool("torch.jit.trace", unchanged)
def jit_trace(column: str) -> Numbers:
    traced = torch.jit.trace(network(column), (x()[:3],))
    assert "fused_gan::" not in str(traced.inlined_graph)
    return [traced(x()).detach()]


@tool(
    "torch.jit.script, after unfuse()",
    unchanged,
    FusedLinear=refused("unfuse() leaves it; torch.jit.trace takes it", ValueError, "Unknown type annotation"),
)
def jit_script(column: str) -> Numbers:
    return [torch.jit.script(unfuse(network(column)))(x()).detach()]


def _count_by_hand(numbers: Numbers) -> None:
    """Two FLOPs for each multiplication and addition: two products forward, three backward."""
    assert numbers[0].item() == 2 * 16 * (16 * 32 + 32 * 16) + 2 * 16 * (2 * 32 * 16 + 16 * 32)


@tool("FlopCounterMode", _count_by_hand)
def flops(column: str) -> Numbers:
    model = network(column)
    with FlopCounterMode(display=False) as counter:
        model(x()).sum().backward()
    return [torch.tensor(counter.get_total_flops())]


# ---- BatchNorm folded into the layer before it -----------------------------------------------------------------------


def _norm() -> nn.BatchNorm1d:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(32)
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(values, 0.5, 2)
    return norm.eval()


def _normalised(column: str) -> nn.Module:
    """Return Linear, BatchNorm, ReLU, Linear, Tanh."""
    torch.manual_seed(0)
    stock = nn.Sequential(nn.Linear(16, 32), _norm(), nn.ReLU(), nn.Linear(32, 16), nn.Tanh()).eval()
    if column == "stock":
        return stock
    if column == "fuse()":
        return fuse(stock)
    first, last = (
        (FusedMLP([16, 32]), FusedMLP([32, 16], output_activation="tanh"))
        if column == "FusedMLP"
        else (FusedLinear(16, 32, activation="identity"), FusedLinear(32, 16, activation="tanh"))
    )
    return with_weights_of(stock, nn.Sequential(first, _norm(), nn.ReLU(), last)).eval()


def _folded(numbers: Numbers) -> None:
    output, norms = numbers
    torch.testing.assert_close(output, _normalised("stock")(x()).detach())
    assert norms == 0


def _not_folded(tool: Tool, column: str) -> None:
    output, norms = tool.run(column)
    torch.testing.assert_close(output, _normalised("stock")(x()).detach())
    assert norms == 1


@tool(
    "torch.fx.experimental.optimization.fuse",
    _folded,
    FusedLinear=Cell("left as it is, with the BatchNorm behind it", _not_folded),
)
def fold_all(column: str) -> Numbers:
    from torch.fx.experimental import optimization  # warns of its own age

    folded = optimization.fuse(_normalised(column))
    called = [folded.get_submodule(node.target) for node in folded.graph.nodes if node.op == "call_module"]
    norms = sum(isinstance(module, nn.BatchNorm1d) for module in called)
    return [folded(x()).detach(), torch.tensor(norms)]


def _norm_of_linear(numbers: Numbers) -> None:
    torch.testing.assert_close(numbers[0], _norm()(network("stock")[0](x())).detach())


def _norm_before_activation(tool: Tool, column: str) -> None:
    torch.testing.assert_close(tool.run(column)[0], tool.run("stock")[0].relu())


@tool(
    "torch.nn.utils.fuse_linear_bn_eval(layer, norm)",
    _norm_of_linear,
    FusedLinear=Cell("the norm stands before the activation: see below", _norm_before_activation),
)
def fold_by_hand(column: str) -> Numbers:
    return [fuse_linear_bn_eval(network(column)[0].eval(), _norm())(x()).detach()]
