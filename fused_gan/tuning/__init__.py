"""Measured choices between kernels: taken by `autotune`, kept in files, followed by the plan."""

from fused_gan.tuning.autotune import autotune
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
    to_json,
    write,
)

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
    "to_json",
    "write",
]
