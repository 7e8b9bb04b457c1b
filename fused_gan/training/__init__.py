"""Training, and what is read back from it: `train`, `resume`, `configure`, `load_sampler`."""

from fused_gan.models.sampler import Sampler
from fused_gan.training.batches import Batches
from fused_gan.training.build import build_system
from fused_gan.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from fused_gan.training.checkpoints import Checkpoints
from fused_gan.training.config import GANTraining, TrainingConfig, VAETraining
from fused_gan.training.folder import RunFolder
from fused_gan.training.gan import GAN
from fused_gan.training.presets import PRESETS, Preset, configure
from fused_gan.training.run import RunResult, resume, train
from fused_gan.training.sampling import load_sampler
from fused_gan.training.vae import VAE

__all__ = [
    "GAN",
    "PRESETS",
    "VAE",
    "Batches",
    "Checkpoint",
    "CheckpointError",
    "Checkpoints",
    "GANTraining",
    "Preset",
    "RunFolder",
    "RunResult",
    "Sampler",
    "TrainingConfig",
    "VAETraining",
    "build_system",
    "configure",
    "load_checkpoint",
    "load_sampler",
    "resume",
    "save_checkpoint",
    "train",
]
