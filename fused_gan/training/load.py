"""The sampler of a run that has ended, or goes on: its network from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fused_gan.base.errors import UserError
from fused_gan.models.sampler import Sampler
from fused_gan.systems.build import build_sampling_network
from fused_gan.systems.presets import from_json
from fused_gan.training.checkpoint import Checkpoint, CheckpointError, Checkpoints
from fused_gan.training.folder import RunFolder


def load_sampler(run: Path, device: torch.device, checkpoint: str | None = None) -> Sampler:
    """The network of a run's checkpoint that makes pictures, on `device`.

    Args:
        run: the run's folder.
        device: where it is to be.
        checkpoint: file name in the folder `checkpoints`, as "best.safetensors"; None takes the last.

    Raises:
        UserError: naming the folder or file: no run folder, no checkpoint yet, or a damaged one.
    """
    folder = RunFolder(run)
    folder.require_run()
    store = Checkpoints(folder.checkpoints, keep=1)
    loaded = store.load(checkpoint)
    return make_sampler(loaded, store.all()[-1] if checkpoint is None else folder.checkpoints / checkpoint, device)


def make_sampler(loaded: Checkpoint, path: Path, device: torch.device) -> Sampler:
    """The network that makes pictures from a checkpoint that is loaded; `path` is for the message of the UserError that
    is raised when it does not fit."""
    try:
        config = loaded.config
        preset = from_json(config["preset"], config["model"])
        channels, height, width = config["image_shape"]
        classes: int = config["classes"]
        # On the meta device the modules cost no memory, whatever sizes the file claims; `assign` puts its tensors in.
        with torch.device("meta"):
            network = build_sampling_network(preset.model, (channels, height, width), classes)
        state: dict[str, Any] = loaded.state
        name = preset.model.sampling_network
        network.load_state_dict(state.get(f"averaged_{name}", state[name]), assign=True)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError, UserError) as error:
        raise CheckpointError(f"{path}: its weights and its configuration do not fit: {error!r}") from error
    network = network.to(device).requires_grad_(False).eval()
    return Sampler(network, preset.model.z_dim, preset.model.value_range, classes, (channels, height, width))
