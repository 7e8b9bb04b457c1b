"""The package knows what it was built from, and says so when it does not fit."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import fused_gan
from fused_gan import _C, FusedLinear
from fused_gan.ops import activations
from helpers.cases import ACTIVATION_NAMES, DTYPES

PACKAGE = Path(fused_gan.__file__).parent


# ---- the list of activations ---------------------------------------------------------------------------------------


def test_both_lists_of_activations_agree() -> None:
    """csrc/activations.h and fused_gan/ops/activations.py, names and order."""
    assert tuple(activations.ACTIVATIONS) == _C.activations


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_function_and_module_of_an_activation_agree(name: str) -> None:
    z = torch.linspace(-3, 3, 101)
    values = activations.values_of(name, 0.3)
    assert torch.equal(activations.apply(name, z, values), activations.make_module(name, values)(z))


def test_both_sides_have_the_same_parameters() -> None:
    ours = tuple(tuple(row.parameters.items()) for row in activations.ACTIVATIONS.values())
    assert ours == _C.activation_parameters
    assert max(map(len, ours)) <= activations.OWN_NUMBERS


def test_default_slope_is_one_number() -> None:
    assert inspect.signature(fused_gan.linear_act).parameters["negative_slope"].default == nn.LeakyReLU().negative_slope


# ---- facts ----------------------------------------------------------------------------------------------------------


def test_build_info() -> None:
    info = fused_gan.build_info()
    assert info["torch"] == torch.__version__
    assert info["cpu_capability"] in ("amx", "amx_model", "avx512", "avx2", "portable")
    assert info["threads"] == torch.get_num_threads()
    assert info["activations"] == tuple(ACTIVATION_NAMES)
    assert (info["cuda"] is None) == (info["cuda_architectures"] is None)
    assert {"compiler", "cxx_flags"} <= info.keys()
    json.dumps(info)


def test_build_info_is_a_copy() -> None:
    fused_gan.build_info()["torch"] = "changed"
    assert fused_gan.build_info()["torch"] == torch.__version__


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 0, 0), (1, 4, 5), (64, 784, 256), (2**20, 2**12, 2**12)], ids=str)
def test_plan(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    plan = fused_gan.plan(shape, dtype=dtype)
    assert (plan.shape, plan.dtype, plan.device) == (shape, dtype, "cpu")
    assert plan.forward
    assert plan.backward
    tiny = dtype.itemsize == 2 and math.prod(shape) <= 16**3
    assert tiny == ("torch's products" in plan.backward)
    wide = dtype in (torch.float32, torch.float64) or "avx512_bf16" in plan.backward or tiny
    capability = fused_gan.build_info()["cpu_capability"]
    if capability.startswith("amx") and dtype.itemsize == 2 and not tiny:
        assert f"on tiles ({capability})" in plan.forward
        assert f"on tiles ({capability})" in plan.backward
        return
    assert wide != ("widened to float32" in plan.backward)
    if not capability.startswith("amx"):
        assert capability in str(plan)
    else:  # tiles stand before the kernels of another set
        assert any(f"({name})" in str(plan) for name in ("avx512", "avx2", "portable"))


def test_plan_of_a_layer() -> None:
    layer = FusedLinear(30, 20, dtype=torch.float64)
    assert fused_gan.plan(layer, 64) == fused_gan.plan((64, 30, 20), dtype=torch.float64)
    assert fused_gan.plan(layer, 64, torch.float32).dtype == torch.float32


def test_plan_tells_shapes_apart() -> None:
    few, many = fused_gan.plan((1, 64, 64)), fused_gan.plan((512, 512, 512))
    assert few.forward != many.forward
    assert "shared by all threads" in many.forward
    assert "on one thread" in few.forward


# ---- import ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the installed package that a test may break; it comes first in `imported`'s path."""
    copy = tmp_path / "fused_gan"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


# An editable install's finder would serve what the copy lacks.
IMPORT = """import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path.insert(0, sys.argv[1])
import fused_gan
print(fused_gan.__file__)"""


def imported(package: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT, str(package.parent)]
    return subprocess.run(command, capture_output=True, text=True, cwd=package.parent, timeout=120)


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 1, run.stdout
    return run.stderr.strip().splitlines()[-1]


def test_the_copy_is_what_is_imported(package: Path) -> None:
    run = imported(package)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).parent == package


def test_import_with_another_torch_is_refused_by_name(package: Path) -> None:
    facts = json.loads((package / "build.json").read_text())
    (package / "build.json").write_text(json.dumps({**facts, "torch": "1.2.3+other"}))
    message = last_line(imported(package))
    assert message.startswith("ImportError: fused_gan was built against torch 1.2.3+other")
    assert f"torch {torch.__version__} is imported" in message
    assert "pip install --no-build-isolation" in message


def test_torch_is_compared_before_anything_is_loaded(package: Path) -> None:
    """Another torch lacks symbols: whatever is loaded first would fail with those, and not with the two versions."""
    facts = json.loads((package / "build.json").read_text())
    (package / "build.json").write_text(json.dumps({**facts, "torch": "1.2.3+other"}))
    for library in package.glob("*.so"):
        library.write_bytes(b"no library")
    assert last_line(imported(package)).startswith("ImportError: fused_gan was built against torch 1.2.3+other")


@pytest.mark.parametrize("missing", ["libfused_gan.so", "build.json", "_C*.so"])
def test_what_is_not_built_is_named(missing: str, package: Path) -> None:
    for file in package.glob(missing):
        file.unlink()
    message = last_line(imported(package))
    assert message.startswith("ImportError: fused_gan is not built: ")
    assert missing.split("*")[0] in message
    assert message.endswith("pip install --no-build-isolation --force-reinstall --no-deps .")


def test_sources_that_hide_an_installed_package_are_named(package: Path) -> None:
    (package.parent / "setup.py").touch()
    for file in package.glob("*.so"):
        file.unlink()
    message = last_line(imported(package))
    assert f"took the package from its sources in {package.parent}" in message
    assert message.endswith("pip install --no-build-isolation --editable .")


def test_what_is_built_wants_the_torch_that_it_is_built_for() -> None:
    """An extra whose packages want another torch would replace it, and the operators would refuse to load."""
    wanted = next(text for text in importlib.metadata.requires("fused_gan") or [] if text.startswith("torch="))
    assert wanted == f"torch=={torch.__version__.partition('+')[0]}"
