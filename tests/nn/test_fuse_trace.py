"""fuse(trace=True): ``F.relu(self.fc(x))`` in a forward of somebody's runs fused, and the forward does what it did."""

from __future__ import annotations

import copy
import pickle
import traceback
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fused_gan.nn.forward_source import rewritten
from fused_gan.nn.fusing import fuse, unfuse
from fused_gan.nn.fusion_report import fusion_report
from helpers.networks import assert_same_step, operators_run


def x() -> Tensor:
    return torch.randn(6, 5, dtype=torch.float64)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)
        self.out = nn.Linear(5, 5)
        self.act = nn.LeakyReLU(0.2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(F.relu(self.fc(x))))


class Functions(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc(x), inplace=True)
        x = F.leaky_relu(self.fc(x), 0.3)
        x = F.leaky_relu(self.fc(x), negative_slope=0.4, inplace=True)
        x = F.leaky_relu(self.fc(x), self.act.negative_slope)
        x = nn.functional.tanh(self.fc(x))
        return torch.sigmoid(self.out(x))


class Modules(Base):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"fc": nn.Linear(5, 5), "act": nn.Tanh()}).double()
        self.f = torch.relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.fc(x))
        x = self.inner.act(self.inner.fc(x))
        return self.f(self.out(x))


class Lines(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        x = F.relu(x)
        x = self.fc(x)
        x = self.act(x)
        x = self.out(x)
        return torch.tanh(x)


class Loop(Base):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 5) for _ in range(2)] + [nn.Bilinear(5, 5, 5)]).double()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:2]:
            x = torch.tanh(layer(x))
        return F.relu(self.layers[0](x))


class Hidden(Base):
    """Names that the class mangles, a closure, and super()."""

    def __init__(self) -> None:
        super().__init__()
        self.__fc = nn.Linear(5, 5).double()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.__fc(x))
        return super().forward(x) * FACTOR


FACTOR = 3


def with_a_closure() -> nn.Module:
    shift = torch.ones(5, dtype=torch.float64)

    class Closure(Base):
        def forward(self, x: Tensor, *, twice: bool = False) -> Tensor:
            x = F.relu(self.fc(x)) + shift
            return (lambda y: torch.tanh(self.out(y)))(x) * (2 if twice else 1)

    return Closure()


class Named(Base):
    """Names its own class."""

    def forward(self, x: Tensor) -> Tensor:
        x = super(Named, self).forward(torch.tanh(self.fc(x)))  # noqa: UP008
        return Named.tripled(x) if isinstance(self, Named) else x

    @staticmethod
    def tripled(x: Tensor) -> Tensor:
        return x * 3


def named_in_a_function() -> nn.Module:
    class Inner(Base):
        def forward(self, x: Tensor) -> Tensor:
            return super(Inner, self).forward(torch.tanh(self.fc(x)))  # noqa: UP008

    return Inner()


FORWARDS: dict[str, tuple[Callable[[], nn.Module], list[list[str]]]] = {
    "one expression": (Base, [["relu"], ["sigmoid"]]),
    "functions": (Functions, [["relu"], *[["leaky_relu"]] * 3, ["tanh"], ["sigmoid"]]),
    "modules": (Modules, [["leaky_relu"], ["tanh"], ["relu"]]),
    "lines": (Lines, [["relu"], ["leaky_relu"], ["tanh"]]),
    "loop": (Loop, [["tanh"], ["tanh"], ["relu"]]),
    "names": (Hidden, [["relu"]]),
    "closure": (with_a_closure, [["relu"], ["tanh"]]),
    "its own class": (Named, [["tanh"]]),
    "its own class in a function": (named_in_a_function, [["tanh"]]),
}
every_forward = pytest.mark.parametrize(("make", "operators"), FORWARDS.values(), ids=FORWARDS)


@every_forward
def test_runs_fused(make: Callable[[], nn.Module], operators: list[list[str]]) -> None:
    stock = make()
    fused = fuse(stock, trace=True)
    assert operators_run(fused, x()) == operators
    assert_same_step(fused, stock, x())
    assert not operators_run(fuse(stock), x()), "only with trace=True"
    assert isinstance(fused, type(stock))
    assert list(fused.state_dict()) == list(stock.state_dict())
    assert type(fuse(fused, inplace=True, trace=True)) is type(fused)
    assert type(unfuse(fused)) is type(stock)


@every_forward
def test_copies(make: Callable[[], nn.Module], operators: list[list[str]]) -> None:
    fused, inputs = fuse(make(), trace=True), x()
    twins = [copy.deepcopy(fused)]
    if "<locals>" not in type(unfuse(fused)).__qualname__:
        twins.append(pickle.loads(pickle.dumps(fused)))
    for twin in twins:
        assert operators_run(twin, inputs) == operators
        assert torch.equal(twin(inputs), fused(inputs))
        nn.init.zeros_(twin.fc.weight)
        assert fused.fc.weight.any()


@every_forward
def test_compiles(make: Callable[[], nn.Module], operators: list[list[str]]) -> None:
    torch.compiler.reset()
    fused, inputs = fuse(make(), trace=True), x()
    torch.testing.assert_close(torch.compile(fused, fullgraph=True, backend="aot_eager")(inputs), fused(inputs))


class Changing(Base):
    """All that a recording of the forward would freeze."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = 1.0
        self.calls = 0

    def forward(self, x: Tensor, gate: Tensor | None = None, skip: bool = False) -> Tensor:
        self.calls += 1
        x = F.dropout(F.relu(self.fc(x)), training=self.training)
        if gate is not None:
            x = x * gate
        if not isinstance(x, Tensor) or skip:
            return x
        return self.alpha * torch.tanh(self.out(x))


def test_control_flow_stays_alive() -> None:
    stock = Changing()
    fused, inputs = fuse(stock, trace=True), x()
    for training in (True, False):
        for gate in (None, torch.full((5,), 2.0, dtype=torch.float64)):
            for skip in (True, False):
                for alpha in (1.0, 3.0):
                    results = []
                    for model in (fused, stock):
                        model.train(training).alpha = alpha
                        torch.manual_seed(2)
                        results.append(model(inputs, gate, skip=skip))
                    torch.testing.assert_close(*results)
    assert fused.calls == stock.calls == 16


def test_what_a_call_finds_decides() -> None:
    stock = Base()
    fused, inputs = fuse(stock, trace=True), x()
    fused(inputs)
    for model in (stock, fused):
        model.fc.register_forward_hook(lambda module, args, output: output - 1)
        nn.utils.parametrizations.spectral_norm(model.out).eval()
    torch.testing.assert_close(fused(inputs), stock(inputs))
    assert operators_run(fused, inputs) == []
    assert {site.reason for site in fusion_report(fused).left} == {
        "it has hooks, or a forward of its own",
        "ParametrizedLinear is not nn.Linear itself",
    }


def test_global_hooks_run() -> None:
    fused, seen = fuse(Base(), trace=True), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: seen.append(module))
    try:
        assert operators_run(fused, x()) == []
    finally:
        handle.remove()
    assert [m for m in seen if isinstance(m, nn.Linear)] == [fused.fc, fused.out]


class Neighbours(Base):
    """What looks alike and is something else."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.bend = nn.LayerNorm(5).double(), nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(x))
        x = self.bend(self.fc(x))
        x = F.hardswish(self.fc(x))
        y = self.fc(x)
        z = torch.tanh(y)
        x = torch.sigmoid(torch.relu(x) + y + z)
        return F.leaky_relu(self.fc(x), True)


def test_what_looks_alike() -> None:
    stock = Neighbours()
    fused = fuse(stock, trace=True)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == []


class Peeking(Base):
    """Keeps an eye on a variable."""

    def forward(self, x: Tensor) -> Tensor:
        self.peek = lambda: x
        x = self.fc(x)
        return F.relu(x)


def test_a_variable_that_somebody_watches() -> None:
    fused, inputs = fuse(Peeking(), trace=True), x()
    fused(inputs)
    assert torch.equal(fused.peek(), fused.fc(inputs))


def test_tracers_see_the_stock_layers() -> None:
    fused = fuse(Base(), trace=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert "fused_gan::" not in str(torch.jit.trace(fused, x()).inlined_graph)
    program = torch.export.export(fused, (x(),), strict=True)
    assert not any("fused_gan" in str(node.target) for node in program.graph.nodes)


def decorated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, x: function(self, x) * 2


class Decorated(Base):
    @decorated
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(x))


class NoGrad(Base):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(x))


def typed_in() -> nn.Module:
    names = {"Base": Base, "F": F, "__name__": "typed_in"}
    exec("class Typed(Base):\n    def forward(self, x):\n        return F.relu(self.fc(x))", names)
    return names["Typed"]()  # type: ignore[operator]


@pytest.mark.parametrize("make", [Decorated, NoGrad, typed_in])
def test_source_that_cannot_be_relied_on(make: Callable[[], nn.Module]) -> None:
    stock, inputs = make(), x()
    fused = fuse(stock, trace=True)
    assert type(fused) is type(stock)
    assert torch.equal(fused(inputs), stock(inputs))
    (site,) = fusion_report(fused)
    assert not site.fused
    assert "its forward" in site.reason


def test_source_edited_since_the_import(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "edited_later.py"
    text = "import torch\nclass M(torch.nn.Module):\n  def forward(self, x):\n    return torch.relu(self.fc(x)) * 2\n"
    file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import edited_later  # type: ignore[import-not-found]

    file.write_text(text.replace("* 2", "* 3"))
    assert (
        rewritten(edited_later.M.forward, frozenset()) == "the source of its forward is not at hand, or not what runs"
    )


def test_traceback_names_the_line() -> None:
    with pytest.raises((ValueError, RuntimeError)) as error:
        fuse(Base(), trace=True)(torch.randn(2, 4, dtype=torch.float64))
    frames = [frame for frame in traceback.extract_tb(error.value.__traceback__) if frame.filename == __file__]
    assert "F.relu(self.fc(x))" in (frames[-1].line or "")


def test_report() -> None:
    stock = Lines()
    line = Lines.forward.__code__.co_firstlineno
    assert [(s.where, s.what) for s in fusion_report(nn.ModuleDict({"net": stock}))] == [
        (f"net.forward, line {line + 2}", "self.fc → F.relu"),
        (f"net.forward, line {line + 4}", "self.fc → self.act"),
        (f"net.forward, line {line + 6}", "self.out → torch.tanh"),
    ]
    assert {site.reason for site in fusion_report(stock)} == {"fuse(..., trace=True) does it"}
    assert fusion_report(fuse(stock, trace=True)).left == []
