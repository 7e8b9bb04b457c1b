"""Which kernel multiplies float32 on CUDA follows PyTorch's precision settings, whichever API they were made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import fused_gan
from fused_gan.ops import cuda_plan
from fused_gan.ops.library import native

pytestmark = pytest.mark.skipif(fused_gan.build_info()["cuda"] is None, reason="a build without CUDA has no plan")

matmul = torch.backends.cuda.matmul
H100 = (90, 132)


def old(name: str, value: object) -> Callable[[], None]:
    return lambda: setattr(matmul, name, value)


SETTINGS = {
    "untouched": (lambda: None, "float32"),
    "set_float32_matmul_precision('highest')": (lambda: torch.set_float32_matmul_precision("highest"), "float32"),
    "set_float32_matmul_precision('high')": (lambda: torch.set_float32_matmul_precision("high"), "tf32"),
    "set_float32_matmul_precision('medium')": (lambda: torch.set_float32_matmul_precision("medium"), "tf32"),
    "cuda.matmul.allow_tf32 = True": (old("allow_tf32", True), "tf32"),
    "cuda.matmul.allow_tf32 = False": (old("allow_tf32", False), "float32"),
    "cuda.matmul.fp32_precision = 'tf32'": (lambda: setattr(matmul, "fp32_precision", "tf32"), "tf32"),
    "cuda.matmul.fp32_precision = 'ieee'": (lambda: setattr(matmul, "fp32_precision", "ieee"), "float32"),
    "backends.fp32_precision = 'tf32'": (lambda: setattr(torch.backends, "fp32_precision", "tf32"), "tf32"),
    "backends.fp32_precision = 'ieee'": (lambda: setattr(torch.backends, "fp32_precision", "ieee"), "float32"),
}


@pytest.fixture(autouse=True)
def settings_as_they_were() -> Iterator[None]:
    everywhere, here = torch.backends.fp32_precision, matmul.fp32_precision
    torch.backends.fp32_precision = matmul.fp32_precision = "none"  # nothing said, as in a new process
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision, matmul.fp32_precision = everywhere, here


@pytest.mark.parametrize("setting", SETTINGS)
def test_float32_is_multiplied_as_set(setting: str) -> None:
    make, precision = SETTINGS[setting]
    make()
    for direction in ("forward", "backward"):
        product = cuda_plan.product("float32", direction, 4096, 4096, 4096, True)
        assert product[0] == precision
        kernels = {kernel for kernel, _, _, obstacle in native.cuda_candidates(product, H100) if not obstacle}
        # float32 has no wgmma kernel, and tf32 has one forward.
        wgmma = fused_gan.build_info()["wgmma"] and precision == "tf32" and direction == "forward"
        assert ("wgmma_128x256" in kernels) == wgmma


@pytest.mark.parametrize(
    ("size", "precision"),
    [
        ((16, 512, 512), "tf32"),
        ((15, 512, 512), "float32"),
        ((4096, 511, 4096), "float32"),
        ((4096, 4096, 511), "float32"),
    ],
    ids=str,
)
def test_small_products_stay_in_float32_as_cublass_do(size: tuple[int, int, int], precision: str) -> None:
    torch.set_float32_matmul_precision("high")
    for direction in ("forward", "backward"):
        assert cuda_plan.product("float32", direction, *size, True)[0] == precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_16_bits_are_multiplied_as_they_are(setting: str, dtype: str) -> None:
    SETTINGS[setting][0]()
    assert cuda_plan.product(dtype, "forward", 64, 512, 1024, True)[0] == dtype
