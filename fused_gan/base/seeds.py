"""Seeds of independent streams of random numbers."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, stream: str) -> int:
    """Return a seed for one purpose ("weights", "training", "samples"), so that no two purposes share random numbers.

    With one seed for all purposes, the first weights, the first noise and the first samples would be the same numbers.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:7], "big")
