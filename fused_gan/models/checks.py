"""Checks that the configurations of the models share."""

from __future__ import annotations

import math

from fused_gan.base.errors import require
from fused_gan.ops.activations import ACTIVATIONS

# Activations whose outputs go down to -1 (elu and celu come as near to -1 as one likes). The lowest of the others' is
# -0.31, of mish, and real images of -1 would be out of reach.
_REACHES_MINUS_ONE = ("identity", "leaky_relu", "tanh", "hardtanh", "elu", "selu", "celu")


def require_positive(config: object, *names: str) -> None:
    """Raise `UserError` unless each field is a positive integer."""
    for name in names:
        value = getattr(config, name)
        require(_is_positive(value), f"{name}: expected a positive integer, got {value!r}")


def require_widths(config: object, *names: str) -> None:
    """Raise `UserError` unless each field is a tuple of positive integers."""
    for name in names:
        widths = getattr(config, name)
        require(isinstance(widths, tuple), f"{name}: expected a tuple of integers, got {widths!r}")
        for width in widths:
            require(_is_positive(width), f"{name}: expected a positive integer, got {width!r}")


def require_activations(config: object, *names: str) -> None:
    """Raise `UserError` unless each field is the name of an activation."""
    for name in names:
        value = getattr(config, name)
        require(value in ACTIVATIONS, f"{name}: expected one of {', '.join(ACTIVATIONS)}, got {value!r}")


def require_slope(config: object) -> None:
    """Raise `UserError` unless the field `negative_slope` is a finite number of at least 0."""
    slope = getattr(config, "negative_slope")  # noqa: B009  (the field of any configuration)
    require(
        isinstance(slope, (int, float)) and 0 <= slope < math.inf,
        f"negative_slope: expected a finite number of at least 0, got {slope!r}",
    )


def range_of(output_activation: str) -> tuple[float, float]:
    """Return (low, high) of images that a network with this last activation makes; real images are scaled to it."""
    return (-1.0, 1.0) if output_activation in _REACHES_MINUS_ONE else (0.0, 1.0)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
