"""Writes the results of a study as CSV and JSON, for other programs."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fused_gan.base.files import atomic_write
from fused_gan.base.json_files import write_json
from fused_gan.study.grid import Study
from fused_gan.study.result import Result
from fused_gan.study.statistics import Cell, Difference


def write_csv(path: Path, study: Study, results: Sequence[Result]) -> None:
    """Write one row per job, with its settings, its outcome and every score of its evaluation."""
    names = list(dict.fromkeys(name for result in results for name in result.evaluation.get("values", {})))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*study.axes, "seed", "succeeded", "verdicts", "diverged", "steps", "seconds", *names])
        for result in results:
            values = result.evaluation.get("values", {})
            writer.writerow(
                [
                    *(result.settings[axis] for axis in study.axes),
                    result.seed,
                    int(result.succeeded(study.success)),
                    "; ".join(result.verdicts),
                    result.diverged,
                    result.steps,
                    round(result.seconds, 1),
                    *(values.get(name, "") for name in names),
                ]
            )


def write_results(
    path: Path,
    study: Study,
    results: Sequence[Result],
    cells: Sequence[Cell],
    differences: Sequence[Difference],
    summary: Sequence[str],
) -> None:
    """Write the study, each result in full, the means, the differences with their intervals, and the summary."""
    content = {
        "study": dataclasses.asdict(study),
        "summary": list(summary),
        "cells": [_cell(study, cell) for cell in cells],
        "differences": [dataclasses.asdict(one) | {"mean": _known(one.mean)} for one in differences],
        "results": [dataclasses.asdict(result) for result in results],
    }
    write_json(path, content, indent=None)


def _cell(study: Study, cell: Cell) -> dict[str, Any]:
    metrics = {
        name: {"mean": _known(cell.mean(name)), "deviation": _known(cell.deviation(name))} for name in study.metrics
    }
    return {
        "settings": cell.settings,
        "runs": len(cell.results),
        "successes": cell.successes(study),
        "metrics": metrics,
    }


def _known(value: float) -> float | None:
    """Return the value, or None in the place of NaN, which means that there was nothing to compute it from."""
    return None if math.isnan(value) else value
