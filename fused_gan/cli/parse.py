"""Parses a command line into a command: a dataclass whose fields are the options, with docstrings as help."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tyro

from fused_gan.base.errors import UserError, require
from fused_gan.cli import doctor
from fused_gan.cli.data import Data
from fused_gan.cli.evaluate import Evaluate, Extractor, Report
from fused_gan.cli.options import OPTIONS, with_help
from fused_gan.cli.pictures import Interpolate, Reconstruct, Sample
from fused_gan.cli.study import StudyCommand
from fused_gan.cli.train import Resume, Train
from fused_gan.systems.presets import from_json
from fused_gan.training import PRESETS


def _expanded(option: re.Match[str]) -> str:
    return option[1] + os.path.expanduser(option[2])


class Command(Protocol):
    """A parsed command."""

    def run(self) -> int:
        """Run the command; return the exit status."""


@dataclass(frozen=True)
class Doctor:
    """Show versions, the build and devices, and say how to get what is missing."""

    def run(self) -> int:
        return doctor.report()


def parse(arguments: Sequence[str]) -> Command:
    """Return the command that `arguments` name.

    Raises:
        UserError: an option's value is out of range.
        SystemExit: with 2 for arguments that cannot be parsed, or 0 after --help. The text is printed.
    """
    # A shell expands the ~ of `--out ~/run`, but not that of `--out=~/run`.
    arguments = [re.sub(r"^(--[\w-]+=)(~.*)", _expanded, word) for word in arguments]
    if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1] in PRESETS:
        return _parse_training(arguments[1], arguments[2:])
    app = tyro.extras.SubcommandApp()
    app.command(_presets_app(), name="train", help="Train a system.")
    for command in (Data, Resume, Sample, Interpolate, Reconstruct, Evaluate, Extractor, Report, Doctor):
        app.command(name=command.__name__.lower())(command)
    app.command(name="study")(StudyCommand)
    parsed: Command = app.cli(
        prog="fused-gan",
        description="Train GANs and VAEs on fused layers, and make pictures with them.",
        args=arguments,
        config=OPTIONS,
    )
    return parsed


def _presets_app() -> tyro.extras.SubcommandApp:
    """Return the presets for `fused-gan train --help`. `_parse_training` parses the fields of one preset."""
    systems = tyro.extras.SubcommandApp()
    for name, preset in PRESETS.items():

        def explain() -> None: ...

        explain.__doc__ = preset.about
        systems.command(name=name)(explain)
    return systems


def _parse_training(name: str, words: list[str]) -> Train:
    """Parse `fused-gan train NAME [--config FILE] [--FIELD VALUE …]`. Options win over the file."""
    file, words = _config_file(words)
    preset = PRESETS[name]
    if file is not None:
        preset = from_json(name, _fields_in(file))
    parts = [("model", with_help(preset.model)), ("training", with_help(preset.training))]
    options = dataclasses.make_dataclass("Options", parts, frozen=True)
    parsed: Any = tyro.cli(
        options,
        prog=f"fused-gan train {name}",
        description=f"{preset.about}\n\nWrites a run folder with configuration, metrics, pictures and checkpoints. "
        "Ctrl-C ends the training early with everything saved, and fused-gan resume continues it. --config FILE reads "
        "fields from a JSON file, as the config.json of a run folder. Options given beside the file win.",
        args=words,
        config=OPTIONS,
    )
    model = dataclasses.replace(preset.model, **vars(parsed.model))
    return Train(name, model, dataclasses.replace(preset.training, **vars(parsed.training)))


def _config_file(words: list[str]) -> tuple[Path | None, list[str]]:
    """Return the file of `--config FILE` or `--config=FILE`, or None, and the other words."""
    for index, word in enumerate(words):
        if word == "--config":
            require(index + 1 < len(words), "config: expected a file after --config, got nothing")
            return Path(words[index + 1]), words[:index] + words[index + 2 :]
        if word.startswith("--config="):
            return Path(word.removeprefix("--config=")), words[:index] + words[index + 1 :]
    return None, words


def _fields_in(file: Path) -> dict[str, Any]:
    """Return the fields in a JSON file, which is flat, as {"lr": 1e-4, …}, or a run folder's config.json."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"config: {file} cannot be read as JSON: {error}") from error
    require(isinstance(content, dict), f"config: {file}: expected a JSON object, got {type(content).__name__}")
    if content.keys() >= {"model", "training"}:  # a config.json; another run needs another folder
        content = content["model"] | {name: value for name, value in content["training"].items() if name != "out"}
    fields: dict[str, Any] = content
    return fields
