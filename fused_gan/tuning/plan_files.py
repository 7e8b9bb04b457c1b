"""Reads and writes measured choices: which kernel was the fastest for a product, on which kind of device.

Each kind of device has one JSON file. At import, the files that ship with the package are installed first. The files
that `fused_gan.autotune` wrote into the user's cache follow, and therefore have the last word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fused_gan.base.json_files import write_json
from fused_gan.base.lock import locked
from fused_gan.ops.cuda_plan import Product
from fused_gan.ops.library import FACTS, native
from fused_gan.ops.processor import processor

FORMAT = 2
SHIPPED = Path(__file__).parent / "plans"

Facts = tuple[int | str, int]  # capability and units, as in `Findings`


@dataclass(frozen=True)
class Record:
    """A product, the kernel that was the fastest for it, and by how much."""

    precision: str  # a dtype, "tf32" or "float32 as bfloat16"
    direction: str  # "forward" or "backward"
    rows: int
    columns: int
    depth: int
    aligned: bool
    epilogue: bool
    kernel: str
    splits: int  # parts of the depth
    microseconds: float
    usual_microseconds: float  # CUDA: torch's product and one kernel after it; CPU: the kernel in the plan's table

    @property
    def product(self) -> Product:
        """The product, as the plan knows it."""
        return Product(self.precision, self.direction, self.rows, self.columns, self.depth, self.aligned, self.epilogue)


@dataclass(frozen=True)
class Findings:
    """Measurements on one kind of device."""

    device: str  # its name
    capability: int | str  # of a GPU ten times the major version, plus the minor one; of a CPU the instruction set
    units: int  # multiprocessors of a GPU, threads on a CPU
    records: tuple[Record, ...]

    @property
    def facts(self) -> Facts:
        """What the plan must know of a device."""
        return self.capability, self.units

    @property
    def is_of_cpu(self) -> bool:
        """Whether the device is a CPU."""
        return isinstance(self.capability, str)

    def merged(self, newer: Iterable[Record]) -> Findings:
        """Return the findings with newer records in place of those for the same products."""
        by_product = {record.product: record for record in (*self.records, *newer)}
        return Findings(self.device, *self.facts, tuple(by_product.values()))


def cache_folder() -> Path:
    """Return the folder where `fused_gan.autotune` keeps its findings: FUSED_GAN_PLANS, or the user's cache.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if folder := os.environ.get("FUSED_GAN_PLANS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fused_gan" / "plans"


def file_name(device: str) -> str:
    """Return the name of the file for a kind of device."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def path_for(device: str) -> Path:
    """Return the path of the file for a kind of device."""
    return cache_folder() / file_name(device)


def read(path: Path) -> Findings:
    """Return the findings in a file.

    Raises:
        ValueError: the file does not hold measured plans of this format; the message names the file and the format.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}: delete the file and measure again")
        return from_json(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected measured plans of format {FORMAT}, got {error!r}") from error


def to_json(findings: Findings) -> dict[str, Any]:
    """Return findings as JSON can hold them."""
    return asdict(findings)


def from_json(content: dict[str, Any]) -> Findings:
    """Return the findings that `to_json` turned into `content`.

    Raises:
        ValueError, KeyError, TypeError: a field is missing or has another type.
    """
    capability, units = content["capability"], content["units"]
    if type(capability) not in (int, str) or type(units) is not int:
        raise TypeError(f"capability {capability!r}, units {units!r}")
    return Findings(str(content["device"]), capability, units, tuple(map(_record, content["records"])))


def read_for(path: Path, device: str, facts: Facts) -> Findings:
    """Return the findings in a file, which must be of this kind of device; without records if the file does not exist.

    Raises:
        ValueError: the file does not hold measured plans of this format, or holds those of another kind of device.
        OSError: the file cannot be read.
    """
    if not path.exists():
        return Findings(device, *facts, ())
    findings = read(path)
    if (findings.device, findings.facts) != (device, facts):
        raise ValueError(
            f"{path}: expected what was measured on {device} {facts}, got that of {findings.device} {findings.facts}"
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
    """Write findings to a file. Whoever reads the file finds the old content or the new, never a part.

    Raises:
        OSError: from the file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"format": FORMAT, **to_json(findings)})


def add(path: Path, newer: Findings) -> Findings:
    """Add findings to those in a file, which other processes may have changed meanwhile, and return all of them.

    Raises:
        ValueError: the file does not hold measured plans of this format, or holds those of another kind of device.
        UserError: this system has no file locks.
        OSError: from the file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        known = read_for(path, newer.device, newer.facts)
        findings = known.merged(newer.records)
        write(path, findings)
    return findings


_installed: dict[tuple[str, Facts], Findings] = {}


def installed() -> tuple[Findings, ...]:
    """Return the findings that the plan follows, one for each kind of device."""
    return tuple(_installed.values())


def install(findings: Findings) -> list[str]:
    """Make the plan follow the findings from now on. Return why each record that cannot be followed here cannot be."""
    reasons = {record: _keep(findings, record) for record in findings.records}
    followed = [record for record, reason in reasons.items() if not reason]
    if followed:
        kind = findings.device, findings.facts
        known = _installed.pop(kind, Findings(findings.device, *findings.facts, ()))
        # It is the last entry now, so that installing all entries again leads to the same choices.
        _installed[kind] = known.merged(followed)
    return [reason for reason in reasons.values() if reason]


def _keep(findings: Findings, record: Record) -> str:
    """Hand one record to the plan. Return why the record cannot be followed here, or ""."""
    try:
        if isinstance(findings.capability, str):
            if findings.device != (here := processor()):
                return f"measured on {findings.device}, this is {here}"
            if findings.capability != (here := native.cpu_capability()):
                return f"measured with {findings.capability}, here {here} is in use"
            native.cpu_keep(layer_product(record.product), findings.units, record.kernel)
        elif FACTS["cuda"] is None:
            return f"measured on {findings.device}: this build of fused_gan has no CUDA kernels"
        else:
            native.cuda_keep(record.product, (findings.capability, findings.units), record.kernel, record.splits)
    except (ValueError, TypeError) as error:  # unknown kernel, unfit for the product, or number out of range
        return str(error)
    return ""


def replace(*findings: Findings) -> list[str]:
    """Make the plan follow these findings alone, the later ones before the earlier. Return what `install` returns."""
    native.cpu_forget()
    if FACTS["cuda"] is not None:
        native.cuda_forget()
    _installed.clear()
    return [words for one in findings for words in install(one)]


@contextlib.contextmanager
def following(*findings: Findings) -> Iterator[list[str]]:
    """Make the plan follow these findings alone while the block runs. Yield what `install` returns."""
    before = installed()
    try:
        yield replace(*findings)
    finally:
        replace(*before)


def install_kept() -> None:
    """Install every file that ships, then every file in the user's cache; warn of a file that cannot be read."""
    try:
        kept = sorted(cache_folder().glob("*.json"))
    except RuntimeError:
        kept = []  # without a home folder nothing was kept
    for path in (*sorted(SHIPPED.glob("*.json")), *kept):
        _install_file(path)


def _install_file(path: Path) -> None:
    try:
        install(read(path))
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: FUSED_GAN_CPU_CAPABILITY is unknown
        warnings.warn(f"fused_gan: measured plans were left out: {error}", stacklevel=3)


def layer_product(product: Product) -> tuple[str, str, int, int, int]:
    """Return (precision, direction, samples, inputs, outputs) of the layer that a product belongs to."""
    depth, columns = product.depth, product.columns
    inputs, outputs = (depth, columns) if product.direction == "forward" else (columns, depth)
    return product.precision, product.direction, product.rows, inputs, outputs
