"""Runs one job in a process of its own, as `python -m fused_gan.study.job FOLDER`.

The job trains, evaluates and writes its result. If it is killed and started again, it continues from its last
checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fused_gan.base.endings import in_words
from fused_gan.base.errors import Diverged
from fused_gan.base.files import remove_leftovers
from fused_gan.base.lock import locked
from fused_gan.data import load
from fused_gan.study.folder import JobFolder
from fused_gan.study.process import STOPPED, stop_with_parent
from fused_gan.study.result import Result
from fused_gan.systems.devices import resolve_device
from fused_gan.systems.monitor import Monitor, as_json
from fused_gan.training import Preset, RunFolder, build_system, resume, train
from fused_gan.training.checkpoint import Checkpoints
from fused_gan.training.evaluate import evaluate
from fused_gan.training.folder import read_lines

FAILED = 1


def run_job(folder: JobFolder, threads: int, device: str) -> int:
    """Do what is left of a job; return the exit status of the process, which is 0 if the result is written.

    Args:
        folder: the job's folder.
        threads: CPU threads of torch.
        device: the device of training and evaluation, as in a training's configuration.

    Raises:
        UserError: the job, or the files of an earlier start, cannot be used.
    """
    remove_leftovers(folder.path)  # here, because no other process works on the job
    if folder.is_done:
        return 0
    job = folder.read_job()
    preset = job.configured(out=folder.run.path, threads=threads, device=device)
    diverged = ""
    try:
        if not _train_to_the_end(preset, folder.run):
            return STOPPED
    except Diverged as error:
        diverged = str(error)
    start = _first_look(preset)
    end = (read_lines(folder.run.health) or [start])[-1]
    metrics = read_lines(folder.run.metrics)
    evaluation = {} if diverged else asdict(evaluate(folder.run.path, device=device, **job.evaluation))
    names = evaluation.get("values", {}).keys()
    Result(
        settings=job.settings,
        seed=job.seed,
        steps=max((line["step"] for line in metrics), default=0),
        seconds=max((line["seconds"] for line in metrics if "seconds" in line), default=0.0),
        diverged=diverged,
        verdicts=[verdict["name"] for verdict in end["verdicts"]],
        start=start,
        end=end,
        evaluation=evaluation,
        curve=[_select(line, {"step", *names}) for line in metrics if names & line.keys()],
    ).write(folder.result)
    return 0


def _train_to_the_end(preset: Preset, run: RunFolder) -> bool:
    """Train, or continue an earlier training, to the end. Return False if a signal stopped the training before."""
    config = preset.training
    saved = Checkpoints(run.checkpoints, keep=1).all()
    console = Console(width=120)
    if not saved:  # killed before the first checkpoint
        shutil.rmtree(run.path, ignore_errors=True)
        return train(preset, console=console).stopped_by is None
    if saved[-1].name == Checkpoints(run.checkpoints, keep=1).path(config.steps).name:
        return True
    return resume(run.path, device=config.device, threads=config.threads, console=console).stopped_by is None


def _first_look(preset: Preset) -> dict[str, Any]:
    """Return the health monitor's look after the run's first step, as health.jsonl holds it."""
    config = preset.training
    data = load(config.data, config.image_size, config.channels)
    system = build_system(preset.model, config, data, resolve_device(config.device))
    system.step()
    return as_json(*Monitor(system).look())


def _select(line: dict[str, Any], names: set[str]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name in names}


def main() -> int:
    """Run the job that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--until", type=float, help="seconds since the epoch")
    options = parser.parse_args()
    stop_with_parent(options.until)
    torch.set_num_threads(options.threads)
    folder = JobFolder(options.folder)
    try:
        with locked(folder.lock):
            return run_job(folder, options.threads, options.device)
    except Exception as error:
        words = in_words(error, f"the job in {folder.path}")
        if words is None:
            raise
        print(f"error: {words}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
