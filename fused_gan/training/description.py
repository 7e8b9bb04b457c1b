"""What was run: config.json of a run folder, and part of each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fused_gan.systems.presets import Preset, from_json, to_json


@dataclass(frozen=True)
class RunDescription:
    """What was run, with the fields of model and training as JSON holds them.

    So a report can show a run that another version wrote, whose fields this version may not know. `configured` makes
    the preset of them.

    Attributes:
        preset: the preset's name.
        model, training: the fields of both.
        image_shape: (C, H, W).
        images: how many there were to train on.
        classes: how many the system tells apart; 0 if it is not conditional.
        plans: the measured choices between kernels that the run follows; None in runs that kept none.
        versions: of fused_gan and torch.
    """

    preset: str
    model: dict[str, Any]
    training: dict[str, Any]
    image_shape: tuple[int, int, int]
    images: int
    classes: int
    plans: list[dict[str, Any]] | None
    versions: dict[str, str]

    @classmethod
    def of(cls, preset: Preset, training: dict[str, Any], **facts: Any) -> RunDescription:
        """Return the description of a preset, with some fields of its training as they came out in this run."""
        fields = to_json(preset)
        return cls(preset.name, fields["model"], fields["training"] | training, **facts)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunDescription:
        """Return what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or of another kind.
        """
        channels, height, width = content["image_shape"]
        return cls(
            preset=content["preset"],
            model=dict(content["model"]),
            training=dict(content["training"]),
            image_shape=(channels, height, width),
            images=content["images"],
            classes=content["classes"],
            plans=content.get("plans"),
            versions=dict(content.get("versions", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON holds it."""
        plans = {} if self.plans is None else {"plans": self.plans}
        return {
            "preset": self.preset,
            "model": self.model,
            "training": self.training,
            "image_shape": list(self.image_shape),
            "images": self.images,
            "classes": self.classes,
            **plans,
            "versions": self.versions,
        }

    @property
    def fields(self) -> dict[str, Any]:
        """Those of model and training in one."""
        return self.model | self.training

    def configured(self, **changes: Any) -> Preset:
        """Return the preset of these fields, some of them changed.

        Raises:
            UserError: a field is unknown, or its value is out of range or of another kind.
        """
        return from_json(self.preset, self.fields | changes)
