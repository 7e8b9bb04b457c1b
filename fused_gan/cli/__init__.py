"""The command `fused-gan`."""

from fused_gan.cli.main import main

__all__ = ["main"]
