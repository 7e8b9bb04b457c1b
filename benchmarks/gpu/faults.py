"""Continues in a new process after a fault of the GPU, which the process that meets it cannot survive."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import torch


def is_lost() -> bool:
    """Whether this process has lost the device, as after an access to invalid memory."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def go_on(**options: object) -> NoReturn:
    """Replace this process by a new run of the program, with the same arguments and then these options."""
    print("the device is lost to this process: going on in a new one", flush=True)
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], *words])
