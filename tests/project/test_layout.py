"""The repository keeps its layout: no file of code is longer than a reader takes in at once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("fused_gan", "csrc", "tests", "benchmarks", "findings")
CODE = {".py", ".pyi", ".h", ".cuh", ".inl", ".cpp", ".cu", ".sh"}
LONGEST = 400  # lines


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
