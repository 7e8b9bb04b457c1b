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


def split_of(name: str) -> str | None:
    """Return which part of a data set a folder is by its name, as "test" for Testing, test-set and test2017."""
    if name.lower() in SPLITS:
        return SPLITS[name.lower()]
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and not re.fullmatch(_FILLERS, word)]
    word = re.sub(rf"({_FILLERS})$", "", words[0]) if len(words) == 1 else ""
    return SPLITS.get(word)


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
