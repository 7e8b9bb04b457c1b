"""Measured choices between kernels. `autotune` measures them, files keep them, and the plan follows them."""

from fused_gan.tuning.plan_files import (
    SHIPPED,
    Findings,
    Record,
    add,
    file_name,
    following,
    from_json,
    install,
    install_kept,
    installed,
    path_for,
    read,
    read_for,
    replace,
    to_json,
    write,
)
from fused_gan.tuning.tune import autotune

__all__ = [
    "SHIPPED",
    "Findings",
    "Record",
    "add",
    "autotune",
    "file_name",
    "following",
    "from_json",
    "install",
    "install_kept",
    "installed",
    "path_for",
    "read",
    "read_for",
    "replace",
    "to_json",
    "write",
]
