"""A fault of a GPU is final for the process that meets it: what is left to do goes on in a new one."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import torch


def is_lost() -> bool:
    """Whether the device answers this process no more, as after an access to memory that is not there."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def go_on(**options: object) -> NoReturn:
    """Begin this program anew in the same process's place, with the same arguments and then these."""
    print("the device is lost to this process: going on in a new one", flush=True)
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], *words])
