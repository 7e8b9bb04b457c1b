"""A pytest plugin: torch's operators on the stand-in device (`pytest -p stand_in`)."""

from __future__ import annotations

import os

import torch

torch.ops.load_library(os.path.join(os.environ["FUSED_GAN_STAND_IN"], "operators.so"))
