"""Writes generated images as a labelled data set, with one folder per class and one PNG per image.

`fused_gan.data.load` reads such a data set, and so do other libraries' readers of class folders.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fused_gan.base.errors import require
from fused_gan.base.files import as_path
from fused_gan.base.json_files import write_json
from fused_gan.base.seeds import require_seed
from fused_gan.data.folders import is_hidden
from fused_gan.data.image_data import same_class
from fused_gan.data.images import save_pngs
from fused_gan.models.sampler import Sampler
from fused_gan.ops.library import VERSION

FORMAT = "fused_gan dataset 1"
ABOUT = "dataset.json"


def export_dataset(
    folder: Path | str,
    sampler: Sampler,
    count: int,
    seed: int,
    labels: Tensor | None = None,
    truncation: float | None = None,
    about: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Generate images into class folders. A folder has the name of its class; integers are padded with zeros, so that
    they sort as text.

    Every class has a folder, even if it is not among `labels`, so that other libraries' readers number the classes as
    the system does.
    The folder appears, or is filled, only after all images have been written. A failure leaves nothing beside it.

    Args:
        folder: a new or empty folder.
        sampler: the sampler of a conditional system.
        count: the number of images in all.
        seed: seed of the noise.
        labels: (count,), the images' classes; by default all classes in turn.
        truncation: as for `Sampler.chunks`.
        about: additional entries of dataset.json.

    Returns:
        The number of images in each folder.

    Raises:
        UserError: the system is not conditional, a label is out of range, a class has a name that a folder cannot have,
            or the folder is not empty.
    """
    require(
        sampler.classes > 0,
        "as_dataset: it needs a conditional system, as cgan, which knows the class of what it makes; this one does not",
    )
    require_seed(seed)
    folder = as_path(folder).absolute()
    require(
        not folder.exists() or (folder.is_dir() and not any(folder.iterdir())),
        f"as_dataset: {folder} exists and is not an empty folder; name a new one",
    )
    image_labels = sampler.check_labels(labels, count)
    assert image_labels is not None
    names = dict(enumerate(_folder_names(sampler.class_names)))
    counts = {name: int((image_labels == label).sum()) for label, name in names.items()}
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # which a killed process left
    content = {
        "format": FORMAT,
        "images": count,
        "image_shape": list(sampler.image_shape),
        "classes": counts,
        "seed": seed,
        "truncation": truncation,
        "versions": {"fused_gan": VERSION, "torch": torch.__version__},
    }
    try:
        for name in counts:
            (temporary / name).mkdir(parents=True)
        done = dict.fromkeys(names, 0)
        start = 0
        for chunk in sampler.chunks(count, seed, image_labels, truncation):
            classes = image_labels[start : start + len(chunk)]
            start += len(chunk)
            for label in set(classes.tolist()):
                of_class = chunk[(classes == label).numpy()]
                save_pngs(temporary / names[label], of_class, done[label])
                done[label] += len(of_class)
        write_json(temporary / ABOUT, content | (about or {}))
        if folder.exists():  # it is filled, not replaced, because it may be somebody's working directory
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == ABOUT):
                path.replace(folder / path.name)
            temporary.rmdir()
        else:
            temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return counts


def _folder_names(classes: Sequence[str]) -> list[str]:
    values = [same_class(name) for name in classes]
    digits = max(map(len, classes))
    names = [f"{value:0{digits}d}" if isinstance(value, int) else value for value in values]
    for name in names:
        fine = not is_hidden(name) and Path(name).name == name and "\0" not in name
        require(fine, f"as_dataset: expected names of classes that folders can have, got {name!r}")
    return names
