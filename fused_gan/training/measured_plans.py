"""The measured choices between kernels that a run was begun with, and goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from fused_gan import tuning
from fused_gan.systems.config import TrainingConfig
from fused_gan.systems.devices import resolve_device
from fused_gan.training.checkpoint import CheckpointError
from fused_gan.training.description import RunDescription
from fused_gan.training.folder import RunFolder


def followed_plans(device: torch.device) -> list[dict[str, Any]]:
    """The measured choices that the plan follows on this device, as JSON can hold them."""
    return [tuning.to_json(one) for one in tuning.installed() if _is_followed_on(one, device)]


def _is_followed_on(findings: tuning.Findings, device: torch.device) -> bool:
    """Whether the plan asks these findings on a device of this kind, with the threads that run now."""
    if device.type != "cpu":
        return not findings.is_of_cpu
    return findings.is_of_cpu and findings.units == torch.get_num_threads()


@contextlib.contextmanager
def as_begun(description: RunDescription, config: TrainingConfig, folder: RunFolder) -> Iterator[str]:
    """Within it the plan follows the measured choices that the run was begun with, and no others.

    On another kind of device than before it follows what was measured there, as it does for a run from before the
    choices were kept in its configuration. Gives, in words, what of them cannot be followed.
    """
    device = resolve_device(config.device)
    if description.plans is None or torch.device(description.training["device"]).type != device.type:
        yield ""
        return
    try:
        plans = [tuning.from_json(content) for content in description.plans]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder.checkpoints}: the measured plans in the checkpoint are broken: {error!r}"
        ) from error
    threads = config.threads or torch.get_num_threads()
    with tuning.following(*plans) as refused:
        missing = refused[0] if refused else ""
        if not missing and plans and device.type == "cpu" and all(one.units != threads for one in plans):
            missing = f"they were measured with {plans[0].units} threads, and {threads} run now"
        yield missing
