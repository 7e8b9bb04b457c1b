"""Tunes the products of the benchmark's layers on a GPU, and writes each finding at once.

python -m benchmarks.gpu.tune FOLDER [--seconds N]
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import torch

import fused_gan
from benchmarks.gpu import faults
from benchmarks.gpu.cases import PRECISIONS, Precision, golden_section_order
from fused_gan import tuning
from fused_gan.ops import cuda_plan
from fused_gan.tuning import Findings
from fused_gan.tuning.cuda import products

WIDTHS = (
    (100, 256), (256, 512), (512, 1024), (1024, 784), (784, 1024), (1024, 512), (512, 256), (1024, 1024), (128, 784),
    (4096, 4096), (1024, 4096),
)  # fmt: skip
BATCHES = (64, 1024, 8192)  # batches of the benchmark's layers and chains
STEP_BATCHES = (256,)  # batches of its steps

Layer = tuple[tuple[int, int, int], Precision]


def layers() -> list[Layer]:
    """Return the layers in the order of measuring, which soon covers all sizes, as time may not suffice for all."""
    found = []
    for batches in (BATCHES, STEP_BATCHES):
        found += golden_section_order(product(batches, WIDTHS, PRECISIONS))
    return [((batch, *widths), precision) for batch, widths, precision in found]


def is_known(layer: Layer, findings: Findings) -> bool:
    """Whether both products of a layer have been measured. The caller has applied the precision."""
    shape, precision = layer
    measured = {record.product for record in findings.records}
    return all(what in measured for what, _ in products([shape], (precision.dtype,)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of measured plans; what it holds of this GPU is not measured again")
    parser.add_argument("--seconds", type=float, default=480, help="no layer begins after so long")
    parser.add_argument("--begin", type=int, default=0, help="go on with this layer, the first being 0")
    for what in ("measured", "known", "failed"):
        parser.add_argument(f"--{what}", type=int, default=0, help="how many were so before this process")
    arguments = parser.parse_args()

    deadline = time.monotonic() + arguments.seconds
    measured, known, failed = arguments.measured, arguments.known, arguments.failed
    name, facts = torch.cuda.get_device_name(), cuda_plan.capability("cuda")
    path = arguments.folder / tuning.file_name(name)
    wanted = layers()
    for index, layer in enumerate(wanted):
        if index < arguments.begin:
            continue
        shape, precision = layer
        precision.apply()
        if is_known(layer, tuning.read_for(path, name, facts)):
            known += 1
            continue
        if time.monotonic() > deadline:
            continue
        try:
            for record in fused_gan.autotune([shape], [precision.dtype], path=path):
                print(record, flush=True)
            measured += 1
        except Exception as error:  # the other layers are still measured; the program fails in the end
            failed += 1
            print(f"FAILED {shape}, {precision.name}: {type(error).__name__}: {error}", flush=True)
            if faults.is_lost():
                seconds = deadline - time.monotonic()
                faults.go_on(begin=index + 1, measured=measured, known=known, failed=failed, seconds=seconds)
        torch.cuda.empty_cache()
    left = len(wanted) - measured - known - failed
    print(f"{measured} of {len(wanted)} layers measured, {known} known before, {failed} failed, {left} left")
    return 1 if failed or not measured + known else 0


if __name__ == "__main__":
    raise SystemExit(main())
