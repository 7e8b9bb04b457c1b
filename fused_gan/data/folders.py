"""Lists folders without what file systems and tools leave in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from fused_gan.base.errors import UserError
from fused_gan.data.image_data import PassedOver

# Names without a leading dot that systems write: Linux, macOS archives, Windows, Synology, QNAP, Python.
SYSTEM = {
    "lost+found", "__macosx", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini",
    "@eadir", "#recycle", "#snapshot", "@recycle", "__pycache__",
}  # fmt: skip
HIDDEN = "hidden, of the system, or not files"  # why `listing` leaves entries out
SPLITS = {  # words in names that say which part of a data set a file or folder is
    "train": "train", "training": "train", "test": "test", "testing": "test", "t10k": "test", "val": "val",
    "valid": "val", "validation": "val", "dev": "val", "eval": "val",
}  # fmt: skip


_FILLERS = r"(data)?sets?|data|images?|imgs?|pictures?|pics?|photos?|splits?|parts?"  # words beside these


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Return which names say that a folder is a part of a data set, and of each the part.

    That is "test" for Testing, test-set and test2017; and for seg_test if there is another part of seg, as seg_train.
    """
    found = {name: told for name in names if (told := _split_of(name)) is not None}
    parts: dict[str, set[str]] = {}  # by what the names say beside them
    for rest, split in found.values():
        parts.setdefault(rest, set()).add(split)
    return {name: split for name, (rest, split) in found.items() if not rest or len(parts[rest]) > 1}


def _split_of(name: str) -> tuple[str, str] | None:
    """Return what a name says beside its part of a data set, and the part, as ("seg", "test") for seg_test."""
    if name.lower() in SPLITS:
        return "", SPLITS[name.lower()]
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and not re.fullmatch(_FILLERS, word)]
    parts = [SPLITS.get(re.sub(rf"({_FILLERS})$", "", word)) for word in words]
    told = [part for part in parts if part is not None]
    rest = " ".join(word for word, part in zip(words, parts, strict=True) if part is None)
    return (rest, told[0]) if len(told) == 1 else None


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or one that an operating system or a tool gives to its own files."""
    return name.startswith(".") or name.lower() in SYSTEM


def listing(folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """List a folder in the order of the names as text.

    Returns:
        The files, the folders, and the names of the other entries: hidden ones, those of the system, and broken links.

    Raises:
        UserError: the folder cannot be read.
    """
    files, folders, others = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    others.append(entry.name)
                elif entry.is_dir():
                    folders.append(folder / entry.name)
                elif entry.is_file():
                    files.append(folder / entry.name)
                else:
                    others.append(entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(files), sorted(folders), sorted(others)


def notes(passed_over: Iterable[tuple[str, Iterable[str]]]) -> list[PassedOver]:
    """Return a note for each reason that has names."""
    found = [(reason, tuple(names)) for reason, names in passed_over]
    return [PassedOver(reason, names) for reason, names in found if names]
