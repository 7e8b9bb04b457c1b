"""Layers: Linear with its activation, Sequentials that run chains of such layers as one operator, and `fuse`."""

from fused_gan.nn.linear import FusedLinear
from fused_gan.nn.mlp import FusedMLP
from fused_gan.nn.sequential import FusedSequential

__all__ = ["FusedLinear", "FusedMLP", "FusedSequential"]
