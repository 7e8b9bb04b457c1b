"""Linear + activation as one operator for PyTorch, and GANs and VAEs built on it."""

from fused_gan.base.errors import Diverged, UserError
from fused_gan.nn import FusedLinear, FusedMLP, FusedSequential
from fused_gan.nn.fusing import fuse, unfuse
from fused_gan.nn.fusion_report import fusion_report
from fused_gan.ops import linear_act, mlp
from fused_gan.ops.kernel_plan import Plan, plan
from fused_gan.ops.library import VERSION, build_info
from fused_gan.tuning import autotune, install_kept

__all__ = [
    "Diverged",
    "FusedLinear",
    "FusedMLP",
    "FusedSequential",
    "Plan",
    "UserError",
    "autotune",
    "build_info",
    "fuse",
    "fusion_report",
    "linear_act",
    "mlp",
    "plan",
    "unfuse",
]
__version__ = VERSION

install_kept()
