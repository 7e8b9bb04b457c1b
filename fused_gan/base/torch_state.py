"""torch's global settings, as this package needs them while it makes or measures something.

Others in the process may have changed them: a default dtype or device, gradients that are off, autocast, a float32
that may be multiplied in 16 bits. Weights, samples and scores must not depend on that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Run the block, or the decorated function, with float32 and the CPU as defaults, with gradients on, and without
    autocast.

    Afterwards the settings are as they were.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Run the block, or the decorated function, with products of float32 in float32.

    ``torch.set_float32_matmul_precision("medium")`` lets linear layers and ``torch.cdist`` multiply in bfloat16 on a
    CPU with AMX, which gives distinct points a distance of 0.
    """
    settings: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    with contextlib.ExitStack() as stack:
        for setting in settings:
            before = setting.fp32_precision
            if before != "ieee":
                stack.callback(setattr, setting, "fp32_precision", before)
                setting.fp32_precision = "ieee"
        yield


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Run the block, or the decorated function, as `torch_defaults` and `exact_float32` do: for scores."""
    with torch_defaults(), exact_float32():
        yield
