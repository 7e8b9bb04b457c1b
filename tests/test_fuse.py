"""fuse() makes a model of somebody else's faster and leaves everything else about it as it was; so does unfuse()."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from networks import assert_same_step, one_process, operators_run, recorded, step
from tolerance import assert_all_as_close_as_stock
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, jvp, vmap
from torch.utils.checkpoint import checkpoint

from fused_gan.nn import FusedLinear, FusedMLP, FusedSequential
from fused_gan.nn.fusing import fuse, unfuse
from fused_gan.nn.fusion_report import fusion_report
from fused_gan.ops.activations import ACTIVATIONS

RELU, LEAKY = ["relu"], ["leaky_relu"]


class Block(nn.Sequential):
    """A Sequential by another name, with arguments of its own, as torchvision's MLP."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Linear(outputs, outputs), nn.Tanh())
        self.inputs = inputs


class Residual(nn.Module):
    """A forward of its own around Sequentials in a ModuleList and a ModuleDict, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.2)) for _ in range(2))
        self.heads = nn.ModuleDict({"out": nn.Sequential(OrderedDict(fc=nn.Linear(5, 5), act=nn.Sigmoid()))})
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.blocks, self.blocks[0]):
            x = x + block(x)
        return self.heads["out"](x) * self.scale


def layers_used_twice() -> nn.Sequential:
    linear, relu = nn.Linear(5, 5), nn.ReLU()
    return nn.Sequential(linear, relu, nn.Linear(5, 5), relu, linear, relu)


CHAIN = [["relu", "tanh", "identity"]]
# Name: the model of 5 features, the operators that its call runs in training mode.
MODELS: dict[str, tuple[Callable[[], nn.Module], list[list[str]]]] = {
    "a chain": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)),
        CHAIN,
    ),
    "named children": (
        lambda: nn.Sequential(OrderedDict(fc=nn.Linear(5, 8), act=nn.ReLU(), out=nn.Linear(8, 3))),
        [["relu", "identity"]],
    ),
    "in place": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(True), nn.Linear(8, 3), nn.LeakyReLU(0.3, True)),
        [["relu", "leaky_relu"]],
    ),
    "dropout between": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3), nn.Sigmoid()),
        [RELU, ["sigmoid"]],
    ),
    "batch norm between": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), nn.LeakyReLU(0.2)),
        [LEAKY],
    ),
    "slopes that differ": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.LeakyReLU(0.2), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3), nn.LeakyReLU(0.1)
        ),
        [["leaky_relu", "tanh"], LEAKY],
    ),
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(5, 8), nn.ReLU()), nn.Sequential(nn.Sequential(nn.Linear(8, 3)), nn.Tanh())
        ),
        [["relu", "tanh"]],
    ),
    "placeholders": (
        lambda: nn.Sequential(
            nn.Identity(), nn.Linear(5, 8), nn.Identity(), nn.ReLU(), nn.Identity(), nn.Linear(8, 3), nn.Tanh()
        ),
        [["relu", "tanh"]],
    ),
    "layers used twice": (layers_used_twice, [["relu", "relu", "relu"]]),
    "no biases": (
        lambda: nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)),
        [["relu", "identity"]],
    ),
    "a kind of Sequential": (lambda: Block(5, 8), [["relu", "tanh"]]),
    "a forward of its own": (Residual, [LEAKY, LEAKY, LEAKY, ["sigmoid"]]),
    "a FusedLinear inside": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.ReLU(), FusedLinear(8, 8, activation="tanh"), nn.Linear(8, 3), nn.Sigmoid()
        ),
        [["relu", "tanh", "sigmoid"]],
    ),
}
every_model = pytest.mark.parametrize(("make", "operators"), MODELS.values(), ids=MODELS)
every_make = pytest.mark.parametrize("make", [make for make, _ in MODELS.values()], ids=MODELS)


def x() -> Tensor:
    return torch.randn(6, 5)


@every_model
def test_runs_as_operators(make: Callable[[], nn.Module], operators: list[list[str]]) -> None:
    assert operators_run(fuse(make()), x()) == operators


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@every_make
def test_same_numbers(make: Callable[[], nn.Module], training: bool) -> None:
    stock = make().double().train(training)
    assert_same_step(fuse(stock), stock, x().double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every_make
def test_within_the_tolerance_rule(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    stock, inputs = make().to(dtype).eval(), x().to(dtype)  # eval: dropout's mask depends on the dtype
    wide = copy.deepcopy(stock).double()
    results = [step(model, i) for model, i in ((fuse(stock), inputs), (stock, inputs), (wide, inputs.double()))]
    kept = [name for name in results[0] if not name.endswith("num_batches_tracked")]
    assert_all_as_close_as_stock(*({name: result[name] for name in kept} for result in results))


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "identity"])
def test_every_activation_of_the_list(activation: str) -> None:
    stock = nn.Sequential(nn.Linear(5, 4), ACTIVATIONS[activation].module(0.3)).double()
    assert operators_run(fuse(stock), x().double()) == [[activation]]
    assert_same_step(fuse(stock), stock, x().double())


def test_dropout_of_eval_mode_does_not_end_a_chain() -> None:
    model = fuse(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3), nn.Tanh()))
    inputs = x()
    assert operators_run(model, inputs) == [RELU, ["tanh"]]
    assert operators_run(model.eval(), inputs) == [["relu", "tanh"]]
    assert operators_run(model.train(), inputs) == [RELU, ["tanh"]]


# ---- nothing else changes -----------------------------------------------------------------------------------------


@every_make
def test_the_tree_stays(make: Callable[[], nn.Module]) -> None:
    model = make().eval()
    next(model.parameters()).requires_grad_(False)
    modules, tensors = dict(model.named_modules()), dict(model.state_dict(keep_vars=True))
    modes = [(m.training, type(m)) for m in modules.values()]
    assert fuse(model, inplace=True) is model
    assert fuse(model, inplace=True) is model
    model(x())
    assert list(model.named_modules()) == list(modules.items())
    assert all(after is tensors[name] for name, after in model.state_dict(keep_vars=True).items())
    assert list(model.state_dict()) == list(tensors)
    assert not next(model.parameters()).requires_grad
    assert [m.training for m in model.modules()] == [training for training, _ in modes]
    assert all(isinstance(m, kind) for m, (_, kind) in zip(modules.values(), modes, strict=True))
    assert unfuse(model, inplace=True) is model
    assert [type(m) for m in model.modules()] == [kind for _, kind in modes]
    assert operators_run(model, x()) == ([["tanh"]] if any(type(m) is FusedLinear for m in modules.values()) else [])
    assert not any("fused" in name for m in model.modules() for name in vars(m)), "unfuse() leaves something behind"


def test_a_copy_by_default() -> None:
    model, inputs = MODELS["a chain"][0](), x()
    before = model(inputs)
    fused = fuse(model)
    nn.init.zeros_(fused[4].weight)
    assert type(model) is nn.Sequential
    assert torch.equal(model(inputs), before)
    assert type(unfuse(fused)) is nn.Sequential
    assert type(fused) is FusedSequential


def test_bad_argument() -> None:
    for function in (fuse, unfuse):
        with pytest.raises(TypeError, match=r"module: expected an nn.Module, got list"):
            function([nn.Linear(2, 2)])  # type: ignore[arg-type]


@every_make
def test_checkpoints_load_both_ways(make: Callable[[], nn.Module]) -> None:
    stock, fused = make().eval(), fuse(make()).eval()
    inputs = x()
    file = io.BytesIO()
    torch.save(stock.state_dict(), file)
    file.seek(0)
    fused.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(fused(inputs), stock(inputs))
    other = make().eval()
    other.load_state_dict(fused.state_dict())
    torch.testing.assert_close(other(inputs), stock(inputs))


def test_items_and_slices_are_the_layers() -> None:
    fused, inputs = fuse(MODELS["a chain"][0]()), x()
    assert type(fused[0]) is nn.Linear
    assert type(fused[1]) is nn.ReLU
    torch.testing.assert_close(fused[2:](fused[1](fused[0](inputs))), fused(inputs))
    assert (fused[0](inputs) < 0).any(), "the first layer came with its activation"
    assert [type(m) for m in fused] == [nn.Linear, nn.ReLU, nn.Linear, nn.Tanh, nn.Linear]


def test_an_optimizer_made_before_goes_on() -> None:
    model, inputs = MODELS["a chain"][0](), x()
    stock = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in (model, stock)]
    for number in range(6):
        if number == 2:
            fuse(model, inplace=True)
        if number == 4:
            unfuse(model, inplace=True)
        for network, optimizer in zip((model, stock), optimizers, strict=True):
            optimizer.zero_grad()
            network(inputs).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_hooks_stay_and_run() -> None:
    seen: list[str] = []
    model, inputs = MODELS["nested"][0](), x()
    model.register_forward_hook(lambda *_: seen.append("model"))
    model[0][0].register_forward_hook(lambda *_: seen.append("layer"))
    model[1].register_forward_pre_hook(lambda *_: seen.append("nested"))
    model[0][0].weight.register_hook(lambda *_: seen.append("weight"))
    fuse(model, inplace=True)(inputs).sum().backward()
    assert seen == ["layer", "nested", "model", "weight"]


def test_frozen_parameters_and_inputs_get_no_gradient() -> None:
    stock = MODELS["a chain"][0]().double()
    stock[0].requires_grad_(False)
    stock[2].bias.requires_grad_(False)
    fused, inputs = fuse(stock), x().double()
    assert_same_step(fused, stock, inputs)
    fused(inputs).sum().backward()
    assert [p.grad is not None for p in fused.parameters()] == [False, False, True, False, True, True]
    assert not fused.requires_grad_(False)(inputs).requires_grad


def test_unfuse_after_training_keeps_what_was_learned() -> None:
    fused, inputs = fuse(MODELS["batch norm between"][0]()), x()
    optimizer = torch.optim.SGD(fused.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        fused(inputs).square().mean().backward()
        optimizer.step()
    stock = unfuse(fused)
    torch.testing.assert_close(stock.eval()(inputs), fused.eval()(inputs))
    assert fused[1].num_batches_tracked == 3


def test_unfuse_leaves_layers_of_ours() -> None:
    assert type(unfuse(FusedMLP([5, 3]))) is FusedMLP


# ---- PyTorch's tools go on working --------------------------------------------------------------------------------

COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "pickle protocol 2": lambda model: pickle.loads(pickle.dumps(model, 2)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@every_model
def test_copies(make: Callable[[], nn.Module], operators: list[list[str]], copied) -> None:  # type: ignore[no-untyped-def]
    fused, inputs = fuse(make()), x()
    fused(inputs)
    twin = copied(fused)
    assert [type(m) for m in twin.modules()] == [type(m) for m in fused.modules()]
    assert torch.equal(copy.deepcopy(twin).eval()(inputs), copy.deepcopy(fused).eval()(inputs))
    assert operators_run(twin, inputs) == operators
    before = fused.eval()(inputs)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(fused(inputs), before)
    assert not torch.equal(twin.eval()(inputs), before), "the copy computes with the original's weights"


@pytest.mark.parametrize("kind", ["a chain", "a kind of Sequential"])
def test_a_pickle_holds_no_recipe(kind: str) -> None:
    fused = fuse(MODELS[kind][0]())
    small = len(pickle.dumps(fused))
    fused(x())
    assert len(pickle.dumps(fused)) == small


def test_a_deleted_model_is_gone_at_once() -> None:
    fused = fuse(MODELS["nested"][0]())
    fused(x())
    weight = weakref.ref(fused[0][0].weight)
    gc.disable()
    try:
        del fused
        assert weight() is None, "a cycle keeps the weights until the next garbage collection"
    finally:
        gc.enable()


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


@pytest.mark.parametrize(
    "name", ["a chain", "nested", "layers used twice", "slopes that differ", "a forward of its own"]
)
def test_gradient_penalty(name: str) -> None:
    """R1: the gradient, by the weights, of the squared norm of the gradient by the input."""
    stock = MODELS[name][0]().double()
    fused, inputs, results = fuse(stock), x().double(), []
    for model in (fused, stock):
        point = inputs.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(point).sum(), point, create_graph=True)
        slope.square().sum().backward()
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    assert any(grad.abs().sum() > 0 for grad in results[0])
    torch.testing.assert_close(*results)


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


def test_moves_and_casts_after_fusing() -> None:
    fused = fuse(MODELS["a chain"][0]())
    assert fused.to(torch.bfloat16)(x().bfloat16()).dtype == torch.bfloat16
    assert fused.to("meta")(torch.empty(6, 5, dtype=torch.bfloat16, device="meta")).shape == (6, 3)
    assert fused.to_empty(device="cpu").float()(x()).shape == (6, 3)


# ---- the report ---------------------------------------------------------------------------------------------------


def test_report() -> None:
    model = nn.Sequential(
        nn.Linear(5, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 5), nn.Tanh()), nn.Linear(5, 5), nn.GELU(), nn.Softmax()
    )
    before, after = fusion_report(model), fusion_report(fuse(model))
    assert [(site.what, site.fused) for site in after] == [
        ("0 Linear → 1 ReLU", True),
        ("2.0 Linear → 2.1 Tanh", True),
        ("3 Linear → 4 GELU", False),
    ]
    assert not before.fused
    assert {site.reason for site in before} == {
        "fuse() does it",
        "GELU is not among the activations that can be fused",
    }
    assert len(after.left) == 1
    assert str(after).splitlines() == [
        "2 of 3 Linear + activation fused",
        "FusedSequential: 0 Linear → 1 ReLU: fused",
        "FusedSequential: 2.0 Linear → 2.1 Tanh: fused",
        "FusedSequential: 3 Linear → 4 GELU: not fused: GELU is not among the activations that can be fused",
    ]


def test_report_says_what_runs() -> None:
    """As many fused rows as activations in the operators that run."""
    for name, (make, operators) in MODELS.items():
        ran = sum(activation != "identity" for names in operators for activation in names)
        if name not in (
            "a forward of its own",
            "layers used twice",
        ):  # whose modules run more often than they are listed
            assert len(fusion_report(fuse(make())).fused) == ran, name
