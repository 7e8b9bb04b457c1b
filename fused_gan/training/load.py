"""Loads the network that makes pictures from a run's checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from fused_gan.base.errors import UserError, require
from fused_gan.base.memory import memory_for
from fused_gan.models.sampler import Sampler
from fused_gan.models.weights import load_weights
from fused_gan.systems.build import build_sampling_network
from fused_gan.systems.presets import from_json
from fused_gan.training.checkpoint import Checkpoint, Checkpoints, unreadable
from fused_gan.training.folder import RunFolder
from fused_gan.training.state import sampling_weights


def load_sampler(run: Path | str, device: torch.device, checkpoint: str | None = None) -> Sampler:
    """Return a sampler with the network of a run's checkpoint.

    Args:
        run: the run's folder.
        device: the device of the network.
        checkpoint: "last" or None, "best", the name of a file in the folder `checkpoints`, or its path.

    Raises:
        UserError: the folder does not hold a run, or its checkpoint is missing or damaged; the message names the path.
    """
    folder = RunFolder(run)
    folder.require_run()
    store = Checkpoints(folder.checkpoints, keep=1)
    loaded = store.load(checkpoint)
    return make_sampler(loaded, store.file(checkpoint), device)


def make_sampler(loaded: Checkpoint, path: Path, device: torch.device) -> Sampler:
    """Return a sampler with the network of a loaded checkpoint.

    Args:
        loaded: the checkpoint.
        path: its file, for messages.
        device: the device of the network.

    Raises:
        CheckpointError: the weights and the configuration do not fit each other.
    """
    try:
        # Only what a sampler needs: the rest may be of another version.
        config, state = loaded.config, loaded.state
        preset = from_json(config["preset"], config["model"])
        channels, height, width = config["image_shape"]
        shape, classes = (channels, height, width), config["classes"]
        # A run that recorded no names knows its classes by their numbers.
        names = tuple(map(str, config.get("class_names") or range(classes))) if classes else ()
        require(len(names) == classes, f"class_names: expected {classes} names, got {len(names)}")
        # On the meta device the modules take no memory, whatever sizes the file claims. `assign` puts its tensors in.
        with torch.device("meta"):
            network = build_sampling_network(preset.model, shape, classes)
        load_weights(network, sampling_weights(state, preset.model.sampling_network), assign=True)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError, UserError) as error:
        raise unreadable(path, loaded.config, "its weights and its configuration do not fit", error) from error
    with memory_for(f"the network of {path} on {device}", "another --device may have more"):
        network = network.to(device).requires_grad_(False).eval()
    return Sampler(network, preset.model.z_dim, preset.model.value_range, classes, shape, names)
