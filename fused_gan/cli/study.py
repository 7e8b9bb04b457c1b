"""The command `fused-gan study`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fused_gan.base.errors import require
from fused_gan.base.files import NotWritten
from fused_gan.study.folder import StudyFolder
from fused_gan.study.grid import Study, load_study, shipped_studies
from fused_gan.study.process import STOPPED
from fused_gan.study.runner import Progress, run_study
from fused_gan.study.workers import here, on_cluster

FAILED = 1


@dataclass(frozen=True)
class StudyCommand:
    """Train a grid of settings from several seeds, evaluate every run, and report what differs.

    However a study ended, the same command continues it. Finished jobs are skipped, and begun jobs go on.
    """

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")] = ""
    """gan-activations, gan-smooth-activations, vae-activations or vae-smooth-activations."""

    config: Path | None = None
    """JSON file of a study of your own, in the place of STUDY. docs/study.md describes it."""

    out: Path | None = None
    """Folder of the study. None takes studies/STUDY."""

    seeds: int | None = None
    """Number of seeds per setting. None takes the study's own number. More can be added later."""

    workers: int | None = None
    """Jobs at a time. None takes as many as the cores allow."""

    threads: int = 1
    """CPU threads of each job."""

    devices: tuple[str, ...] = ("auto",)
    """auto, cpu, cuda or cuda:N. The workers take these devices in turn; with --dask, all jobs take the same one."""

    max_minutes: float | None = None
    """End after this many minutes with everything saved. The exit status is 75 if jobs are left.
    0 only writes the report of the results so far."""

    dask: str | None = None
    """Run the jobs on the Dask cluster whose scheduler has this address, one job per thread.
    All machines of the cluster must see the folder under the same path."""

    list: bool = False
    """Print the jobs and their fields, and run nothing."""

    def __post_init__(self) -> None:
        require(
            bool(self.study) != bool(self.config),
            f"study: expected one of {', '.join(shipped_studies())}, or --config FILE",
        )
        for name in ("workers", "threads", "seeds"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}: expected a positive integer, got {value}")
        require(bool(self.devices), "devices: expected at least one, got none")
        if self.dask is not None:
            require(self.workers is None, "workers: with --dask there are as many as the cluster has; leave it out")
            require(
                len(self.devices) == 1,
                f"devices: with --dask expected one for all jobs, got {', '.join(self.devices)}; which GPU a worker of "
                "the cluster takes, its environment says",
            )
        require(
            self.max_minutes is None or self.max_minutes >= 0,
            f"max_minutes: expected a number of at least 0, got {self.max_minutes}",
        )

    def run(self) -> int:
        study = load_study(self.config or self.study, self.seeds)
        folder = StudyFolder(self.out or Path("studies") / study.name)
        if self.list:
            return _list(study, folder)
        workers = (
            here(self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads), self.threads, self.devices)
            if self.dask is None
            else on_cluster(self.dask, self.threads, self.devices[0])
        )
        with workers as running:
            progress = run_study(study, folder, running, self.max_minutes)
        if progress.lost_output:
            raise NotWritten(None, f"{progress.lost_output}; every job is saved, the same command goes on")
        if progress.reported:
            print(f"numbers: {folder.csv}, {folder.json}")
            print(f"report: {folder.report}")
        return _status(progress)


def _list(study: Study, folder: StudyFolder) -> int:
    jobs = study.jobs()
    for job in jobs:
        done = "done" if folder.job(job.name).is_done else "to do"
        fields = " ".join(f"{name}={value}" for name, value in job.fields.items())
        print(f"{job.name}  {done}  {job.preset} {fields}")
    print(f"{len(jobs)} jobs, {sum(folder.job(job.name).is_done for job in jobs)} of them done, in {folder.path}")
    return 0


def _status(progress: Progress) -> int:
    for path in progress.failed:
        print(f"failed: {path}; see its log.txt")
    if progress.left:
        print(f"{progress.done} jobs done, {progress.left} left; go on with the same command")
    if progress.stopped_by is not None:
        return 128 + progress.stopped_by
    if progress.failed:
        return FAILED
    return STOPPED if progress.left else 0
