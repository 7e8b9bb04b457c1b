"""Files of measured choices: which CUDA kernel was the fastest for a product, on which kind of device.

One JSON file a kind of device. Those that ship with the package are installed at import, then those that
`fused_gan.autotune` has left in the user's cache, which therefore have the last word.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fused_gan._library import FACTS, native
from fused_gan.json_files import write_json
from fused_gan.lock import locked

FORMAT = 1
SHIPPED = Path(__file__).parent / "plans"


@dataclass(frozen=True)
class Record:
    """A product, the kernel that was the fastest for it, and by how much."""

    precision: str  # "bfloat16", "float16", "tf32" or "float32"
    direction: str  # "forward" or "backward"
    rows: int
    columns: int
    depth: int
    aligned: bool
    epilogue: bool
    kernel: str
    splits: int  # parts of the depth
    microseconds: float
    library_microseconds: float  # of torch's product and one kernel after it

    @property
    def product(self) -> tuple[str, str, int, int, int, bool, bool]:
        """As the plan takes it."""
        return self.precision, self.direction, self.rows, self.columns, self.depth, self.aligned, self.epilogue


@dataclass(frozen=True)
class Findings:
    """What was measured on one kind of device."""

    device: str  # its name
    capability: int  # ten times the major version, plus the minor one
    multiprocessors: int
    records: tuple[Record, ...]

    def merged(self, newer: Iterable[Record]) -> Findings:
        """With newer records in place of those for the same products."""
        by_product = {record.product: record for record in (*self.records, *newer)}
        return Findings(self.device, self.capability, self.multiprocessors, tuple(by_product.values()))


def cache_folder() -> Path:
    """Where `fused_gan.autotune` keeps its findings: FUSED_GAN_PLANS, or the user's cache."""
    if folder := os.environ.get("FUSED_GAN_PLANS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fused_gan" / "plans"


def file_name(device: str) -> str:
    """Of the file for a kind of device."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def path_for(device: str) -> Path:
    """The file for a kind of device."""
    return cache_folder() / file_name(device)


def read(path: Path) -> Findings:
    """Findings from a file.

    Raises:
        ValueError: the file is no such file; the message names it and what was expected.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        records = tuple(_record(entry) for entry in content["records"])
        return Findings(str(content["device"]), int(content["capability"]), int(content["multiprocessors"]), records)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected measured plans of format {FORMAT}, got {error!r}") from error


def read_for(path: Path, device: str, capability: tuple[int, int]) -> Findings:
    """Findings on a kind of device from a file, none if it does not exist.

    Raises:
        ValueError: the file is no such file, or speaks of another kind of device.
        OSError: it cannot be read.
    """
    if not path.exists():
        return Findings(device, *capability, ())
    findings = read(path)
    if (findings.device, findings.capability, findings.multiprocessors) != (device, *capability):
        raise ValueError(
            f"{path}: expected what was measured on {device}, got that of {findings.device} (capability "
            f"{findings.capability}, {findings.multiprocessors} multiprocessors)"
        )
    return findings


def _record(entry: dict[str, Any]) -> Record:
    kinds = {"str": str, "int": int, "bool": bool, "float": (int, float)}
    for field in fields(Record):
        if type(entry[field.name]) is bool and field.type != "bool":
            raise TypeError(f"{field.name}: {entry[field.name]!r}")
        if not isinstance(entry[field.name], kinds[str(field.type)]):  # type: ignore[arg-type]
            raise TypeError(f"{field.name}: {entry[field.name]!r}")
    return Record(**entry)


def write(path: Path, findings: Findings) -> None:
    """Findings to a file: whoever reads meets the old content or the new.

    Raises:
        OSError: from the file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, **asdict(findings)}
    write_json(path, content)


def add(path: Path, newer: Findings) -> Findings:
    """Findings to those in a file, which others may have added to since it was read. Returns all of them.

    Raises:
        ValueError: the file holds something else, or speaks of another kind of device.
        UserError: this system has no file locks.
        OSError: from the file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        known = read_for(path, newer.device, (newer.capability, newer.multiprocessors))
        findings = known.merged(newer.records)
        write(path, findings)
    return findings


def install(findings: Findings) -> list[str]:
    """From now on the plan follows the findings. Returns, in words, what this build cannot run."""
    refused = []
    for record in findings.records:
        device = findings.capability, findings.multiprocessors
        try:
            native.cuda_keep(record.product, device, record.kernel, record.splits)
        except ValueError as error:
            refused.append(str(error))
    return refused


def install_kept() -> None:
    """Install every file that ships, then every one in the user's cache; warn of one that cannot be read."""
    if FACTS["cuda"] is None:
        return
    for path in (*sorted(SHIPPED.glob("*.json")), *sorted(cache_folder().glob("*.json"))):
        _install_file(path)


def _install_file(path: Path) -> None:
    try:
        install(read(path))
    except (OSError, ValueError) as error:
        warnings.warn(f"fused_gan: measured plans were left out: {error}", stacklevel=3)
