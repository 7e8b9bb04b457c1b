"""The description of a run, which config.json of the run folder and each checkpoint hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fused_gan.base.errors import require
from fused_gan.data import ImageData
from fused_gan.data.image_data import listed, same_class, unnamed
from fused_gan.systems.presets import Preset, from_json, to_json


@dataclass(frozen=True)
class RunDescription:
    """The description of a run, with the fields of model and training as JSON holds them.

    So a report can show a run of another version, even if this version does not know some of the fields. `configured`
    makes a preset of the fields.

    Attributes:
        preset: the preset's name.
        model, training: their fields.
        image_shape: (C, H, W).
        images: the number of images to train on.
        classes: the number of classes that the system tells apart; 0 if it is not conditional.
        plans: the measured choices between kernels that the run follows; None in runs that recorded none.
        versions: the versions of fused_gan and torch.
        class_names: the names of the data's classes in the order of their labels; empty without labels. None in runs
            that recorded none.
        data_sha256: the checksum of the images and their labels; None in runs that recorded none.
    """

    preset: str
    model: dict[str, Any]
    training: dict[str, Any]
    image_shape: tuple[int, int, int]
    images: int
    classes: int
    plans: list[dict[str, Any]] | None
    versions: dict[str, str]
    class_names: tuple[str, ...] | None = None
    data_sha256: str | None = None

    @classmethod
    def of(cls, preset: Preset, training: dict[str, Any], **facts: Any) -> RunDescription:
        """Return the description of a preset in a run.

        Args:
            preset: the preset.
            training: fields of its training that the run resolved, as the device and the folder.
            facts: the other attributes.
        """
        fields = to_json(preset)
        return cls(preset.name, fields["model"], fields["training"] | training, **facts)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunDescription:
        """Return the description that `to_json` turned into `content`.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has the wrong type.
        """
        channels, height, width = content["image_shape"]
        names = content.get("class_names")
        return cls(
            preset=content["preset"],
            model=dict(content["model"]),
            training=dict(content["training"]),
            image_shape=(channels, height, width),
            images=content["images"],
            classes=content.get("classes", 0),  # none in the configuration of runs before conditional systems
            class_names=None if names is None else tuple(map(str, names)),
            data_sha256=content.get("data_sha256"),
            plans=content.get("plans"),
            versions=dict(content.get("versions") or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON holds it."""
        names = {} if self.class_names is None else {"class_names": list(self.class_names)}
        checksum = {} if self.data_sha256 is None else {"data_sha256": self.data_sha256}
        plans = {} if self.plans is None else {"plans": self.plans}
        return {
            "preset": self.preset,
            "model": self.model,
            "training": self.training,
            "image_shape": list(self.image_shape),
            "images": self.images,
            "classes": self.classes,
            **names,
            **checksum,
            **plans,
            "versions": self.versions,
        }

    def with_its_classes(
        self, data: ImageData, source: str, trained_on: Callable[[], ImageData] | None = None
    ) -> ImageData:
        """Return the images with labels as the run numbers its classes.

        Args:
            data: images to train the run further on, or to compare its images with.
            source: the data, for the message.
            trained_on: reads the data of the training, if `data` is other data.

        Raises:
            UserError: the data has a class that the run does not know; or the run was begun by a version that read
                other pixels from these files.
        """
        require(
            self.class_names is not None or data.former_labels is not None,
            f"data: the run was begun by a version that read the images of {source} transposed, and this one reads "
            "them upright; train anew",
        )
        if not self.classes:
            return data
        names = self.class_names
        if names is None:
            # Folders were numbered by their places, so only the folders of the training tell the names.
            by_place = trained_on is not None and data.former_labels != tuple(map(same_class, data.class_names))
            known = trained_on() if trained_on is not None and by_place else data
            names = known.former_names(self.classes, source)
        return data.matched(names, source)

    def require_no_class_lost(self, data: ImageData, source: str) -> None:
        """Raise `UserError` if a class of this run, which goes on, is not among those of its images.

        The checksum would notice as well, but it names nothing.
        """
        known = set(map(same_class, data.class_names))
        names = [name for index, name in enumerate(self.class_names or ()) if name != unnamed(index)]
        lost = [name for name in names if same_class(name) not in known]
        there = f"it lacks the class{'es' if len(lost) > 1 else ''} {listed(lost)}, and has {listed(data.class_names)}"
        require(not lost, _other_data(source, f": {there if data.class_names else 'it has no classes'}"))

    def unchecked_data(self, source: str) -> str:
        """Return a line for a run that goes on with images of `source` and no checksum of them, or "" if it has one."""
        if self.data_sha256 is not None:
            return ""
        return (
            f"not checked: the run recorded no checksum of the images in {source}; its version may have read other "
            "pixels from them (more than 8 bits per value, grey palettes, transparency)"
        )

    def require_same_data(self, other: RunDescription) -> None:
        """Raise `UserError` unless `other`, a description of this run that goes on, tells of the same images."""
        same = (other.image_shape, other.images) == (self.image_shape, self.images)
        known = self.data_sha256 is not None and other.data_sha256 is not None
        require(same and (not known or other.data_sha256 == self.data_sha256), _other_data(other.training["data"]))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of model and training in one dict."""
        return self.model | self.training

    def configured(self, **changes: Any) -> Preset:
        """Return the preset of these fields, some of them changed.

        Raises:
            UserError: a field does not exist, or its value has the wrong type or is out of range.
        """
        return from_json(self.preset, self.fields | changes)


def _other_data(source: str, why: str = "") -> str:
    return (
        f"data: {source} does not hold the images that the run was begun with{why}; if those are elsewhere, give their "
        "place with --data"
    )
