"""The operators as functions, their activations, and which kernel runs for which shape. They need torch alone."""

from fused_gan.ops import flops  # noqa: F401  (registers the operators' counts)
from fused_gan.ops.functional import linear_act, mlp

__all__ = ["linear_act", "mlp"]
