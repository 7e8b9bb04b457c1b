"""One process or many: Accelerate finds out how it was launched, and each process takes its rows of the batch.

Every process draws the random numbers of the whole batch from the same stream and uses its own rows of them, so that
the number of processes changes no result beyond the order of summation.
"""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from fused_gan.base.errors import require
from fused_gan.systems.config import Precision


def make_accelerator(device: torch.device, mixed_precision: Precision = "no") -> Accelerator:
    """The accelerator of this process, as `torchrun` or `accelerate launch` set it up; alone without either.

    Raises:
        UserError: the precision needs a device that is not there.
    """
    require(
        mixed_precision != "fp16" or device.type == "cuda",
        f"mixed_precision: fp16 needs a CUDA device, got {device}; bf16 works on the CPU",
    )
    # Accelerate remembers the first settings in the process, and refuses others: a second run may have others.
    AcceleratorState._reset_state(reset_partial_state=not launched())
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision, device_placement=False)


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def own_rows(accelerator: Accelerator, batch_size: int, parts: int) -> list[slice]:
    """Which rows of a batch this process works on, in `parts` parts.

    Raises:
        UserError: the batch cannot be shared equally.
    """
    count = accelerator.num_processes * parts
    require(
        batch_size % count == 0,
        f"batch_size: {batch_size} cannot be shared equally by {accelerator.num_processes} processes in {parts} parts",
    )
    size = batch_size // count
    first = accelerator.process_index * parts
    return [slice((first + part) * size, (first + part + 1) * size) for part in range(parts)]
