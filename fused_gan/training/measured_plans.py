"""The measured choices between kernels that a run begins with and keeps when it goes on."""

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
    """Return the measured choices that the plan follows on this device, as JSON holds them."""
    return [tuning.to_json(findings) for findings in tuning.installed() if _is_followed_on(findings, device)]


def _is_followed_on(findings: tuning.Findings, device: torch.device) -> bool:
    """Whether the plan uses these findings on a device of this kind, with the current number of threads."""
    if device.type != "cpu":
        return not findings.is_of_cpu
    return findings.is_of_cpu and findings.units == torch.get_num_threads()


@contextlib.contextmanager
def as_begun(description: RunDescription, config: TrainingConfig, folder: RunFolder) -> Iterator[str]:
    """Make the plan follow, within the context, the measured choices that the run was begun with, and no others.

    If the run goes on on another kind of device, or its description holds no choices, the plan follows what was
    measured on this machine. The context's value says which choices cannot be followed, or is empty.

    Raises:
        CheckpointError: the choices in the description are broken.
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
        if not missing and plans and device.type == "cpu" and all(plan.units != threads for plan in plans):
            missing = f"they were measured with {plans[0].units} threads, and {threads} run now"
        yield missing
