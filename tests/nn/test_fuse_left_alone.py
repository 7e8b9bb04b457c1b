"""What fuse() must not touch goes on as it is: each test fails if the layer's bare formula runs in its place."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from fused_gan.nn.fusing import fuse
from fused_gan.nn.fusion_report import fusion_report
from helpers.left_alone import AROUND, assert_left_alone, network, reasons, x
from helpers.networks import assert_same_step, operators_run

# ---- layers that are more than a Linear ---------------------------------------------------------------------------


class LoRALinear(nn.Linear):
    """An adapter: a low-rank product is added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.a, self.b = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input @ self.a.T @ self.b.T


class Wrapped(nn.Module):
    """An adapter around a Linear, as PEFT's."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, input: Tensor) -> Tensor:
        return self.base_layer(input) * self.scale


class Halved(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) / 2


def test_subclass_of_linear() -> None:
    assert_left_alone(network(LoRALinear(5, 5), nn.ReLU()), "LoRALinear is not nn.Linear itself")


def test_subclass_of_an_activation() -> None:
    assert_left_alone(network(nn.Linear(5, 5), Halved()), "Halved is not among the activations")


@pytest.mark.parametrize("adapted", [lambda _: LoRALinear(5, 5), Wrapped], ids=["subclass", "wrapper"])
def test_adapter_put_in_after_fusing(adapted: Callable[[nn.Linear], nn.Module]) -> None:
    fused = fuse(network(nn.Linear(5, 5), nn.ReLU()))
    fused(x())
    fused[3] = adapted(fused[3]).double()
    assert_same_step(fused, nn.Sequential(*copy.deepcopy(fused)), x())
    assert operators_run(fused, x()) == AROUND


def changed_weight(parametrise: Callable[[nn.Module], object]) -> nn.Linear:
    layer = nn.Linear(5, 5)
    parametrise(layer)
    return layer


def old_weight_norm(layer: nn.Module) -> None:
    nn.utils.weight_norm(layer)
    with torch.no_grad():
        layer.weight_g.mul_(2)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("parametrise", "reason"),
    [
        (parametrizations.spectral_norm, "ParametrizedLinear is not nn.Linear itself"),
        (parametrizations.weight_norm, "ParametrizedLinear"),
        (parametrizations.orthogonal, "ParametrizedLinear"),
        (nn.utils.spectral_norm, "hooks"),
        (old_weight_norm, "hooks"),
        (functools.partial(prune.random_unstructured, name="weight", amount=0.5), "hooks"),
    ],
    ids=["spectral norm", "weight norm", "orthogonal", "old spectral norm", "old weight norm", "pruned"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_parametrised_weight(parametrise: Callable[[nn.Module], object], reason: str, when: str) -> None:
    if when == "before":
        stock = network(nn.Linear(5, 5), nn.ReLU())
        parametrise(stock[3])
        fused = fuse(stock, inplace=True)
    else:
        fused = fuse(network(nn.Linear(5, 5), nn.ReLU()))
        fused(x())
        parametrise(fused[3])
    stock = nn.Sequential(*fused)
    inputs = x()
    results = []
    for model in (fused, stock):  # one after the other: a power iteration is a step, too
        model.zero_grad()
        model.eval()(inputs).square().sum().backward()
        results.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*results)
    assert operators_run(fused, inputs) == AROUND
    assert reason in reasons(fused)


def test_lazy_layer_before_and_after_its_first_call() -> None:
    fused = fuse(network(nn.LazyLinear(5), nn.ReLU()))
    assert "LazyLinear is not nn.Linear itself" in reasons(fused)
    assert operators_run(fused, x()) == AROUND
    assert operators_run(fused, x()) == [["tanh"], ["relu"], ["sigmoid"]], "it is an nn.Linear by now"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layer() -> None:
    quantize_dynamic = pytest.importorskip("torch.ao.quantization").quantize_dynamic
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Softmax(-1), nn.Sequential(nn.Linear(5, 5), nn.Tanh()))
    stock[3] = quantize_dynamic(stock[3], {nn.Linear})
    fused, inputs = fuse(stock), x().float()
    assert torch.equal(fused[3](inputs), stock[3](inputs))
    assert operators_run(fused, inputs) == [["relu"]]


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_sparse_weight() -> None:
    stock = network(nn.Linear(5, 5), nn.ReLU())
    stock[3].weight = nn.Parameter(stock[3].weight.detach().to_sparse_csr(), requires_grad=False)
    fused = fuse(stock, inplace=True)
    assert operators_run(fused, x()) == AROUND
    assert "weight is a Parameter, torch.sparse_csr" in reasons(fused)


@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_complex_network() -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.Tanh()).to(torch.complex64)
    inputs = torch.randn(6, 5, dtype=torch.complex64)
    torch.testing.assert_close(fuse(stock)(inputs), stock(inputs))


# ---- hooks --------------------------------------------------------------------------------------------------------

HOOKS: dict[str, Callable[[nn.Module, Callable[[], None]], object]] = {
    "forward": lambda m, f: m.register_forward_hook(lambda *_: f()),
    "forward that changes": lambda m, f: m.register_forward_hook(lambda module, args, output: (f(), output * 2)[1]),
    "forward pre": lambda m, f: m.register_forward_pre_hook(lambda *_: f()),
    "backward": lambda m, f: m.register_full_backward_hook(lambda *_: f()),
    "backward pre": lambda m, f: m.register_full_backward_pre_hook(lambda *_: f()),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", [3, 4], ids=["layer", "activation"])
@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_hook(register, place: int, when: str) -> None:  # type: ignore[no-untyped-def]
    model, seen = network(nn.Linear(5, 5), nn.ReLU()), []
    if when == "after":
        fuse(model, inplace=True)(x())
    handle = register(model[place], lambda: seen.append(1))
    fuse(model, inplace=True)
    assert_same_step(model, nn.Sequential(*copy.deepcopy(model)), x())
    seen.clear()
    assert operators_run(lambda: model(x()).sum().backward()) == AROUND
    assert seen == [1]
    assert "hooks" in reasons(model)
    handle.remove()
    assert operators_run(model, x()) == [["tanh"], ["relu"], ["sigmoid"]]


def test_hook_on_a_nested_sequential() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 5), nn.ReLU())).double()
    fused = fuse(model)
    assert operators_run(fused, x()) == [["tanh", "relu"]]
    fused[2].register_forward_hook(lambda module, args, output: output + 1)
    model[2].register_forward_hook(lambda module, args, output: output + 1)
    assert_same_step(fused, model, x())
    assert operators_run(fused, x()) == [["tanh"], ["relu"]]


@pytest.mark.parametrize("place", [3, 4], ids=["layer", "activation"])
def test_forward_replaced_on_the_instance(place: int) -> None:
    """As accelerate's hooks do it."""
    model = network(nn.Linear(5, 5), nn.ReLU())
    fused, inputs = fuse(model), x()
    fused(inputs)
    for m in (model, fused):
        m[place].forward = lambda input, forward=m[place].forward: forward(input) * 2
    torch.testing.assert_close(fused(inputs), model(inputs))
    assert operators_run(fused, inputs) == AROUND


def test_layer_compiled_by_itself() -> None:
    fused = fuse(network(nn.Linear(5, 5), nn.ReLU()))
    fused(x())
    fused[3].compile(backend="eager")
    assert operators_run(fused, x()) == AROUND
    fused[3]._compiled_call_impl = lambda input: input * 7  # what a call of a compiled module calls
    inputs = x()
    torch.testing.assert_close(fused[3:5](inputs), torch.relu(inputs * 7))


# ---- activations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [float("nan"), float("inf"), True, torch.tensor(0.2)], ids=str)
def test_slope_that_the_operator_does_not_take(slope: float) -> None:
    fused = fuse(network(nn.Linear(5, 5), nn.LeakyReLU(slope)))
    assert operators_run(fused, x()) == AROUND
    assert "a finite number is needed" in reasons(fused)


def test_slope_made_infinite_after_fusing() -> None:
    fused = fuse(network(nn.Linear(5, 5), nn.LeakyReLU(0.2)))
    fused(x())
    fused[4].negative_slope = float("inf")
    assert operators_run(fused, x()) == AROUND
    assert "its negative_slope is inf: a finite number is needed" in reasons(fused)


@pytest.mark.parametrize("activation", [nn.PReLU, nn.Hardswish, nn.LogSigmoid, nn.Softsign, nn.Softmax, nn.Tanhshrink])
def test_other_activation(activation: type[nn.Module]) -> None:
    assert_left_alone(network(nn.Linear(5, 5), activation()), f"{activation.__name__} is not among the activations")


def test_in_place_module_behind_the_last_linear() -> None:
    stock = network(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Dropout(0.3, inplace=True))
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["tanh"], ["tanh", "identity"], ["sigmoid"]]


# ---- inputs, shapes and neighbours ----------------------------------------------------------------------------------


def test_scripted_child() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(5, 5).double())
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), scripted, nn.ReLU()).double()
    fused = fuse(stock, inplace=True)
    assert operators_run(fused, x()) == [["relu"]]


def test_inputs_that_are_no_tensors() -> None:
    class Pair(nn.Module):
        def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
            return input, input

    fused = fuse(nn.Sequential(nn.Linear(5, 5), nn.ReLU(), Pair()))
    assert len(fused(torch.randn(2, 5))) == 2
    with pytest.raises(TypeError, match="linear"):
        fused("text")


def test_nested_tensor_as_input() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        inputs = torch.nested.nested_tensor([torch.randn(2, 5), torch.randn(3, 5)])
    stock = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    for ours, theirs in zip(fuse(stock)(inputs).unbind(), stock(inputs).unbind(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(1,), (1, 5)], ids=str)
def test_bias_that_broadcasts(shape: tuple[int, ...]) -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU()).double()
    late = fuse(stock)
    late(x())
    for model in (stock, late):
        model[2].bias = nn.Parameter(torch.full(shape, 0.5, dtype=torch.float64))
    for fused in (fuse(stock), late):
        assert_same_step(fused, stock, x())
        assert operators_run(fused, x()) == [["tanh"]]
        assert f"its bias has the shape {shape}, not (5,)" in reasons(fused)


def test_weight_that_is_no_matrix() -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.Tanh()).double()
    stock[0].weight, stock[0].bias = nn.Parameter(stock[0].weight[0].detach()), None
    inputs = x()
    assert torch.equal(fuse(stock)(inputs), stock(inputs))
    assert "its weight is not a matrix" in reasons(stock)


def test_weights_that_are_plain_attributes() -> None:
    """Hypernetworks set them anew for each call, and nothing tells when."""
    stock = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU()).double()
    fused = fuse(stock)
    fused(x())
    for model in (stock, fused):
        del model[2].weight
    inputs = x()
    for value in (0.5, 0.25):
        for model in (stock, fused):
            model[2].weight = torch.full((5, 5), value, dtype=torch.float64)
        torch.testing.assert_close(fused(inputs), stock(inputs))
    assert operators_run(fused, x()) == [["tanh"]]
    assert "its weight is not a parameter" in reasons(fused)


def test_report_counts_no_attention_as_an_activation() -> None:
    assert len(fusion_report(nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 1)))) == 0
    assert len(fusion_report(nn.Sequential(nn.Linear(4, 4), nn.Hardswish()))) == 1
