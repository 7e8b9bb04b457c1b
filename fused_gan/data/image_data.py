"""Images in memory, with the names of their classes and what a reader passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fused_gan.base import tensor_files
from fused_gan.base.errors import require

DARKEST = 1 / 4  # of the range: what the brightest value of images reaches that use their range
SHOWN = 3  # names in a message, at most
CLASSES_SHOWN = 12


@dataclass(frozen=True)
class PassedOver:
    """What a reader found beside the images and did not read.

    Attributes:
        reason: why, as "files with other endings".
        names: the files, folders or arrays.
        count: how many things; None if they are the names.
    """

    reason: str
    names: tuple[str, ...]
    count: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {len(self.names) if self.count is None else self.count:,} ({listed(self.names)})"


def listed(names: Sequence[str], shown: int = SHOWN) -> str:
    """Return the first names in one text, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names by the numbers in them: 2 before 10, "part 9" before "part 10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), part) if index % 2 else (1, 0, part) for index, part in enumerate(parts) if part]


def same_class(name: str) -> str | int:
    """Return what two names of one class have in common. Folders called 7 and 07 mean the class 7 of an array."""
    return int(name) if re.fullmatch(r"-?[0-9]+", name) else name


@dataclass(frozen=True)
class ImageData:
    """Images and, where the source has them, their class labels.

    Attributes:
        images: (N, C, H, W) uint8 on the CPU, N ≥ 1, C 1 or 3.
        labels: (N,) int64 on the CPU, or None. A label is the index of its name in `class_names`. Where an ImageData is
            made without names, the labels may be any integers: the values that occur become the classes, in order.
        class_names: the names of the classes: those of folders, or the values that the labels have in a file. Empty
            without labels.
        passed_over: what the reader did not read.
        former_labels: the label that each class had in runs that recorded no names. None if such runs read other pixels
            from the same files.
    """

    images: Tensor
    labels: Tensor | None
    class_names: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    former_labels: tuple[int, ...] | None = ()

    @property
    def sha256(self) -> str:
        """The checksum of the images and of their classes' names, in hexadecimal.

        It is the same wherever the files lie and however the classes are numbered.
        """
        tensors = {"images": self.images}
        if self.labels is not None:
            for label, name in enumerate(self.class_names):
                members = (self.labels == label).nonzero()
                if len(members):
                    tensors[f"class {same_class(name)}"] = members
        return tensor_files.digest(tensors)

    def __post_init__(self) -> None:
        if self.labels is None or self.class_names:
            return
        values, labels = torch.unique(self.labels, return_inverse=True)
        found = tuple(values.tolist())
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "class_names", tuple(map(str, found)))
        if self.former_labels is not None:
            object.__setattr__(self, "former_labels", found)

    @classmethod
    def from_arrays(
        cls,
        name: str,
        images: NDArray[np.generic],
        labels: NDArray[np.generic] | None,
        class_names: Sequence[str] = (),
        passed_over: Sequence[PassedOver] = (),
    ) -> ImageData:
        """Check and wrap arrays.

        Args:
            name: the file or data set, for the messages.
            images: uint8 (N, H, W), or (N, H, W, C) with C 1 or 3.
            labels: integers (N,), or None. With `class_names` they are indices of names.
            class_names: the classes; by default the values of the labels.
            passed_over: what the reader did not read.

        Raises:
            UserError: dtype, shape, number or range differ from these; the message names `name`.
        """
        require(images.dtype == np.uint8, f"{name}: images must be uint8 (0…255), got {images.dtype}")
        require(
            images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)),
            f"{name}: images must be (N, H, W), (N, H, W, 1) or (N, H, W, 3), got shape {images.shape}",
        )
        require(images.size > 0, f"{name}: it holds no pixels, the shape of its images is {images.shape}")
        # Binary images and masks. Trained on as they are, they would be black.
        require(images.max() != 1, f"{name}: expected pixels of 0…255, got 0 and 1 alone; multiply them by 255")
        pixels = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        found = None
        if labels is not None:
            require(
                labels.shape == images.shape[:1] and np.issubdtype(labels.dtype, np.integer),
                f"{name}: labels must be {len(images)} integers, one per image, got {labels.dtype} {labels.shape}",
            )
            require(
                not class_names or (labels.min() >= 0 and labels.max() < len(class_names)),
                f"{name}: expected labels of 0 … {len(class_names) - 1}, the indices of class_names, "
                f"got {labels.min()} … {labels.max()}",
            )
            require(labels.max() <= np.iinfo(np.int64).max, f"{name}: expected labels below 2⁶³, got {labels.max()}")
            _require_texts(name, class_names)
            _require_different(name, class_names)
            found = torch.from_numpy(labels.astype(np.int64))
        return cls(
            torch.from_numpy(np.ascontiguousarray(pixels)),
            found,
            tuple(class_names) if found is not None else (),
            tuple(passed_over),
            tuple(range(len(class_names))),
        )

    def class_sizes(self) -> list[int]:
        """Return the number of images of each class."""
        return [] if self.labels is None else torch.bincount(self.labels, minlength=len(self.class_names)).tolist()

    def darkness(self) -> list[str]:
        """Return a line that says how dark the images are, if their brightest pixel is below `DARKEST` of 255.

        Masks of classes 0, 1, 2 are so dark, and images of fewer bits. Nothing says which value of theirs is white, and
        there are dark photographs. So they are neither scaled nor refused.
        """
        brightest = int(self.images.max())
        if brightest >= DARKEST * 255:
            return []
        return [f"dark: the brightest pixel is {brightest} of 255; scale the images if their white is another value"]

    def about(self, source: str) -> list[str]:
        """Return a line that says images, size and classes, and a line each of darkness and of what was passed over."""
        count, channels, height, width = self.images.shape
        text = f"{count:,} images of {channels}×{height}×{width} from {source}"
        if self.labels is not None:
            sizes = [f"{name} {size:,}" for name, size in zip(self.class_names, self.class_sizes(), strict=True)]
            plural = "es" if len(sizes) > 1 else ""
            text += f" in {len(sizes)} class{plural} ({listed(sizes, CLASSES_SHOWN)})"
        passed_over = [f"passed over: {'; '.join(map(str, self.passed_over))}"] if self.passed_over else []
        return [text, *self.darkness(), *passed_over]

    def matched(self, class_names: Sequence[str], source: str) -> ImageData:
        """Return the same images with labels that are indices of other names, as a trained system numbers its classes.

        Args:
            class_names: the names; all classes of these images must be among them.
            source: the data, for the message.

        Raises:
            UserError: a class of these images is not among the names; the message names it.
        """
        if self.labels is None:
            return self
        labels = renumbered(self.labels, self.class_names, class_names, source)
        return replace(self, labels=labels, class_names=tuple(class_names), former_labels=())

    def former_names(self, classes: int, source: str) -> tuple[str, ...]:
        """Return the names of the classes of a run that recorded none, in the run's order.

        Args:
            classes: how many classes the run tells apart.
            source: the data, for the message.

        Raises:
            UserError: these images have classes that the run does not have.
        """
        numbers = self.former_labels or ()
        require(
            all(0 <= number < classes for number in numbers),
            f"data: the run knows {classes} classes and not their names, {source} has other ones: "
            f"{listed(self.class_names)}",
        )
        names = dict(zip(numbers, self.class_names, strict=True))
        return tuple(names.get(number, unnamed(number)) for number in range(classes))


def unnamed(number: int) -> str:
    """Return what a class is called that a run without recorded names knows, and of which its data has no image."""
    return f"unnamed {number}"


def renumbered(labels: Tensor, names: Sequence[str], others: Sequence[str], source: str) -> Tensor:
    """Return labels, indices of `names`, as indices of `others`.

    Raises:
        UserError: one of `names` is not among `others`; the message names it.
    """
    places = {same_class(name): index for index, name in enumerate(others)}
    unknown = [name for name in names if same_class(name) not in places]
    require(not unknown, f"data: expected classes of the run ({listed(others)}), got {listed(unknown)} in {source}")
    return torch.tensor([places[same_class(name)] for name in names])[labels]


def _require_texts(source: str, class_names: Sequence[str]) -> None:
    # Python reads a folder's name in another encoding as text with surrogates, which no configuration can hold.
    shown = [name.encode(errors="backslashreplace").decode() for name in class_names]
    odd = [text for text, name in zip(shown, class_names, strict=True) if text != name]
    require(not odd, f"{source}: expected names of classes in UTF-8, got {listed(odd)}; rename the folders")


def _require_different(source: str, class_names: Sequence[str]) -> None:
    first: dict[str | int, str] = {}
    for name in class_names:
        other = first.setdefault(same_class(name), name)
        require(other is name, f"{source}: expected one name per class, got {other} and {name} for the same class")


def require_no_negative_class(data: ImageData, source: str) -> None:
    """Raise `UserError` if a label is negative in the file, which usually marks images without a class."""
    negative = [name for name in data.class_names if re.fullmatch(r"-[0-9]+", name)]
    require(not negative, f"data: {source} has a negative class label, {', '.join(negative)}")
