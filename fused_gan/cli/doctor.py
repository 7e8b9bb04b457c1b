"""The command `fused-gan doctor`. It needs torch alone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from fused_gan.cli.extras import TRAIN
from fused_gan.ops.library import VERSION, build_info
from fused_gan.ops.processor import processor


class Row(NamedTuple):
    """A line of the report.

    Attributes:
        good: whether the finding is all right; None for a mere fact.
        name: the subject.
        finding: the fact found, or the remedy.
    """

    good: bool | None
    name: str
    finding: str


def report() -> int:
    """Print the report, as a table if rich is installed, otherwise as plain lines. Return the exit status, 0."""
    sections = {
        "versions": list(version_rows()),
        "build": [Row(None, name, _show(value)) for name, value in build_info().items()],
        "devices": list(device_rows()),
        "data sets": list(data_rows()),
        "tools": list(tool_rows()),
    }
    if importlib.util.find_spec("rich") is None:
        _print_plain(sections)
    else:
        _print_table(sections)
    return 0


def version_rows() -> Iterable[Row]:
    """Give the versions of Python, of this package and of the packages that it uses."""
    yield Row(None, "fused_gan", VERSION)
    yield Row(None, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("torch", *TRAIN):
        version = _version(package)
        yield Row(version is not None, package, version or "training needs it: pip install 'fused_gan[train]'")


def device_rows() -> Iterable[Row]:
    """Give the CPU and each CUDA device, or why no CUDA device can be used."""
    capability = torch.backends.cpu.get_cpu_capability()
    yield Row(True, "cpu", f"{processor()}, {os.cpu_count()} logical, {torch.get_num_threads()} threads, {capability}")
    if torch.version.cuda is None:
        yield Row(
            False, "cuda", f"torch {torch.__version__} is a build without CUDA; install one with CUDA to use a GPU"
        )
    elif not torch.cuda.is_available():
        yield Row(False, "cuda", f"torch is built for CUDA {torch.version.cuda}, but finds no working driver and GPU")
    else:
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            memory = facts.total_memory / 2**30
            yield Row(True, f"cuda:{index}", f"{facts.name}, capability {facts.major}.{facts.minor}, {memory:.0f} GiB")
        if build_info()["cuda"] is None:
            yield Row(
                False,
                "kernels",
                "fused_gan was built without CUDA: build it again where nvcc is, pip install "
                "--no-build-isolation --force-reinstall --no-deps .",
            )


def data_rows() -> Iterable[Row]:
    """Give the data sets that have a name."""
    if importlib.util.find_spec("numpy") is None:
        yield Row(False, "all", "reading data needs numpy: pip install 'fused_gan[train]'")
        return
    from fused_gan.data import DATA_SETS

    for name, data_set in DATA_SETS.items():
        if data_set.present():
            yield Row(True, name, data_set.about)
        else:
            yield Row(False, name, f"{data_set.about}; get it with: {data_set.remedy}")


def tool_rows() -> Iterable[Row]:
    """Give the tools of building and testing. Running needs none of them."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    yield Row(compiler is not None, "C++ compiler", compiler or "missing; building needs one: apt install g++")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    yield Row(browser is not None, "browser", browser or "missing; only the test of the report page looks with one")
    nvcc = shutil.which("nvcc") or _nvcc_in_cuda_home()
    yield Row(nvcc is not None, "nvcc", nvcc or "missing; a build with CUDA kernels needs the CUDA toolkit")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nvcc_in_cuda_home() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=str(Path(home) / "bin")) if home else None


def _show(value: object) -> str:
    return "none" if value is None else str(value)


def _print_plain(sections: dict[str, list[Row]]) -> None:
    signs = {True: "ok     ", False: "MISSING", None: "       "}
    for title, rows in sections.items():
        print(title)
        for row in rows:
            print(f"  {signs[row.good]}  {row.name:14}  {row.finding}")


def _print_table(sections: dict[str, list[Row]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    signs = {True: Text("ok", "green"), False: Text("missing", "yellow"), None: Text("")}
    table = Table("", "", "", "", show_header=False)
    for title, rows in sections.items():
        for index, row in enumerate(rows):
            # Text, not str, because rich would take brackets, as in fused_gan[train], for markup.
            table.add_row(title if index == 0 else "", row.name, signs[row.good], Text(row.finding))
        table.add_section()
    Console().print(table)
