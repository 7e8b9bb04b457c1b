"""Measures which kernel is the fastest for a product, and keeps what it finds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from fused_gan.tuning import plan_files
from fused_gan.tuning.cpu import CpuTuner
from fused_gan.tuning.cuda import CudaTuner
from fused_gan.tuning.plan_files import Findings, Record


def autotune(
    shapes: Iterable[tuple[int, int, int]],
    dtypes: Iterable[torch.dtype] = (torch.bfloat16, torch.float16, torch.float32),
    device: torch.device | str = "cuda",
    path: Path | str | None = None,
) -> list[Record]:
    """Measure every kernel on the products of some layers, forward and backward, and follow the fastest from now on.

    The findings are kept in a file for this kind of device, which `import fused_gan` reads, each as soon as it is
    known. float32 is measured as PyTorch's precision settings want it when this is called. On CPU they hold for the
    number of threads that torch runs when this is called, and the last digits of a result may then depend on it. Layers
    are measured one by one: what a chain hands over packed from one to the next does not count.

    Args:
        shapes: of layers: (samples, in_features, out_features).
        dtypes: to measure in.
        device: a CUDA device, or "cpu".
        path: of the file, which holds what was measured on one kind of device (of a CPU: with one number of threads);
            one in FUSED_GAN_PLANS or in the user's cache, named after the device, if None.

    Returns:
        One record a product: the fastest kernel, its time and that of what runs where nothing was measured.

    Raises:
        RuntimeError: there is no CUDA device, or this build has no CUDA kernels.
        ValueError: a shape is not three positive numbers; the file holds something else, or what was measured
            on another kind of device.
    """
    shapes = list(shapes)
    for shape in shapes:
        if len(shape) != 3 or any(not isinstance(size, int) or size < 1 for size in shape):
            raise ValueError(f"shapes: expected (samples, in_features, out_features), all ≥ 1, got {shape!r}")
    where = torch.device(device)
    tuner: CpuTuner | CudaTuner = CpuTuner() if where.type == "cpu" else CudaTuner(where)
    file = Path(path) if path is not None else plan_files.path_for(tuner.file_name)
    # A file of something else is refused before anything is measured.
    findings = plan_files.read_for(file, tuner.name, tuner.facts)
    before = plan_files.installed()
    records = []
    try:
        with torch.no_grad(), torch.autocast(where.type, enabled=False):
            for record in tuner.records(shapes, tuple(dtypes)):
                records.append(record)
                findings = plan_files.add(file, Findings(tuner.name, *tuner.facts, (record,)))
    finally:  # measuring has left its candidates in the plan
        plan_files.replace(*before, findings)
    return records
