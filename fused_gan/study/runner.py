"""Runs a study. The workers take the jobs without a result, until all are done, time is up or a signal comes. Then
the report is written.
"""

from __future__ import annotations

import signal
import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fused_gan.base.lock import locked
from fused_gan.study.folder import JobFolder, StudyFolder
from fused_gan.study.grid import Study
from fused_gan.study.process import POLLED, Outcome
from fused_gan.study.report import write_study
from fused_gan.study.result import Result
from fused_gan.study.workers import Workers
from fused_gan.training.progress import Output, is_closed, lost_output
from fused_gan.training.stop_signal import StopSignal


@dataclass(frozen=True)
class Progress:
    """The progress of a study.

    Attributes:
        done: the number of jobs with a result.
        left: the number of jobs that were stopped or not begun.
        failed: the folders of the jobs that failed. The log.txt in each says why.
        stopped_by: the signal that ended the study early, if one did.
        reported: whether there was a result to report.
        lost_output: why standard output could not be written, which ends a study too; "" if all was written, or if its
            reader had gone.
    """

    done: int
    left: int
    failed: tuple[Path, ...]
    stopped_by: signal.Signals | None
    reported: bool
    lost_output: str = ""


def run_study(
    study: Study,
    folder: StudyFolder,
    workers: Workers,
    minutes: float | None = None,
    console: Console | None = None,
) -> Progress:
    """Run the jobs that have no result yet, and report the results.

    SIGINT (Ctrl-C), SIGTERM or SIGHUP ends the study early, with every job saved, and so does standard output that
    cannot be written.

    Args:
        study: the study.
        folder: its folder. Jobs that are done stay done, and jobs that were begun continue from their last checkpoint.
        workers: the workers that run the jobs.
        minutes: the time after which the study ends, with every job saved. The next call continues it.
        console: where progress goes; by default standard output.

    Raises:
        UserError: the folder cannot be used, another process is at work in it, or its results cannot be reported.
    """
    console = console or Output()
    until = None if minutes is None else time.time() + 60 * minutes
    folder.make()
    busy = f"out: another study is running in {folder.path}; wait for it, or name a new folder"
    with locked(folder.lock, busy), StopSignal() as signals:
        unchecked = folder.begin(study)
        if unchecked:
            console.print(_unchecked_warning(unchecked), highlight=False, markup=False, soft_wrap=True)
        jobs = study.jobs()
        open_jobs = [job for job in jobs if not folder.job(job.name).is_done]
        console.print(f"{study.name}: {len(jobs)} jobs, {len(open_jobs)} of them to do", highlight=False)
        for job in open_jobs:
            folder.job(job.name).create(job)
        waiting = {workers.submit(folder.job(job.name).path, until): job for job in open_jobs}
        failed: list[Path] = []
        while waiting:
            ready, _ = wait(waiting, timeout=POLLED, return_when=FIRST_COMPLETED)
            for future in ready:
                job = waiting.pop(future)
                error = future.exception()  # the worker's error; a job's error is in its log
                outcome = "failed" if error else future.result()
                if outcome == "failed":
                    failed.append(folder.job(job.name).path)
                if outcome == "not begun":
                    continue
                line = f"{len(open_jobs) - len(waiting)}/{len(open_jobs)}  {job.name}  {outcome}"
                line += f": {error!r}" if error else _outcome_details(study, folder.job(job.name), outcome)
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            if is_closed(console):
                signals.note(signal.SIGPIPE)
            if signals.received is not None:
                workers.stop()
                waiting = {future: job for future, job in waiting.items() if not future.cancel()}
        done = sum(folder.job(job.name).is_done for job in jobs)
        reported = write_study(folder, study)
        lost = lost_output(console)
        stopped_by = None if lost and signals.received == signal.SIGPIPE else signals.received
        return Progress(done, len(jobs) - done - len(failed), tuple(failed), stopped_by, reported, lost)


def _unchecked_warning(names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
    return (
        f"not checked: {shown} were done by a version that did not write its defaults down, and their run folders are "
        "gone; if a default has changed since, they do not compare with the jobs to come"
    )


def _outcome_details(study: Study, folder: JobFolder, outcome: Outcome) -> str:
    if outcome == "failed":
        return f", see {folder.log}"
    if outcome == "stopped":
        return ""
    result, metric = Result.read(folder.result), study.success.metric
    verdicts = f"  {', '.join(result.verdicts)}" if result.verdicts else ""
    return f"  {metric} {result.value(metric):.4g}  {result.seconds:.0f} s{verdicts}"
