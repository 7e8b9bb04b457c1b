"""Linear + activation as one operator for PyTorch, and GANs and VAEs built on it."""

from fused_gan._info import Plan, build_info, plan
from fused_gan.nn import FusedLinear
from fused_gan.ops import linear_act, mlp

__all__ = ["FusedLinear", "Plan", "build_info", "linear_act", "mlp", "plan"]
__version__ = "0.1.0"
