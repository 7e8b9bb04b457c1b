"""Seeds of independent streams of random numbers."""

from __future__ import annotations

import hashlib
import numbers

from fused_gan.base.errors import require

END = 2**63  # the first number that the int64 of a file does not hold


def require_seed(seed: object) -> None:
    """Raise `UserError` unless a seed is an integer that each file can hold. Called before a command makes anything."""
    fine = not isinstance(seed, bool) and isinstance(seed, numbers.Integral) and 0 <= int(seed) < END
    require(fine, f"seed: expected an integer of 0 … 2⁶³ − 1, got {seed!r}")


def stream_seed(seed: int, stream: str) -> int:
    """Return a seed for one purpose ("weights", "training", "samples"), so that no two purposes share random numbers.

    With one seed for all purposes, the first weights, the first noise and the first samples would be the same numbers.

    Raises:
        UserError: the seed is not one that `require_seed` takes.
    """
    require_seed(seed)
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:7], "big")
