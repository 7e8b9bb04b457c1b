"""Each verdict of the health monitor is provoked by a run built to fail that way; a healthy run gets none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from fused_gan import FusedSequential
from fused_gan.data import ImageData, load
from fused_gan.systems.monitor import HINTS, Look, Monitor, Units, Verdict, diversity
from fused_gan.training import GAN, VAE, build_system, configure, train

GAN_SIZES: dict[str, Any] = {"z_dim": 16, "generator_widths": (64, 128), "discriminator_widths": (128, 64)}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("mnist-5k")


def judged(data: ImageData, preset: str, steps: int, interval: int, **fields: Any) -> list[list[Verdict]]:
    """The verdicts of each look at a run."""
    found = configure(preset, steps=steps, batch_size=32, **fields)
    system = build_system(found.model, found.training, data, torch.device("cpu"))
    monitor = Monitor(system)
    verdicts = []
    for step in range(1, steps + 1):
        system.step()
        if step % interval == 0:
            verdicts.append(monitor.look()[1])
    return verdicts


def names(verdicts: list[list[Verdict]]) -> set[str]:
    return {verdict.name for look in verdicts for verdict in look}


# name → a run that fails in this way: preset, steps, steps between looks, fields
FAILING: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    # A derivative of at most ¼ a layer, times small weights: eight layers of it.
    "vanishing": ("mlp-gan", 30, 10, GAN_SIZES | {"activation": "sigmoid", "generator_widths": (32,) * 8}),
    # A critic that nothing bounds makes its scores, and so the gradients, ever larger.
    "exploding": ("wgan", 40, 2, GAN_SIZES | {"weight_clip": 0.0, "lr": 3e-2, "optimizer": "adam", "n_critic": 1}),
    # Steps so large that most units are thrown to where no image activates them.
    "dead units": ("mlp-vae", 20, 2, {"activation": "relu", "lr": 0.05}),
    # D learns, G hardly does.
    "D won": ("mlp-gan", 300, 60, GAN_SIZES | {"instance_noise": 0.0, "lr": 1e-6, "discriminator_lr": 2e-3}),
    # Steps so large that every hidden unit of G saturates, and all noise gives the same image.
    "collapsed": ("mlp-gan", 200, 40, GAN_SIZES | {"activation": "sigmoid", "lr": 0.3, "discriminator_lr": 2e-4}),
    # A KL a thousand times as dear as the picture.
    "posterior collapse": ("mlp-vae", 200, 40, {"beta": 1000.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", HINTS)
def test_each_verdict_is_provoked(digits: ImageData, name: str) -> None:
    preset, steps, interval, fields = FAILING[name]
    verdicts = judged(digits, preset, steps, interval, **fields)
    assert name in names(verdicts)
    found = next(verdict for look in verdicts for verdict in look if verdict.name == name)
    assert any(character.isdigit() for character in found.evidence), "the evidence is numbers"
    assert str(found) == f"{name}: {found.evidence}; {HINTS[name]}"


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("mlp-gan", GAN_SIZES | {"generator_widths": (128, 256), "discriminator_widths": (256, 128)}),
        ("wgan-gp", GAN_SIZES | {"n_critic": 2}),
        ("mlp-vae", {}),
        ("cgan", GAN_SIZES),
    ],
    ids=str,
)
def test_a_healthy_run_gets_no_verdict(digits: ImageData, preset: str, fields: dict[str, Any]) -> None:
    assert names(judged(digits, preset, 400, 80, **fields)) == set()


def test_a_look_changes_nothing(digits: ImageData) -> None:
    def weights(looks: bool, preset: str) -> torch.Tensor:
        found = configure(preset, steps=9, **({"width": 4} if preset == "dcgan" else {}))
        system = build_system(found.model, found.training, digits, torch.device("cpu"))
        monitor = Monitor(system)
        for _ in range(6):
            system.step()
            if looks:
                monitor.look()
        tensors = [tensor for network in system.networks.values() for tensor in network.state_dict().values()]
        return torch.cat([tensor.double().flatten() for tensor in tensors])

    torch.manual_seed(3)
    for preset in ("dcgan", "mlp-vae"):  # with BatchNorm's averages, and without
        assert torch.equal(weights(True, preset), weights(False, preset))


def test_units_are_counted_layer_by_layer() -> None:
    hidden, flat = nn.Linear(4, 8), nn.Linear(8, 6)
    behind = [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2), nn.Sigmoid()]
    network = FusedSequential(hidden, nn.ReLU(), flat, nn.Tanh(), *behind)
    with torch.no_grad():
        hidden.bias.copy_(torch.tensor([-100.0] * 3 + [100.0] * 5))  # three are dead
        flat.weight.zero_()
        flat.bias.copy_(torch.tensor([100.0, -100.0, 0, 0, 0, 0]))  # two of six are saturated
        network[4].bias.fill_(-100)
    units = Units()
    with units.watched("g", network, output_is_last=True):
        network(torch.randn(50, 4))
    assert units.dead == pytest.approx({"g.1": 3 / 8, "g.5": 1.0})
    assert units.saturated == pytest.approx({"g.3": 2 / 6})
    network(torch.randn(50, 4) * 1e6)
    assert units.saturated == pytest.approx({"g.3": 2 / 6}), "outside of it nothing is watched"


def test_units_of_leaky_relu_that_are_negative_on_all_images_are_counted_and_are_not_dead() -> None:
    network = FusedSequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([-100.0] * 3 + [100.0] * 5))
    units = Units()
    with units.watched("g", network):
        network(torch.randn(50, 4))
    assert units.negative == pytest.approx({"g.1": 3 / 8})
    assert units.dead == units.saturated == {}


def test_of_outputs_that_are_not_finite_no_share_is_given() -> None:
    layers = [nn.ReLU(), nn.LeakyReLU(), nn.Tanh()]
    units = Units()
    with units.watched("g", nn.Sequential(*layers, nn.Linear(4, 1))):
        for layer, worst in zip(layers, (math.inf, -math.inf, math.nan), strict=True):
            layer(torch.full((50, 4), worst))
    assert list(units.dead) == ["g.0"]
    shares = [*units.dead.values(), *units.negative.values(), *units.saturated.values()]
    assert len(shares) == 3
    assert all(map(math.isnan, shares))


def test_a_gradient_that_is_not_finite_makes_no_other_vanish(digits: ImageData) -> None:
    found = configure("mlp-gan", device="cpu")
    monitor = Monitor(build_system(found.model, found.training, digits, torch.device("cpu")))
    look = Look(1, {"g.0": 1.0, "g.1": math.inf}, {"g.0": math.nan, "g.1": 1.0}, {}, {"g": math.inf})
    found_wrong = {verdict.name: verdict for verdict in monitor._suspicious(look)}
    assert found_wrong.keys() == {"exploding", "dead units"}
    assert "100% of g.1 is dead" in str(found_wrong["dead units"])


def test_what_is_usual_is_judged_by_finite_gradients_alone(digits: ImageData) -> None:
    found = configure("mlp-gan", device="cpu")
    monitor = Monitor(build_system(found.model, found.training, digits, torch.device("cpu")))
    for norm in (1.0, math.nan, math.inf, 2.0, math.inf, 3.0):
        monitor._judge(Look(1, {"g.0": norm}, {}, {}, {"g": norm}))
    [verdict] = monitor._judge(Look(7, {"g.0": 1.0}, {}, {}, {"g": 500.0}))
    assert verdict.evidence == "the gradient of g has norm 500, usually 2"


def test_diversity_by_hand() -> None:
    images = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]).reshape(3, 1, 1, 2)
    assert diversity(images) == pytest.approx((5 + 5 + 0) / 3)


@pytest.mark.parametrize(("suspicious", "told"), [([1, 1, 1], 1), ([1, 1, 0, 1, 1], 0), ([1, 1, 1, 1], 2), ([0, 0], 0)])
def test_a_verdict_needs_looks_in_a_row(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch, suspicious: list[int], told: int
) -> None:
    found = configure("mlp-gan", **GAN_SIZES)
    system = build_system(found.model, found.training, digits, torch.device("cpu"))
    system.step()
    monitor, at = Monitor(system), iter(suspicious)
    wrong = Verdict("collapsed", "0 %")
    monkeypatch.setattr(monitor, "_suspicious", lambda look: [wrong] * next(at))
    assert sum(bool(monitor.look()[1]) for _ in suspicious) == told


def collapsing(monkeypatch: pytest.MonkeyPatch, when: Callable[[int], bool]) -> None:
    """The monitor finds samples collapsed after the steps that `when` names, and never else."""

    def suspicious(monitor: Monitor, look: Look) -> list[Verdict]:
        return [Verdict("collapsed", "samples differ 1%")] if when(look.step) else []

    monkeypatch.setattr(Monitor, "_suspicious", suspicious)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Train a small GAN, and return the result and what was printed."""
    np.savez(tmp_path / "p.npz", images=np.random.default_rng(0).integers(0, 256, (50, 6, 6), dtype=np.uint8))

    def train_small(**fields: Any) -> Any:
        sizes = {"z_dim": 4, "generator_widths": (8,), "discriminator_widths": (8,)}
        intervals = {"log_interval": 5, "checkpoint_interval": 10, "health_interval": 5, "sample_interval": 0}
        found = configure(
            "mlp-gan", data=str(tmp_path / "p.npz"), out=tmp_path / "run", steps=60, tensorboard=False, device="cpu",
            **sizes, **intervals, **fields,
        )  # fmt: skip
        console = Console(record=True, width=200, file=(tmp_path / "log").open("w"))
        return train("mlp-gan", found.model, found.training, console), console.export_text()

    return train_small


def test_a_warning_is_told_and_written_and_the_run_goes_on(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapsing(monkeypatch, lambda step: step <= 20)
    result, text = run()
    assert (result.steps_done, result.stopped_by_verdict) == (60, False)
    assert f"step 15: collapsed: samples differ 1%; {HINTS['collapsed']}" in text
    lines = [json.loads(line) for line in (tmp_path / "run" / "health.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["verdicts"]] == [15, 20]
    told = {"name": "collapsed", "evidence": "samples differ 1%", "hint": HINTS["collapsed"]}
    assert lines[2]["verdicts"] == [told]


def test_stop_stops(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    collapsing(monkeypatch, lambda step: step > 20)
    result, _ = run(on_collapse="stop")
    assert (result.steps_done, result.stopped_by_verdict) == (35, True)
    assert [verdict.name for verdict in result.verdicts] == ["collapsed"]


def test_rollback_goes_back_to_the_last_unsuspected_checkpoint_with_other_noise(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[int, bytes]] = []
    step = GAN.step

    def noted(gan: GAN) -> None:
        states.append((gan.steps_done, gan.random.get_state().numpy().tobytes()))
        step(gan)

    monkeypatch.setattr(GAN, "step", noted)
    failures = iter([True] * 3 + [False] * 100)
    collapsing(monkeypatch, lambda step: step > 20 and next(failures))
    result, text = run(on_collapse="rollback")
    assert result.steps_done == 60
    assert "step 35: rolled back to step 20, going on with other noise" in text
    assert [step for step, _ in states] == [*range(35), *range(20, 60)]
    at_20 = [state for step, state in states if step == 20]
    assert at_20[0] != at_20[1]


def test_rollback_gives_up_after_three_times(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    collapsing(monkeypatch, lambda step: step > 20)
    result, text = run(on_collapse="rollback")
    assert text.count("rolled back to step 20") == 3
    assert (result.steps_done, result.stopped_by_verdict) == (35, True)


def test_a_vaes_latent_dimensions_are_watched(digits: ImageData) -> None:
    found = configure("mlp-vae", z_dim=5, steps=10)
    vae = build_system(found.model, found.training, digits, torch.device("cpu"))
    assert isinstance(vae, VAE)
    vae.step()
    look, _ = Monitor(vae).look()
    assert len(look.kl) == 5
    linears = {"encoder": (1, 3, 5, 7), "decoder": (0, 2, 4, 6)}
    assert set(look.gradient_norms) == {f"vae.{part}.{i}" for part, numbers in linears.items() for i in numbers}
