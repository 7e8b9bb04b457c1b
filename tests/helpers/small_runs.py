"""For the tests of whole runs: small systems with checkpoints close together. Imports little: processes import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fused_gan.training import configure, resume, train

QUIET = Console(quiet=True)
SMALL: dict[str, dict[str, Any]] = {
    "mlp-gan": {"generator_widths": (16,), "discriminator_widths": (16,), "z_dim": 4},
    "dcgan": {"width": 4, "z_dim": 4},
    "cgan": {"generator_widths": (16,), "discriminator_widths": (16,), "z_dim": 4},
    "wgan": {"generator_widths": (16,), "discriminator_widths": (16,), "z_dim": 4},
    "wgan-gp": {"generator_widths": (16,), "discriminator_widths": (16,), "z_dim": 4},
    "mlp-vae": {"widths": (16,), "z_dim": 4, "ema_decay": 0.9},
}


def write_patches(path: Path) -> str:
    """A small data set: 60 random images of 8×8 pixels in 3 classes. Returns the path."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(60) % 3)
    return str(path)


def options(name: str, data: str, out: Path, steps: int, **changes: Any) -> Any:
    """A preset for a small run with checkpoints close together."""
    intervals = {"log_interval": 5, "sample_interval": 20, "checkpoint_interval": 10, "health_interval": 15}
    fields = SMALL[name] | intervals | {"tensorboard": False, "batch_size": 8, "threads": 1, "device": "cpu"}
    return configure(name, data=data, out=out, steps=steps, **fields | changes)


def run(name: str, preset: Any) -> None:
    train(name, preset.model, preset.training, QUIET)


def go_on(out: str) -> None:
    resume(Path(out), console=QUIET)
