"""Runs of training, and everything that reads or writes a run's files."""

from fused_gan.models.sampler import Sampler
from fused_gan.systems.batches import Batches
from fused_gan.systems.build import build_system
from fused_gan.systems.config import GANTraining, TrainingConfig, VAETraining
from fused_gan.systems.gan import GAN
from fused_gan.systems.presets import PRESETS, Preset, configure
from fused_gan.systems.vae import VAE
from fused_gan.training.checkpoint import Checkpoint, CheckpointError, Checkpoints, load_checkpoint, save_checkpoint
from fused_gan.training.folder import RunFolder
from fused_gan.training.load import load_sampler
from fused_gan.training.run import RunResult, resume, train

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
