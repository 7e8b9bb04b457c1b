"""What the health monitor saw of layers, a number a run. What is not finite says nothing, and is left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fused_gan.study.result import Result


def is_finite(look: dict[str, Any]) -> bool:
    """Whether all is finite that tells of gradients and outputs: shares of units of others mean nothing."""
    kinds = ("gradient_norms", "network_norms", "dead", "saturated", "negative")
    values = [value for kind in kinds for value in look[kind].values()]
    return all(map(math.isfinite, [*values, look["diversity"]]))


def weakest_shares(results: Iterable[Result], when: str) -> list[float]:
    """Of each run whose look is finite, the `weakest_share` at the start or at the end."""
    looks = [getattr(result, when) for result in results]
    return [weakest_share(look) for look in looks if is_finite(look)]


def worst_shares(results: Iterable[Result], kind: str) -> list[float]:
    """Of each run whose last look is finite, the largest share of dead, saturated or negative units in a hidden layer;
    none of a run no layer of which can have such.
    """
    return [max(result.end[kind].values()) for result in results if result.end[kind] and is_finite(result.end)]


def weakest_share(look: dict[str, Any]) -> float:
    """Gradient of a network's weakest layer over that of its strongest, root mean squares; the smallest of networks.

    Args:
        look: a finite one.
    """
    shares = []
    for network in look["network_norms"]:
        norms = [norm for name, norm in look["gradient_norms"].items() if name.startswith(f"{network}.")]
        shares.append(min(norms) / max(norms) if max(norms) > 0 else 0.0)
    return min(shares, default=math.nan)
