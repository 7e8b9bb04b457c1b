"""The systems by name: each a model and its training. docs/design/models.md says where they differ from the papers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from fused_gan.base.errors import require
from fused_gan.base.field_types import settled
from fused_gan.models import (
    CGANConfig,
    ConvVAEConfig,
    DCGANConfig,
    GANModel,
    MLPGANConfig,
    MLPVAEConfig,
    VAEModel,
    WGANConfig,
)
from fused_gan.systems.config import GANTraining, TrainingConfig, VAETraining


@dataclass(frozen=True)
class Preset:
    """A system: its name, a sentence about it, its networks, and their training."""

    name: str
    about: str
    model: GANModel | VAEModel
    training: TrainingConfig


_SYSTEMS = (
    Preset("mlp-gan", "A GAN of fully connected layers.", MLPGANConfig(), GANTraining()),
    Preset(
        "leaky-gan",
        "A wider GAN of fully connected layers, with LeakyReLU in both networks and a sigmoid output.",
        MLPGANConfig(generator_widths=(1024, 1024), discriminator_widths=(1024, 1024), output_activation="sigmoid"),
        GANTraining(instance_noise=0.5),  # the images span [0, 1], half as wide as [−1, 1]
    ),
    Preset("dcgan", "A GAN of convolutions.", DCGANConfig(), GANTraining(instance_noise=0.0)),
    Preset("cgan", "A GAN conditioned on the class. It needs data with labels.", CGANConfig(), GANTraining()),
    Preset(
        "wgan",
        "A Wasserstein GAN whose critic is bounded by clipping its weights.",
        WGANConfig(),
        GANTraining(loss="wasserstein", n_critic=5, weight_clip=0.01, optimizer="rmsprop", lr=5e-5, instance_noise=0.0),
    ),
    Preset(
        "wgan-gp",
        "A Wasserstein GAN whose critic is bounded by a gradient penalty.",
        WGANConfig(generator_widths=(256, 512), discriminator_widths=(512, 256)),
        GANTraining(
            loss="wasserstein",
            n_critic=5,
            gradient_penalty=10.0,
            lr=5e-4,
            betas=(0.0, 0.9),
            lr_schedule="linear",
            steps=2000,
            instance_noise=0.0,
        ),
    ),
    Preset("mlp-vae", "A variational autoencoder of fully connected layers.", MLPVAEConfig(), VAETraining()),
    Preset("conv-vae", "A variational autoencoder of convolutions.", ConvVAEConfig(), VAETraining()),
)
PRESETS = {preset.name: preset for preset in _SYSTEMS}


def find_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        UserError: no preset has this name.
    """
    require(name in PRESETS, f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def require_known(preset: Preset) -> None:
    """Raise `UserError` unless a preset has the name and the kinds of one in `PRESETS`, so that it can be read back."""
    known = find_preset(preset.name)
    for part in ("model", "training"):
        wanted, got = (type(getattr(one, part)).__name__ for one in (known, preset))
        require(wanted == got, f"{part}: {preset.name} takes a {wanted}, got a {got}")


def configure(preset: str, /, **fields: Any) -> Preset:
    """Return a preset with some fields of its model or its training set to other values.

    Lists become tuples, numbers of NumPy Python's; a path may be a `Path` or text.

    >>> configure("wgan-gp", steps=2000, z_dim=64).training.steps
    2000

    Raises:
        UserError: the preset or a field does not exist, or a value has the wrong type or is out of range.
    """
    found = find_preset(preset)
    of_model = {field.name for field in dataclasses.fields(found.model)}
    of_training = {field.name for field in dataclasses.fields(found.training)}
    unknown = sorted(fields.keys() - of_model - of_training)
    require(not unknown, f"{', '.join(unknown)}: {preset} has no such field")
    hints = get_type_hints(type(found.model)) | get_type_hints(type(found.training))
    values = {name: settled(name, value, hints[name]) for name, value in fields.items()}
    return dataclasses.replace(
        found,
        model=dataclasses.replace(found.model, **{name: values[name] for name in values if name in of_model}),
        training=dataclasses.replace(found.training, **{name: values[name] for name in values if name in of_training}),
    )


def from_json(preset: str, fields: dict[str, Any]) -> Preset:
    """Return the preset as `configure` does, from values as JSON holds them: a path is a string.

    Raises:
        UserError: a field does not exist, or its value has the wrong type or is out of range.
    """
    if isinstance(fields.get("out"), str):
        fields = fields | {"out": Path(fields["out"])}
    return configure(preset, **fields)


def to_json(preset: Preset) -> dict[str, dict[str, Any]]:
    """Return the fields of model and training as JSON holds them. `from_json` takes both merged."""
    training = dataclasses.asdict(preset.training)
    return {
        "model": dataclasses.asdict(preset.model),
        "training": training | {"out": None if training["out"] is None else str(training["out"])},
    }
