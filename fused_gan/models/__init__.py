"""The systems that can be trained, one file each; `PRESETS` maps a name to its configuration."""

from fused_gan.models.mlp_gan import MLPGANConfig

PRESETS = {"mlp-gan": MLPGANConfig}

__all__ = ["PRESETS", "MLPGANConfig"]
