"""Writes docs/commands.md from the help of every command, so that the page says what the commands say.

make commands, or: python docs/commands.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
import textwrap
from pathlib import Path
from unittest import mock

PAGE = Path(__file__).with_name("commands.md")
WIDTH = 100  # columns of the help texts
BASES = {"gan": "mlp-gan", "vae": "mlp-vae"}  # the presets whose options are listed in full
HEAD = """# The commands

Made from the commands' own `--help` by `make commands`; a test compares the two. [Training](train.md),
[evaluation](evaluate.md) and [studies](study.md) explain them with examples.
"""


def help_of(*words: str) -> str:
    """Return what `fused-gan WORDS --help` prints at `WIDTH` columns, longer lines wrapped."""
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS=str(WIDTH)),
        mock.patch.object(sys, "argv", ["fused-gan", *words, "--help"]),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_module("fused_gan.cli", run_name="__main__", alter_sys=True)
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    return "\n".join(textwrap.fill(line, WIDTH) if len(line) > WIDTH else line for line in lines).strip()


def names_in(text: str) -> list[str]:
    """Return the subcommands that a help text lists."""
    return re.findall(r"^ +• (\S+)", text, re.MULTILINE)


def options_in(text: str) -> dict[str, str]:
    """Return each option of a help text with its lines, by its name."""
    options: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        if found := re.match(r"  (--[a-z0-9-]+)", line):
            name = found[1]
        elif not line.startswith("   "):
            name = None
        if name:
            options.setdefault(name, []).append(line)
    return {name: "\n".join(lines) for name, lines in options.items()}


def difference(text: str, base: str, base_name: str) -> str:
    """Return the options of one preset's help whose words differ from those of another's; line breaks do not count."""
    own, others = options_in(text), options_in(base)
    changed = [lines for name, lines in own.items() if others.get(name, "").split() != lines.split()]
    missing = [name for name in others if name not in own]
    said = f"The options of `{base_name}`"
    if missing:
        said += f" without {', '.join(f'`{name}`' for name in missing)}"
    return f"{said}{', and these:' if changed else '.'}\n" + (block("\n".join(changed)) if changed else "")


def block(text: str) -> str:
    """Return a text as a Markdown block."""
    return f"\n```text\n{text}\n```\n"


def page() -> str:
    """Return the page."""
    start = help_of()
    parts = [HEAD, f"\n## fused-gan\n{block(start)}"]
    for command in names_in(start):
        text = help_of(command)
        parts.append(f"\n## fused-gan {command}\n{block(text)}")
        if command == "train":
            texts = {preset: help_of("train", preset) for preset in names_in(text)}
            parts += [section(preset, texts) for preset in texts]
    return "".join(parts)


def section(preset: str, texts: dict[str, str]) -> str:
    """Return a preset's part of the page: in full, or what differs from the first preset of its family."""
    base = BASES["vae" if preset.endswith("vae") else "gan"]
    said = block(texts[preset]) if preset == base else f"\n{difference(texts[preset], texts[base], base)}"
    return f"\n### fused-gan train {preset}\n{said}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
