"""A pytest plugin: torch's operators on the stand-in device (`pytest -p stand_in`)."""

from __future__ import annotations

import os

import torch

import fused_gan

torch.ops.load_library(os.path.join(os.environ["FUSED_GAN_STAND_IN"], "operators.so"))
if not torch.cuda.is_available() or fused_gan.build_info()["cuda"] is None:
    raise RuntimeError("the stand-in device is not there: its libraries were not preloaded, or this build has no CUDA")
