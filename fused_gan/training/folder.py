"""The run folder: what lies where, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fused_gan.errors import require
from fused_gan.files import atomic_write


class RunFolder:
    """Paths in the folder of one run.

    config.json             what was run, in full
    metrics.jsonl           one JSON object a line, added as the run goes
    checkpoint.safetensors  the last checkpoint
    samples/step-*.png      grids of always the same noise
    samples.png             the last of them
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.samples = path / "samples"
        self.picture = path / "samples.png"

    def require_new(self) -> None:
        """Raise `UserError` unless the folder is missing or empty: a run never overwrites another."""
        require(
            not self.path.exists() or self.path.is_dir(), f"out: {self.path} is a file, expected a new or empty folder"
        )
        require(
            not self.path.exists() or not any(self.path.iterdir()),
            f"out: {self.path} is not empty; name a new folder or empty it",
        )

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder and write `config` (anything that JSON holds)."""
        self.samples.mkdir(parents=True)
        with atomic_write(self.config) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def add_metrics(self, metrics: Mapping[str, float]) -> None:
        """Append one line; opened and closed each time, so that a reader, or a crash, finds whole lines."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
