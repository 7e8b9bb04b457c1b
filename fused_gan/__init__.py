"""Linear + activation as one operator for PyTorch, and GANs and VAEs built on it."""

from fused_gan._info import Plan, build_info, plan
from fused_gan.fuse import fuse, unfuse
from fused_gan.nn import FusedLinear, FusedMLP, FusedSequential
from fused_gan.ops import linear_act, mlp
from fused_gan.report import fusion_report
from fused_gan.tuning import autotune, install_kept

__all__ = [
    "FusedLinear",
    "FusedMLP",
    "FusedSequential",
    "Plan",
    "autotune",
    "build_info",
    "fuse",
    "fusion_report",
    "linear_act",
    "mlp",
    "plan",
    "unfuse",
]
__version__ = "0.1.0"

install_kept()
