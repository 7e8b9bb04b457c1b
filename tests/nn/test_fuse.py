"""fuse() makes a model of somebody else's faster and leaves everything else about it as it was; so does unfuse()."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fused_gan.nn import FusedLinear, FusedMLP, FusedSequential
from fused_gan.nn.fusing import fuse, unfuse
from fused_gan.nn.fusion_report import fusion_report
from fused_gan.ops.activations import ACTIVATIONS, make_module, values_of
from helpers.fused_models import MODELS, RELU, every_make, every_model, x
from helpers.networks import assert_same_step, operators_run, step
from helpers.tolerance import assert_all_as_close_as_stock


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
    stock = nn.Sequential(nn.Linear(5, 4), make_module(activation, values_of(activation, 0.3))).double()
    assert operators_run(fuse(stock), x().double()) == [[activation]]
    assert_same_step(fuse(stock), stock, x().double(), activation)


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
    assert isinstance(fused, FusedSequential)


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


def test_unfuse_of_layers_of_ours() -> None:
    for ours in (FusedMLP([5, 4, 3]), FusedSequential(nn.Linear(5, 3), nn.ReLU())):
        stock = unfuse(ours)
        assert type(stock) is nn.Sequential
        assert list(stock.state_dict()) == list(ours.state_dict())
        inputs = x().float()
        torch.testing.assert_close(stock(inputs), ours(inputs))


def test_unfuse_names_what_it_cannot_undo() -> None:
    model = nn.Sequential(fuse(nn.Sequential(nn.Linear(5, 5), nn.ReLU())), FusedLinear(5, 3))
    nn.utils.parametrize.register_parametrization(model[0][0], "weight", nn.Identity())
    with pytest.warns(UserWarning, match="^unfuse: 1 stays a FusedLinear$"):
        assert type(unfuse(model)[0]) is nn.Sequential  # a parametrised child is no obstacle

    model[0].register_buffer("scale", torch.ones(3))
    nn.utils.parametrize.register_parametrization(model[0], "scale", nn.Identity())
    with pytest.warns(UserWarning, match="unfuse: 0 stays a ParametrizedSequential, 1 stays a FusedLinear"):
        unfuse(model)


# ---- copies, gradients of gradients, casts --------------------------------------------------------------------------

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


def test_moves_and_casts_after_fusing() -> None:
    fused = fuse(MODELS["a chain"][0]())
    assert fused.to(torch.bfloat16)(x().bfloat16()).dtype == torch.bfloat16
    assert fused.to("meta")(torch.empty(6, 5, dtype=torch.bfloat16, device="meta")).shape == (6, 3)
    assert fused.to_empty(device="cpu").float()(x()).shape == (6, 3)


# ---- the report ---------------------------------------------------------------------------------------------------


def test_report() -> None:
    model = nn.Sequential(
        nn.Linear(5, 5),
        nn.ReLU(),
        nn.Sequential(nn.Linear(5, 5), nn.Tanh()),
        nn.Linear(5, 5),
        nn.Hardswish(),
        nn.Softmax(),
    )
    before, after = fusion_report(model), fusion_report(fuse(model))
    assert [(site.what, site.fused) for site in after] == [
        ("0 Linear → 1 ReLU", True),
        ("2.0 Linear → 2.1 Tanh", True),
        ("3 Linear → 4 Hardswish", False),
    ]
    assert not before.fused
    assert {site.reason for site in before} == {
        "fuse() does it",
        "Hardswish is not among the activations that can be fused",
    }
    assert len(after.left) == 1
    assert str(after).splitlines() == [
        "2 of 3 Linear + activation fused",
        "FusedSequential: 0 Linear → 1 ReLU: fused",
        "FusedSequential: 2.0 Linear → 2.1 Tanh: fused",
        "FusedSequential: 3 Linear → 4 Hardswish: not fused: Hardswish is not among the activations that can be fused",
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
