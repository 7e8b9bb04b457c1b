"""Training, and what is read back from it: `train`, `load_checkpoint`, `load_sampler`."""

from fused_gan.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from fused_gan.training.config import TrainingConfig
from fused_gan.training.folder import RunFolder
from fused_gan.training.gan import GAN
from fused_gan.training.run import RunResult, train
from fused_gan.training.sampling import Sampler, load_sampler

__all__ = [
    "GAN",
    "Checkpoint",
    "CheckpointError",
    "RunFolder",
    "RunResult",
    "Sampler",
    "TrainingConfig",
    "load_checkpoint",
    "load_sampler",
    "save_checkpoint",
    "train",
]
