"""Training in one process or several. Accelerate finds out how they were launched; each takes its rows of the batch.

Every process draws the random numbers of the whole batch from the same stream, and uses its own rows of them. So the
number of processes changes results only by the order of summation.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import distributed

from fused_gan.base.errors import require
from fused_gan.systems.config import Precision

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_OF_LAUNCHERS = (*_SIZES, *_RANKS, "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# What `accelerate launch` and sites set for trainers that Accelerate is to change, and values that ask for nothing.
_OF_OTHER_TRAINERS = (
    "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM", "ACCELERATE_USE_SAGEMAKER",
    "ACCELERATE_USE_PARALLELISM_CONFIG", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_DYNAMO_BACKEND",
)  # fmt: skip
_NOTHING = ("", "0", "1", "no", "false")


def make_accelerator(device: torch.device, mixed_precision: Precision = "no") -> Accelerator:
    """Return this process's accelerator: one of several under `torchrun` or `accelerate launch`, otherwise alone.

    Raises:
        UserError: the precision needs a CUDA device, and `device` is another.
    """
    require(
        mixed_precision != "fp16" or device.type == "cuda",
        f"mixed_precision: fp16 needs a CUDA device, got {device}; bf16 works on the CPU",
    )
    together = launched()
    # Accelerate remembers the first settings of the process and refuses others, but a second run may have others.
    AcceleratorState._reset_state(reset_partial_state=not together)
    names = _OF_OTHER_TRAINERS if together else (*_OF_OTHER_TRAINERS, *_OF_LAUNCHERS)
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    if together:
        # Before there is a group: its functions have the group of the time of the import as their default, and DDP
        # imports it. They would hold the group to the end of the process.
        importlib.import_module("torch.distributed.nn.functional")
        atexit.unregister(_leave)
        atexit.register(_leave)
    try:
        return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision, device_placement=False)
    finally:
        os.environ.update(hidden)


def _leave() -> None:
    """Leave the group of processes. Without that, gloo's threads abort a process that ends, even after an error.

    The threads end with the last object that holds the group, as a wrapped network of a finished run does. Networks and
    their hooks refer to each other, so it takes a collection to let go of them before the interpreter ends.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def launched() -> bool:
    """Whether a launcher started this process as one of several: it says how many, which one, and where they meet.

    Sites set some of these variables for every process. Accelerate would wait for others then, who never come.
    """
    return bool(_sizes()) and any(name in os.environ for name in _RANKS) and "MASTER_ADDR" in os.environ


def ignored_launcher() -> str | None:
    """Return in words which variable speaks of several processes, where this one computes alone; None without one."""
    if launched() or not (sizes := _sizes()):
        return None
    [(name, value), *_] = sizes.items()
    return f"{name}={value} is set, but no rank and MASTER_ADDR, so this process computes alone"


def ignored_settings() -> str | None:
    """Return in words which variables ask Accelerate for what the trainer has its own options for; None without one."""
    found = {name: value for name in _OF_OTHER_TRAINERS if (value := os.environ.get(name, "")).lower() not in _NOTHING}
    if not found:
        return None
    texts = ", ".join(f"{name}={value}" for name, value in found.items())
    return f"not heeded: {texts}; precision and accumulation are options of the command, and processes share batches"


def _sizes() -> dict[str, str]:
    """Return the variables that speak of more than one process."""
    return {name: value for name in _SIZES if (value := os.environ.get(name, "")).isdecimal() and int(value) > 1}


def own_rows(accelerator: Accelerator, batch_size: int, microbatches: int) -> list[slice]:
    """Return the rows of a batch that this process works on, one slice per microbatch.

    Raises:
        UserError: the batch cannot be shared equally.
    """
    count = accelerator.num_processes * microbatches
    require(
        batch_size % count == 0,
        f"batch_size: {batch_size} cannot be shared equally by {accelerator.num_processes} processes in {microbatches} "
        "parts",
    )
    size = batch_size // count
    first = accelerator.process_index * microbatches
    return [slice((first + index) * size, (first + index + 1) * size) for index in range(microbatches)]
