"""What a training run is told besides its model."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import fused_gan
from fused_gan.errors import UserError, require


@dataclass(frozen=True)
class TrainingConfig:
    """Data, optimisation and what is written when.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    data: str = "mnist-5k"
    """mnist-5k, fashion-mnist, digits, an .npz with an array 'images', or a folder of IDX files."""

    steps: int = 6000
    """Training steps. One step updates the discriminator once and then the generator once."""

    batch_size: int = 64
    """Real images, and as many generated ones, in a step."""

    lr: float = 2e-4
    """Adam's step size, for both networks."""

    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates. 0.5 instead of the usual 0.9, since momentum makes adversarial training oscillate."""

    instance_noise: float = 1.0
    """Standard deviation of the Gaussian noise added to every image that the discriminator sees, real or generated,
    falling linearly to 0 over the run. It keeps both distributions overlapping, so that the discriminator cannot win
    early and the generator does not collapse (Sønderby et al., Amortised MAP Inference, 2017). 0 adds none."""

    ema_decay: float = 0.999
    """Samples come from an exponential moving average of the generator's weights, which is steadier than the weights of
    any one step. 0 takes the weights as they are."""

    seed: int = 0
    """Weights, noise and the choice of real images follow from it."""

    device: str = "auto"
    """auto (CUDA where it works, else the CPU; the first line says which), cpu, cuda or cuda:N."""

    dtype: Literal["float32", "float64"] = "float32"
    """Of weights, data and arithmetic."""

    threads: int | None = None
    """CPU threads of torch; None leaves torch's choice."""

    out: Path | None = None
    """Run folder, new or empty; None makes runs/PRESET-DATE-TIME."""

    log_interval: int = 50
    """Steps between two lines of metrics.jsonl."""

    sample_interval: int = 1000
    """Steps between two sample grids; 0 draws only the last."""

    checkpoint_interval: int = 1000
    """Steps between two checkpoints; 0 writes only the last."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_interval"):
            value = getattr(self, name)
            require(value > 0, f"{name}: expected a positive integer, got {value!r}")
        for name in ("sample_interval", "checkpoint_interval"):
            value = getattr(self, name)
            require(value >= 0, f"{name}: expected 0 or a positive integer, got {value!r}")
        require(0 < self.lr < math.inf, f"lr: expected a finite number above 0, got {self.lr!r}")
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas: expected two numbers in [0, 1), got {self.betas!r}",
        )
        require(
            0 <= self.instance_noise < math.inf,
            f"instance_noise: expected a finite number of at least 0, got {self.instance_noise!r}",
        )
        require(0 <= self.ema_decay < 1, f"ema_decay: expected a number in [0, 1), got {self.ema_decay!r}")
        require(self.seed >= 0, f"seed: expected 0 or a positive integer, got {self.seed!r}")
        require(self.threads is None or self.threads > 0, f"threads: expected a positive integer, got {self.threads!r}")
        require(self.dtype in ("float32", "float64"), f"dtype: expected float32 or float64, got {self.dtype!r}")

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch's object."""
        return torch.float64 if self.dtype == "float64" else torch.float32


def cuda_obstacle() -> str | None:
    """Why CUDA cannot be used here, or None if it can."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if fused_gan.build_info()["cuda"] is None:
        return "this build of fused_gan has no CUDA kernels"
    return None


def resolve_device(name: str) -> torch.device:
    """The device that `name` ("auto", "cpu", "cuda" or "cuda:N") stands for on this machine.

    Raises:
        UserError: on another name, or when CUDA is asked for by name and cannot be used.
    """
    if name == "auto":
        return torch.device("cpu" if cuda_obstacle() else "cuda")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise UserError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if name != "cpu":
        obstacle = cuda_obstacle()
        require(obstacle is None, f"device: {name} cannot be used: {obstacle} (see fused-gan doctor)")
        count = torch.cuda.device_count()
        require(int(match[1] or 0) < count, f"device: {name} asked for, but there are only {count} CUDA devices")
    return torch.device(name)


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one purpose ("weights", "training", "samples"), so that no two purposes share random numbers.

    With one seed for all, the first weights, the first noise and the first samples would be the same numbers.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:7], "big")
