"""Activations are at most twice as far from the truth as stock's, in units of the last place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import fused_gan
from helpers.cases import CURVED, DTYPES
from helpers.tolerance import activated, needs_longdouble, operators, wide, wide_activation

RANGES = {
    "around 0": (-1e-3, 1e-3),
    "the unit interval": (-1.0, 1.0),
    "around tanh's seam": (0.8, 1.0),
    "where it bends": (-6.0, 6.0),
    "where tanh is nearly 1": (4.0, 25.0),
    "far to the left": (-86.0, -15.0),
    "far to the right": (15.0, 120.0),
}
COUNT = 20_000
# Without fused multiply-add, as the portable kernels may have to do, each step rounds once more.
TIMES_STOCK = 2.2 if fused_gan.build_info()["cpu_capability"] == "portable" else 2
EXTRA = 0.51  # of a unit: what rounding the exact value costs, so that stock's luck where all is 1 is no standard
# Stock's e^x - 1 is nearly always the nearest number. Around 0, gelu's cdf lies below 1/2, whose units are half as
# large.
EXTRAS = {"elu": 1.3, "selu": 1.3, "celu": 1.3, "gelu": 3.7}


def units_off(result: Tensor, truth: np.ndarray) -> np.ndarray:
    """The error of each element in units of the last place that the truth has in result's dtype."""
    info = torch.finfo(result.dtype)
    exponent = np.floor(np.log2(np.maximum(np.abs(truth), info.smallest_normal)))
    return np.abs(wide(result) - truth) / (np.exp2(exponent) * info.eps)


@needs_longdouble
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("activation", CURVED)
@pytest.mark.parametrize("bounds", RANGES.values(), ids=RANGES)
def test_error_in_units_of_the_last_place(
    bounds: tuple[float, float], activation: str, dtype: torch.dtype, device: torch.device
) -> None:
    z = torch.empty(COUNT, dtype=torch.float64).uniform_(*bounds).to(device, dtype)
    truth, _ = wide_activation(activation, wide(z))
    ours, stock = (units_off(activated(operator, z)[0], truth) for operator in operators(activation))
    allowed = max(TIMES_STOCK * stock.max(), EXTRAS.get(activation, EXTRA))
    assert ours.max() <= allowed, f"max {ours.max():.2f} units, stock {stock.max():.2f}"
    rms, stock_rms = (float(np.sqrt(np.mean(np.square(units)))) for units in (ours, stock))
    assert rms <= max(TIMES_STOCK * stock_rms, EXTRA / 3), f"rms {rms:.3f} units, stock {stock_rms:.3f}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_monotone_and_bounded(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    """Neighbouring steps of a fine grid never go down by more than a unit, also over the seams, and never pass 1."""
    y = activated(operators(activation)[0], torch.linspace(-40, 40, 200_001, dtype=dtype, device=device))[0]
    assert (y.diff() >= -torch.finfo(dtype).eps * y[1:].abs()).all()
    assert y.max() == 1
    assert y.min() >= (-1 if activation == "tanh" else 0)


def test_tanh_is_odd(device: torch.device) -> None:
    z, tanh = torch.randn(1001, device=device) * 3, operators("tanh")[0]
    assert torch.equal(activated(tanh, -z), -activated(tanh, z))
