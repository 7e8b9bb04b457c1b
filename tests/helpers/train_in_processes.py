"""For training/test_processes.py: train small systems, in as many processes as the launcher started."""

from __future__ import annotations

import sys
from pathlib import Path

from helpers.small_runs import SMALL, options, run

PRESETS = [name for name in SMALL if name != "dcgan"]  # BatchNorm's statistics are each process's own


def main(data: str, out: Path) -> None:
    for name in PRESETS:
        noise = {} if name.endswith("vae") else {"instance_noise": 0.5}
        run(name, options(name, data, out / name, 20, dtype="float64", **noise))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
