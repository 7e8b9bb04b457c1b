"""The repository keeps its layout: imports go down only, and no file is longer than a reader takes in at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("fused_gan", "csrc", "tests", "benchmarks", "findings")
CODE = {".py", ".pyi", ".h", ".cuh", ".inl", ".cpp", ".cu", ".sh"}
LONGEST = 400  # lines

# The floor of each package of fused_gan; "" is fused_gan/__init__.py. What is on a floor imports from lower floors.
FLOORS = {
    "cli": 7,
    "study": 6,
    "training": 5,
    "evaluation": 4,
    "systems": 4,
    "models": 3,
    "": 3,
    "nn": 2,
    "tuning": 2,
    "data": 2,
    "ops": 1,
    "base": 1,
}
# `fused_gan.evaluation.evaluate` reads and writes runs, so it is in training. Its public name stays in evaluation.
UPWARD = {("evaluation", "training")}


def code_files() -> list[Path]:
    """Return the files of code: those in the folders of code, and the scripts beside the README."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    return sorted(path for path in files if path.suffix in CODE and path.is_file())


def lines(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def test_each_folder_of_code_is_read() -> None:
    read = {path.relative_to(ROOT).parts[0] for path in code_files()}
    assert {*FOLDERS, "setup.py"} <= read
    assert Path(__file__) in code_files()


def test_no_file_of_code_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): lines(path) for path in code_files()}
    too_long = [f"{name}: {length} lines" for name, length in lengths.items() if length > LONGEST]
    assert not too_long, f"expected at most {LONGEST} lines per file, got {', '.join(too_long)}"


def package(module: str) -> str:
    """Return the package that a module of fused_gan belongs to: "nn" for fused_gan.nn.linear."""
    _, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return name if name in FLOORS else ""


def imported(file: Path) -> Iterator[str]:
    """Give the modules of fused_gan that a file imports, wherever in it, by their dotted names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "fused_gan")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fused_gan":
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> Iterator[tuple[str, str, str]]:
    """Give, for each import from one package of fused_gan in another: the importing file, and both packages."""
    source = ROOT / "fused_gan"
    for file in sorted(source.rglob("*.py")):
        name = file.relative_to(source)
        importer = name.parts[0] if len(name.parts) > 1 else ""
        for module in imported(file):
            if module != "fused_gan._C" and package(module) != importer:
                yield str(name), importer, package(module)


def test_every_package_has_a_floor() -> None:
    packages = {path.parent.name for path in (ROOT / "fused_gan").glob("*/__init__.py")}
    assert packages == FLOORS.keys() - {""}


def test_imports_go_down_only() -> None:
    found = list(arrows())
    assert len({arrow[1:] for arrow in found}) > 30, "the imports are read"
    up = {arrow for arrow in found if FLOORS[arrow[1]] <= FLOORS[arrow[2]] and arrow[1:] not in UPWARD}
    assert not up, f"expected imports from lower floors alone, got {sorted(up)}"
