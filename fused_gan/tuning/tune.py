"""Defines `autotune`, which measures the fastest kernel for a product, and keeps the findings in a file."""

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

    Each finding is written at once into a file for this kind of device, which `import fused_gan` reads. The precision
    of float32 is that of PyTorch's settings at the call. On CPU the findings hold for the number of threads that
    torch runs when this is called, and the last digits of a result may then depend on this number. Layers are measured
    one by one, so what the layers of a chain save by handing over packed batches does not count.

    Args:
        shapes: of layers: (samples, in_features, out_features).
        dtypes: dtypes of the layers.
        device: a CUDA device, or "cpu".
        path: path of the file, which holds what was measured on one kind of device (on a CPU: with one number of
            threads). None takes a file named after the device in FUSED_GAN_PLANS or in the user's cache.

    Returns:
        One record per product: the fastest kernel, its time, and the time of the kernel that runs without findings.

    Raises:
        RuntimeError: there is no CUDA device, or this build has no CUDA kernels.
        ValueError: a shape is not three positive numbers; or the file does not hold measured plans of this format, or
            holds those of another kind of device.
    """
    shapes = list(shapes)
    for shape in shapes:
        if len(shape) != 3 or any(not isinstance(size, int) or size < 1 for size in shape):
            raise ValueError(f"shapes: expected (samples, in_features, out_features), all ≥ 1, got {shape!r}")
    where = torch.device(device)
    tuner: CpuTuner | CudaTuner = CpuTuner() if where.type == "cpu" else CudaTuner(where)
    file = Path(path) if path is not None else plan_files.path_for(tuner.file_name)
    # A file with other content is refused before anything is measured.
    findings = plan_files.read_for(file, tuner.name, tuner.facts)
    before = plan_files.installed()
    records = []
    try:
        with torch.no_grad(), torch.autocast(where.type, enabled=False):
            for record in tuner.records(shapes, tuple(dtypes)):
                records.append(record)
                findings = plan_files.add(file, Findings(tuner.name, *tuner.facts, (record,)))
    finally:  # measuring leaves its candidates in the plan
        plan_files.replace(*before, findings)
    return records
