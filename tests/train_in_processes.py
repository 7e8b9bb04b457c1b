"""For test_processes.py: train small systems, in as many processes as the launcher started."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from test_resume import SMALL, options

from fused_gan.training import train

PRESETS = [name for name in SMALL if name != "dcgan"]  # BatchNorm's statistics are each process's own


def main(data: str, out: Path) -> None:
    for name in PRESETS:
        preset = options(name, data, out / name, 20, dtype="float64", instance_noise=0.5) if "vae" not in name else None
        preset = preset or options(name, data, out / name, 20, dtype="float64")
        train(name, preset.model, preset.training, Console(quiet=True))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
