"""The networks of the systems that can be trained. Each has a file and a configuration of its own."""

from fused_gan.models.cgan import CGANConfig
from fused_gan.models.conv_vae import ConvVAEConfig
from fused_gan.models.dcgan import DCGANConfig
from fused_gan.models.mlp_gan import MLPGANConfig
from fused_gan.models.mlp_vae import MLPVAEConfig
from fused_gan.models.vae import VAELikelihood, VAENetwork
from fused_gan.models.wgan import WGANConfig

GANModel = MLPGANConfig | DCGANConfig  # the others are subclasses of these
VAEModel = MLPVAEConfig | ConvVAEConfig

__all__ = [
    "CGANConfig",
    "ConvVAEConfig",
    "DCGANConfig",
    "GANModel",
    "MLPGANConfig",
    "MLPVAEConfig",
    "VAELikelihood",
    "VAEModel",
    "VAENetwork",
    "WGANConfig",
]
