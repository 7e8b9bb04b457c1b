"""On CPU the plan follows what was measured there, every kernel that it may choose gives the right numbers, and a run
keeps the choices that it was begun with.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import fused_gan
from fused_gan import tuning
from fused_gan.ops.library import native
from fused_gan.ops.processor import processor
from fused_gan.training import CheckpointError, Checkpoints, load_checkpoint, resume
from fused_gan.tuning import Findings, Record
from fused_gan.tuning.plan_files import layer_product
from helpers.cases import Shape, arguments
from helpers.chains import CHAINS, Chain, assert_chain_equals_layers, parameters
from helpers.saved import last_state
from helpers.small_runs import QUIET, options, run
from helpers.tolerance import assert_equivalent, first_order

LAYER = (70, 64, 48)  # samples, inputs, outputs: large enough for every kernel
CAPABILITY = native.cpu_capability()
on_tiles = pytest.mark.skipif(not CAPABILITY.startswith("amx"), reason="no tiles in use here")


def record(direction: str, shape: tuple[int, int, int], kernel: str, precision: str = "float32") -> Record:
    samples, inputs, outputs = shape
    columns, depth = (outputs, inputs) if direction == "forward" else (inputs, outputs)
    return Record(precision, direction, samples, columns, depth, True, True, kernel, 1, 1.0, 2.0)


def findings(*records: Record, threads: int | None = None) -> Findings:
    """As if measured here."""
    return Findings(processor(), CAPABILITY, threads or torch.get_num_threads(), records)


def of_chain(widths: tuple[int, ...], samples: int, kernel: str, precision: str) -> Findings:
    """The kernel for every product of a chain that it can run."""
    shapes = [(samples, ins, outs) for ins, outs in pairwise(widths)]
    return findings(
        *(
            record(direction, shape, kernel, precision)
            for shape in shapes
            for direction in ("forward", "backward")
            if (kernel, "") in native.cpu_candidates((precision, direction, *shape))
        )
    )


@pytest.fixture(params=["blocks", pytest.param("tiles", marks=on_tiles), "library"])
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kernel, chosen for the layer's forward and backward."""
    chosen: str = request.param
    with tuning.following(*(findings(record(way, LAYER, chosen)) for way in ("forward", "backward"))) as refused:
        assert not refused
        yield chosen


@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_layer_on_every_kernel(kernel: str, activation: str, bias: bool) -> None:
    for direction in ("forward", "backward"):
        assert native.cpu_decision(("float32", direction, *LAYER)) == (kernel, True)
    assert_equivalent(first_order, arguments(Shape(LAYER[:1], *LAYER[1:]), bias=bias), activation, luck=2)


def test_kernels_that_take_turns_in_a_chain() -> None:
    """What one layer leaves packed is not what a layer on another kernel takes."""
    chain = Chain((100, 256, 512, 70, 300, 784), ("relu", "tanh", "leaky_relu", "relu", "sigmoid"))
    others = ["library", "tiles"] if CAPABILITY.startswith("amx") else ["library"]
    for kernel in others:
        for first in (0, 1):
            shapes = [(70, ins, outs) for ins, outs in pairwise(chain.widths)][first::2]
            chosen = findings(*(record(way, shape, kernel) for way in ("forward", "backward") for shape in shapes))
            with tuning.following(chosen) as refused:
                assert not refused
                tensors = (torch.randn(70, 100), *parameters(chain, torch.float32))
                assert_chain_equals_layers(chain, tensors, torch.float32)


@pytest.mark.parametrize("setting", ["bf16", "tf32"])
def test_torchs_product_is_not_chosen_where_it_may_use_fewer_digits(setting: str) -> None:
    """It then is oneDNN's in bfloat16, whose results may depend on memory around the operands."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    with tuning.following(findings(record("forward", LAYER, "library"))):
        torch.backends.mkldnn.matmul.fp32_precision = setting
        try:
            precision = native.cpu_precision("float32")
            assert precision == f"float32 as {'bfloat16' if setting == 'bf16' else 'tf32'}"
            assert native.cpu_decision((precision, "forward", *LAYER))[0] != "library"
            reasons = dict(native.cpu_candidates((precision, "forward", *LAYER)))
            assert "memory around the operands" in reasons["library"]
        finally:
            torch.backends.mkldnn.matmul.fp32_precision = before
        assert native.cpu_decision(("float32", "forward", *LAYER)) == ("library", True)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        ("blocks", torch.float32),
        pytest.param("tiles", torch.float32, marks=on_tiles),
        ("library", torch.float32),
        ("library", torch.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_a_chain_on_every_kernel(name: str, kernel: str, dtype: torch.dtype) -> None:
    chain = CHAINS[name]
    plans = of_chain(chain.widths, 70, kernel, str(dtype).removeprefix("torch."))
    assert plans.records
    with tuning.following(plans) as refused:
        assert not refused
        assert_chain_equals_layers(chain, (torch.randn(70, chain.widths[0]), *parameters(chain, dtype)), dtype)


def test_torchs_product_obeys_autocast_and_grad_mode() -> None:
    """It is called below autograd and below autocast, and is to take part in neither."""
    x = torch.randn(LAYER[0], LAYER[1], requires_grad=True)
    w = torch.randn(LAYER[2], LAYER[1], requires_grad=True)
    with tuning.following(findings(record("forward", LAYER, "library"), record("backward", LAYER, "library"))):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = fused_gan.linear_act(x, w, None, "tanh")
            assert y.dtype == torch.bfloat16
        y = fused_gan.linear_act(x, w, None, "tanh")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            dx, dw = torch.autograd.grad(y, (x, w), torch.ones_like(y))
        assert (y.dtype, dx.dtype, dw.dtype) == (torch.float32,) * 3
        torch.testing.assert_close(y, torch.tanh(x @ w.t()))


# ---- whose choices are followed ----
def test_findings_hold_for_their_threads_and_their_processor(tmp_path: Path) -> None:
    product = ("float32", "forward", *LAYER)
    usual = native.cpu_decision(product)
    here = torch.get_num_threads()
    with tuning.following(findings(record("forward", LAYER, "library"), threads=here + 1)) as refused:
        assert not refused
        assert native.cpu_decision(product) == usual
        torch.set_num_threads(here + 1)
        try:
            assert native.cpu_decision(product) == ("library", True)
            assert "torch's product" in fused_gan.plan(LAYER).forward
            assert "as measured here" in fused_gan.plan(LAYER).forward
        finally:
            torch.set_num_threads(here)
    assert native.cpu_decision(product) == usual
    assert "by the table for" in fused_gan.plan(LAYER).forward
    measured = (record("forward", LAYER, "library"),)
    for other, reason in (
        (Findings("another one", CAPABILITY, here, measured), f"on another one, this is {processor()}"),
        (Findings(processor(), "sve", here, measured), f"with sve, here {CAPABILITY} is in use"),
    ):
        with tuning.following(other) as refused:
            assert refused == [f"measured {reason}"]
            assert native.cpu_decision(product) == usual
            assert not tuning.installed()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            record("forward", LAYER, "no_kernel"),
            "kernel: expected one of 'blocks', 'tiles', 'library', got",
        ),
        (record("sideways", LAYER, "blocks"), "direction: expected one of 'forward', 'backward', got 'sideways'"),
        (record("forward", LAYER, "library", "bfloat16"), "may depend on memory around the operands"),
        (record("forward", LAYER, "tiles", "float64"), "tiles"),
        (record("forward", LAYER, "blocks", "int8"), "precision: expected one of 'float32', 'float64'"),
    ],
    ids=["kernel", "direction", "torch in 16 bits", "tiles in float64", "precision"],
)
def test_what_cannot_run_is_refused_by_name(wrong: Record, message: str) -> None:
    right = record("forward", LAYER, "library")
    with tuning.following(findings(wrong, right)) as refused:
        assert len(refused) == 1
        assert message in refused[0]
        assert [one.records for one in tuning.installed()] == [(right,)]


# ---- autotune ----
def test_autotune_measures_keeps_and_follows(tmp_path: Path) -> None:
    path = tmp_path / "plans" / "cpu.json"
    shapes = [LAYER, (8, 5, 3)]
    before = tuning.installed()
    try:
        found = fused_gan.autotune(shapes, [torch.float32, torch.bfloat16], "cpu", path)
        kept = tuning.read(path)
        assert (kept.device, kept.facts) == (processor(), (CAPABILITY, torch.get_num_threads()))
        assert kept.records == tuple(found)
        assert len(found) == 8
        for one in found:
            product = layer_product(one.product)
            assert native.cpu_decision(product) == (one.kernel, True)
            assert (one.kernel, "") in native.cpu_candidates(product)
            assert one.microseconds > 0
            assert one.usual_microseconds > 0
        again = fused_gan.autotune([LAYER], [torch.float64], "cpu", path)
        assert tuning.read(path).records == (*found, *again)
        assert native.cpu_decision(layer_product(found[0].product)) == (found[0].kernel, True)
    finally:
        tuning.replace(*before)


def test_autotune_leaves_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    tuning.write(path, Findings("NVIDIA H100", 90, 132, ()))
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"plan\.json: expected what was measured on .*, got that of NVIDIA H100"):
        fused_gan.autotune([LAYER], [torch.float32], "cpu", path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (4, 4, 4.0), (4, -1, 4)], ids=str)
def test_autotune_names_a_shape_that_is_none(shape: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shapes: expected \(samples, in_features, out_features\), all ≥ 1, got"):
        fused_gan.autotune([shape], [torch.float32], "cpu", tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())


def test_what_was_installed_last_still_wins_when_it_is_installed_again() -> None:
    """GPUs of two names may have the same facts, which is all that the plan asks."""
    before = tuning.installed()
    one, other, newer = (findings(record("forward", LAYER, kernel)) for kernel in ("blocks", "library", "blocks"))
    try:
        tuning.replace(one, other, newer)
        assert native.cpu_decision(("float32", "forward", *LAYER)) == ("blocks", True)
        tuning.replace(*tuning.installed())
        assert native.cpu_decision(("float32", "forward", *LAYER)) == ("blocks", True)
        assert len(tuning.installed()) == 1
    finally:
        tuning.replace(*before)


@pytest.mark.parametrize(
    ("content", "environment"),
    [
        ('{"format": 1}', {}),
        ("{", {}),
        (None, {"HOME": None, "XDG_CACHE_HOME": None, "FUSED_GAN_PLANS": None}),
        ({"rows": 10**30}, {}),
        ({"units": 2**40}, {}),
        ({}, {"FUSED_GAN_CPU_CAPABILITY": "no such set"}),
    ],
    ids=["old format", "no JSON", "no home", "no such size", "no such number of threads", "no such instruction set"],
)
def test_the_package_imports_whatever_lies_in_the_cache(tmp_path: Path, content: Any, environment: dict) -> None:
    text = content
    if isinstance(content, dict):
        plan = tuning.to_json(findings(record("forward", LAYER, "library")))
        one = {**plan["records"][0], **{key: value for key, value in content.items() if key == "rows"}}
        text = json.dumps({"format": 2, **plan, **content, "records": [one]})
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    settings = os.environ | {"FUSED_GAN_PLANS": str(tmp_path)} | environment
    settings = {key: value for key, value in settings.items() if value is not None}
    program = "import os; os.getuid = lambda: 1234567; import fused_gan; print('imported')"
    run = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=False)
    assert run.stdout == "imported\n", run.stderr


# ---- a run ----
def of_the_run(kernel: str) -> Findings:
    """Another kernel than usual for every layer of the small run, whose last digits are others."""
    shapes = [(8, 4, 16), (8, 16, 64), (8, 64, 16), (8, 16, 1), (16, 64, 16), (16, 16, 1)]
    records = [record(way, shape, kernel) for shape in shapes for way in ("forward", "backward")]
    return findings(*records, threads=1)


def test_a_run_goes_on_with_the_choices_that_it_was_begun_with(tmp_path: Path, patches: str, interrupted: Any) -> None:
    plans = of_the_run("library")
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "usual", 40))
    with tuning.following(plans) as refused:
        assert not refused
        run("mlp-gan", options("mlp-gan", patches, tmp_path / "straight", 40))
        interrupted(20)
        run("mlp-gan", options("mlp-gan", patches, tmp_path / "stopped", 40))
    before = tuning.installed()
    assert plans not in before
    assert resume(tmp_path / "stopped", console=QUIET).steps_done == 40
    assert tuning.installed() == before
    assert last_state(tmp_path / "stopped") == last_state(tmp_path / "straight")
    config = load_checkpoint(Checkpoints(tmp_path / "stopped" / "checkpoints", keep=1).all()[-1]).config
    assert [tuning.from_json(content) for content in config["plans"]] == [plans]
    assert last_state(tmp_path / "straight") != last_state(tmp_path / "usual"), "the choice must matter here"


def test_what_was_measured_since_does_not_change_a_run(tmp_path: Path, patches: str, interrupted: Any) -> None:
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "straight", 40))
    interrupted(20)
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "stopped", 40))
    with tuning.following(of_the_run("library")):
        assert resume(tmp_path / "stopped", console=QUIET).steps_done == 40
        assert tuning.installed()
    assert last_state(tmp_path / "stopped") == last_state(tmp_path / "straight")


def test_a_run_on_other_threads_says_that_its_choices_are_for_others(
    tmp_path: Path, patches: str, interrupted: Any
) -> None:
    with tuning.following(of_the_run("library")):
        interrupted(20)
        run("mlp-gan", options("mlp-gan", patches, tmp_path / "stopped", 40))
    console = Console(record=True, width=200, quiet=False, file=io.StringIO())
    resume(tmp_path / "stopped", console=console, threads=2)
    assert "they were measured with 1 threads, and 2 run now" in console.export_text()


def test_broken_plans_in_a_checkpoint_are_named(
    tmp_path: Path, patches: str, interrupted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(20)
    run("mlp-gan", options("mlp-gan", patches, tmp_path / "stopped", 40))
    config = load_checkpoint(Checkpoints(tmp_path / "stopped" / "checkpoints", keep=1).all()[-1]).config
    assert config["plans"] == []
    monkeypatch.setattr(Checkpoints, "load", broken_plans(Checkpoints.load))
    with pytest.raises(CheckpointError, match="the measured plans in the checkpoint are broken"):
        resume(tmp_path / "stopped", console=QUIET)


def broken_plans(load: Any) -> Any:
    def loaded(self: Checkpoints, name: str | None) -> Any:
        checkpoint = load(self, name)
        checkpoint.config["plans"] = [{"device": "x"}]
        return checkpoint

    return loaded
