"""For the tests of studies: a tiny grid that is really run, and results that are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fused_gan.evaluation import Evaluation
from fused_gan.evaluation.result import Settings
from fused_gan.study import Result, Study, Success

SETTINGS = {"activation": {"relu": {}, "tanh": {}}, "output": {"tanh": {}, "sigmoid": {}}}


def study(seeds: int, axes: dict[str, dict[str, dict[str, Any]]] | None = None) -> Study:
    """A study that is not run: a score, the lower the better, and a bar of 10."""
    return Study("made-up", "Which?", "mlp-gan", {}, axes or SETTINGS, seeds, ("fd",), Success("fd", at_most=10))


def result(
    labels: Sequence[str], seed: int, fd: float, verdicts: Sequence[str] = (), diverged: str = "", **seen: Any
) -> Result:
    """A result with this score, whose looks have two layers in each of two networks; the last `seen` otherwise."""
    look = {
        "step": 100,
        "gradient_norms": {"generator.0": 1e-3, "generator.1": 1e-1, "discriminator.0": 0.5, "discriminator.1": 1.0},
        "network_norms": {"generator": 1.0, "discriminator": 1.0},
        "dead": {"generator.0": 0.25},
        "saturated": {},
        "negative": {},
        "diversity": 1.0,
        "kl": [],
        "verdicts": [],
    }
    settings = Settings(
        "step-0000100.safetensors",
        100,
        300,
        0,
        "mnist-5k",
        True,
        "made up",
        "0" * 64,
        0.9,
        "as it is",
        None,
        None,
        None,
    )
    evaluation = {} if diverged else asdict(Evaluation({"fd": fd}, {"fd": 0.5}, settings, 1.0, {}))
    curve = [{"step": 50, "fd": 2 * fd}, {"step": 100, "fd": fd}]
    return Result(
        dict(zip(SETTINGS, labels, strict=False)),
        seed,
        100,
        1.5,
        diverged,
        list(verdicts),
        look,
        look | seen,
        evaluation,
        curve,
    )


def write_grid(folder: Path, steps: int = 40, settings: Sequence[str] = ("relu", "tanh"), **changes: Any) -> Path:
    """Write a study of a few seconds and its data, 28×28 pixels as the shipped extractors want; return its file."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 28, 28), dtype=np.uint8)
    np.savez(folder / "noise.npz", images=pixels)
    content = {
        "about": "Which activation?",
        "preset": "mlp-gan",
        "fields": {
            "data": str(folder / "noise.npz"),
            "steps": steps,
            "generator_widths": [8],
            "discriminator_widths": [8],
            "z_dim": 4,
            "batch_size": 8,
            "log_interval": max(5, steps // 20),
            "checkpoint_interval": max(5, steps // 20),
            "sample_interval": 0,
            "health_interval": max(5, steps // 5),
        },
        "axes": {"activation": list(settings)},
        "seeds": 1,
        "metrics": ["fd"],
        "success": {"metric": "fd", "at_most": 1e9},
        "evaluation": {"samples": 300, "extractor": "mnist-5k"},
    }
    path = folder / "grid.json"
    path.write_text(json.dumps(content | changes))
    return path
