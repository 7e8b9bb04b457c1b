"""Tunes the products of the benchmark's layers on a GPU and keeps what it finds as it goes.

python -m benchmarks.gpu_tune FILE [--seconds N]
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import torch

import fused_gan
from benchmarks.gpu_cases import PRECISIONS

WIDTHS = (
    (100, 256), (256, 512), (512, 1024), (1024, 784), (784, 1024), (1024, 512), (512, 256), (1024, 1024), (128, 784),
    (4096, 4096), (1024, 4096),
)  # fmt: skip
BATCHES = (64, 1024, 8192, 256)  # first those that the benchmark times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="of measured plans; what it holds already is kept")
    parser.add_argument("--seconds", type=float, default=480, help="no layer begins after so long")
    arguments = parser.parse_args()

    start, done, cases = time.monotonic(), 0, list(product(BATCHES, WIDTHS, PRECISIONS))
    while done < len(cases) and time.monotonic() - start < arguments.seconds:
        batch, widths, precision = cases[done]
        precision.apply()
        for record in fused_gan.autotune([(batch, *widths)], [precision.dtype], path=arguments.file):
            print(record, flush=True)
        torch.cuda.empty_cache()
        done += 1
    print(f"{done} of {len(cases)} layers measured")
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(main())
