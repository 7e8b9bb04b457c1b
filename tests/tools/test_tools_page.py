"""docs/tools.md has the table that tests/tools proves, with the versions that `make tools` installs."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.tools import COLUMNS, PACKAGES, TOOLS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
PAGE = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
INSTALLED = re.findall(
    r"\b([a-z][a-z-]+)==([\d.]+)",
    re.findall(r"^tools = \[.*?\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]
    + re.findall(r"^BACKPACK.*$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0],
)


def test_the_table_is_the_one_that_is_proved() -> None:
    rows = [("tool", *COLUMNS), *((tool.name, *(tool.cells[column].phrase for column in COLUMNS)) for tool in TOOLS)]
    expected = [f"| {' | '.join(row)} |" for row in rows]
    expected.insert(1, f"| {' | '.join(['---'] * len(rows[0]))} |")
    assert "\n".join(expected) == "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))


def test_the_versions_are_those_that_are_installed() -> None:
    assert {name for name, _ in INSTALLED} == PACKAGES.keys()
    [versions] = re.findall(r"torch 2\.13\.0, (.*?)\.\n", PAGE, re.DOTALL)
    assert " ".join(versions.split()) == ", ".join(f"{name} {version}" for name, version in sorted(INSTALLED))
