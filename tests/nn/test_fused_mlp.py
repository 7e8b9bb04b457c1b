"""FusedMLP: stock's network, one operator where that is the same, layer by layer where it is not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from fused_gan.nn import FusedMLP, FusedSequential
from fused_gan.ops.activations import ACTIVATIONS, make_module, values_of
from helpers.networks import assert_same_step, one_process, operators_run, recorded

WIDTHS = [5, 8, 7, 3]


def stock_mlp(activation: str = "relu", output_activation: str = "identity", slope: float = 0.01) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, name in enumerate([activation, activation, output_activation]):
        layers += [nn.Linear(WIDTHS[i], WIDTHS[i + 1]), make_module(name, values_of(name, slope))]
    return nn.Sequential(*layers[:-1] if output_activation == "identity" else layers)


def x() -> Tensor:
    return torch.randn(6, 5)


@pytest.mark.parametrize("output_activation", ACTIVATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_is_the_stock_network(activation: str, output_activation: str) -> None:
    torch.manual_seed(3)
    ours = FusedMLP(WIDTHS, activation, output_activation, 0.3)
    after = torch.rand(1)
    torch.manual_seed(3)
    stock = stock_mlp(activation, output_activation, 0.3)
    assert torch.equal(after, torch.rand(1)), "other random numbers were drawn"
    assert list(map(type, ours)) == list(map(type, stock))
    assert list(ours.state_dict()) == list(stock.state_dict())
    for (name, value), theirs in zip(ours.state_dict().items(), stock.state_dict().values(), strict=True):
        assert torch.equal(value, theirs), name
    inputs = x().double()
    ours_step, stock_step = ours.double(), nn.Sequential(*stock.double())
    torch.testing.assert_close(ours_step(inputs), stock_step(inputs))


def test_is_one_operator() -> None:
    assert operators_run(FusedMLP(WIDTHS, "tanh", "sigmoid"), x()) == [["tanh", "tanh", "sigmoid"]]
    assert operators_run(FusedMLP(WIDTHS, "leaky_relu", "leaky_relu", 0.2), x()) == [["leaky_relu"] * 3]


def test_one_layer_and_no_bias() -> None:
    model = FusedMLP([5, 3], output_activation="sigmoid", bias=False, dtype=torch.float64)
    assert list(model.state_dict()) == ["0.weight"]
    inputs = x().double()
    torch.testing.assert_close(model(inputs), torch.sigmoid(inputs @ model[0].weight.T))


@pytest.mark.parametrize("widths", [[5, 3], WIDTHS, [4] * 13], ids=["one layer", "three", "twelve"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_state_dict_with_the_keys_from_before_the_release(widths: list[int], bias: bool) -> None:
    model, other = FusedMLP(widths, bias=bias), FusedMLP(widths, bias=bias)

    def old(name: str) -> str:
        number, kind = name.split(".")
        return f"{int(number) // 2}.{kind}"

    state = {old(name): value for name, value in model.state_dict().items()}
    for network, prefix in ((other, ""), (nn.ModuleDict({"body": FusedMLP(widths, bias=bias)}), "body.")):
        network.load_state_dict({prefix + name: value for name, value in state.items()})
        for name, value in network.state_dict().items():
            assert torch.equal(value, model.state_dict()[name.removeprefix(prefix)]), name
    if len(widths) > 2:
        with pytest.raises(RuntimeError, match="Missing key"):
            other.load_state_dict(dict(list(state.items())[:-1]))


def test_a_part_of_a_state_dict_with_the_keys_from_before_the_release() -> None:
    model, other = (FusedMLP([4] * 4) for _ in range(2))
    state = {f"{index}.weight": layer.weight for index, layer in enumerate(model[::2])}
    missing, unexpected = other.load_state_dict(state | {"step": torch.ones(1)}, strict=False)
    assert missing == ["0.bias", "2.bias", "4.bias"]
    assert unexpected == ["step"]
    for ours, theirs in zip(other[::2], model[::2], strict=True):
        assert torch.equal(ours.weight, theirs.weight)


def test_a_state_dict_of_another_network_is_refused() -> None:
    other = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4))
    with pytest.raises(RuntimeError, match=r"Missing key.*2\.weight"):
        FusedMLP([4] * 3).load_state_dict(other.state_dict())


def test_parameters_reach_every_layer() -> None:
    model = FusedMLP(WIDTHS, "leaky_relu", "tanh", 0.3, dtype=torch.bfloat16, device="meta")
    assert list(map(type, model[1::2])) == [nn.LeakyReLU, nn.LeakyReLU, nn.Tanh]
    assert [layer.negative_slope for layer in model[1:5:2]] == [0.3, 0.3]
    assert all(layer.weight.dtype == torch.bfloat16 for layer in model[::2])
    assert model(torch.empty(2, 5, dtype=torch.bfloat16, device="meta")).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([],), "widths: expected at least two numbers"),
        (([4],), "widths"),
        (([4, 3], "relu", "swish"), "activation: expected one of 'identity'.* got 'swish'"),
        (([4, 3, 2], "swish"), "^activation: expected one of 'identity'.* got 'swish'"),
        (([4, 2], "swish"), "^activation: expected one of 'identity'.* got 'swish'"),
        (([4, 3, 2], "relu", "swish"), "^output_activation: expected one of 'identity'.* got 'swish'"),
        ((5,), "widths: expected at least two numbers .* got 5"),
        (([4, 3], "relu", "relu", float("inf")), "^negative_slope: expected a finite number, got inf"),
    ],
)
def test_bad_arguments(arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FusedMLP(*arguments)  # type: ignore[arg-type]


def test_parameters_of_either_activation() -> None:
    model = FusedMLP(WIDTHS, "softplus", "elu", beta=2.0, threshold=1.0, alpha=0.5, dtype=torch.float64)
    assert [(layer.beta, layer.threshold) for layer in model[1:5:2]] == [(2.0, 1.0)] * 2
    assert model[5].alpha == 0.5
    inputs = x().double()
    assert operators_run(model, inputs) == [["softplus", "softplus", "elu"]]
    assert_same_step(model, nn.Sequential(*copy.deepcopy(model)), inputs)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"alpha": 2.0}, ValueError, "^alpha: expected no value without 'elu' or 'celu' among .*'relu'.*, got 2.0$"),
        ({"activation": "elu", "beta": 2.0}, ValueError, "^beta: expected no value without 'softplus' among .*'elu'"),
        ({"activation": "celu", "alpha": 0}, ValueError, "^alpha: expected a finite number other than 0, got 0$"),
        (
            {"output_activation": "hardtanh", "min_val": 2},
            ValueError,
            r"^min_val: expected at most max_val \(1.0\), got 2",
        ),
        ({"alpa": 2.0}, TypeError, "^alpa: expected one of the parameters negative_slope, .*alpha.*, got an unknown"),
    ],
)
def test_parameters_that_are_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        FusedMLP(WIDTHS, **given)


def test_a_bias_that_broadcasts() -> None:
    """Stock takes it, the operator does not; it may come and go between two calls."""
    model, inputs = FusedMLP(WIDTHS, "tanh"), x()
    model(inputs)
    bias = model[2].bias
    for shape in ((1,), (1, 7)):
        model[2].bias = nn.Parameter(torch.full(shape, 0.5))
        assert_same_step(model.double(), nn.Sequential(*model), inputs.double())
        assert operators_run(model.float(), inputs) == [["tanh"]]
    model[2].bias = bias
    assert operators_run(model, inputs) == [["tanh", "tanh", "identity"]]


def test_slices_and_items() -> None:
    model = FusedMLP(WIDTHS, "tanh", "sigmoid")
    assert type(model[0]) is nn.Linear
    assert type(model[:4]) is FusedSequential
    inputs = x()
    torch.testing.assert_close(model[4:](model[:4](inputs)), model(inputs))
    assert operators_run(model[:4], inputs) == [["tanh", "tanh"]]


HOOKS = {
    "forward": lambda m, f: m.register_forward_hook(lambda *_: f()),
    "forward pre": lambda m, f: m.register_forward_pre_hook(lambda *_: f()),
    "backward": lambda m, f: m.register_full_backward_hook(lambda *_: f()),
    "backward pre": lambda m, f: m.register_full_backward_pre_hook(lambda *_: f()),
    "global forward": lambda m, f: nn.modules.module.register_module_forward_hook(
        lambda n, *_: f() if n is m else None
    ),
    "global forward pre": lambda m, f: nn.modules.module.register_module_forward_pre_hook(
        lambda n, *_: f() if n is m else None
    ),
    "global backward": lambda m, f: nn.modules.module.register_module_full_backward_hook(
        lambda n, *_: f() if n is m else None
    ),
}


@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_hooks_run_and_leave_no_trace(register) -> None:  # type: ignore[no-untyped-def]
    model, inputs, seen = FusedMLP(WIDTHS, "tanh"), x().requires_grad_(), []
    model(inputs)  # a plan without hooks is there already
    handle = register(model[2], lambda: seen.append(1))
    try:
        with recorded() as ran:
            model(inputs).sum().backward()
    finally:
        handle.remove()
    assert seen == [1]
    assert all(len(names) < 3 for names in ran), "a chain ran past the hook"
    assert operators_run(model, inputs) == [["tanh", "tanh", "identity"]]


def test_a_hook_changes_the_output() -> None:
    model, inputs = FusedMLP(WIDTHS, "tanh"), x()
    before = model(inputs)
    model[0].register_forward_hook(lambda module, args, output: output * 0)
    assert not torch.allclose(model(inputs), before)


def test_layers_replaced() -> None:
    model, inputs = FusedMLP(WIDTHS, "tanh").double(), x().double()
    model(inputs)
    model[2] = nn.Sequential(nn.Linear(8, 7), nn.Hardswish()).double()
    assert_same_step(model, nn.Sequential(*(copy.deepcopy(layer) for layer in model)), inputs)
    del model[4]
    assert model(inputs).shape == (6, 7)
    model.append(nn.Linear(7, 2).double())
    assert model(inputs).shape == (6, 2)


def test_parametrised_layer() -> None:
    model, inputs = FusedMLP(WIDTHS, "tanh"), x()
    before = model(inputs)
    nn.utils.parametrizations.spectral_norm(model[2])
    with torch.no_grad():
        model[2].parametrizations.weight.original.mul_(100)
    assert not torch.allclose(model(inputs), before)
    expected = inputs
    for layer in model.eval():
        expected = layer(expected)
    torch.testing.assert_close(model(inputs), expected)


def test_slopes_that_differ() -> None:
    model, inputs = FusedMLP(WIDTHS, "leaky_relu", "leaky_relu", 0.2).double(), x().double()
    model(inputs)
    model[3].negative_slope = 0.7
    assert operators_run(model, inputs) == [["leaky_relu", "leaky_relu", "leaky_relu"]]
    assert_same_step(model, nn.Sequential(*copy.deepcopy(model)), inputs)


def test_activation_changed() -> None:
    model, inputs = FusedMLP(WIDTHS), x()
    model(inputs)
    model[1] = nn.Tanh()
    assert operators_run(model, inputs) == [["tanh", "relu", "identity"]]


class Doubled(Tensor):
    """A tensor subclass with a mind of its own, as quantised weights and DTensors are."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        plain = [arg.as_subclass(Tensor) * 2 if isinstance(arg, cls) else arg for arg in args]
        return func(*plain, **(kwargs or {}))


def test_weight_of_another_class() -> None:
    model, inputs = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh()), x()
    fused = FusedSequential(*model)
    fused(inputs)
    weight = model[2].weight.detach().as_subclass(Doubled)
    del model[2]._parameters["weight"]
    model[2].weight = weight
    assert operators_run(fused, inputs) == [["relu"]]
    torch.testing.assert_close(fused(inputs), model(inputs))


def test_dtypes_that_differ_raise_as_stock() -> None:
    model = FusedMLP(WIDTHS)
    model[2].double()
    with pytest.raises((RuntimeError, TypeError), match="dtype"):
        model(x())


@pytest.mark.parametrize("children", [[], [2], [0, 2, 4]], ids=str)
def test_sharded_by_fsdp2(children: list[int]) -> None:
    model, inputs = FusedMLP(WIDTHS, "tanh"), x()
    stock = copy.deepcopy(model)
    with one_process() as mesh, recorded() as ran:
        for child in children:
            fully_shard(model[child], mesh=mesh)
        fully_shard(model, mesh=mesh)
        model(inputs).sum().backward()
        assert (ran == [["tanh", "tanh", "identity"]]) == (not children), "a chain ran past a child's unsharding"
        stock(inputs).sum().backward()
        for ours, theirs in zip(model.parameters(), stock.parameters(), strict=True):
            torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_have_their_own_weights(copied) -> None:  # type: ignore[no-untyped-def]
    model, inputs = FusedMLP(WIDTHS, "tanh"), x()
    before = model(inputs)
    twin = copied(model)
    assert type(twin) is FusedMLP
    assert torch.equal(twin(inputs), before)
    nn.init.zeros_(twin[4].weight)
    assert torch.equal(model(inputs), before)
    assert not torch.equal(twin(inputs), before)
    assert operators_run(twin, inputs) == [["tanh", "tanh", "identity"]]
