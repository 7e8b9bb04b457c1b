"""The study's folder: what lies where, and how it is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import remove_leftovers
from fused_gan.base.json_files import read_json, to_json_text, write_json
from fused_gan.study.grid import GIVEN, PLACED, Job, Study
from fused_gan.study.result import Result
from fused_gan.training import RunFolder


class JobFolder:
    """Paths in the folder of one job.

    job.json      what it is told, and every field that it stood for then
    run/          the run folder of its training
    log.txt       what it said
    .lock         held by the job's process
    result.json   what came out; written last, so a job with this file is done and one without is not
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job = path / "job.json"
        self.log = path / "log.txt"
        self.result = path / "result.json"
        self.lock = path / ".lock"
        self.run = RunFolder(path / "run")

    @property
    def is_done(self) -> bool:
        return self.result.is_file()

    def create(self, job: Job) -> None:
        """Make the folder, if need be, and write what the job is told."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.job, dataclasses.asdict(job) | {"configuration": job.configuration()})

    def read_job(self) -> Job:
        """What the job is told, its fields with the defaults of then.

        Raises:
            UserError: the file is missing or broken.
        """
        told = read_json(self.job)
        every = told.pop("configuration", {})
        try:
            return Job(**told | {"fields": told["fields"] | every})
        except (TypeError, KeyError) as error:
            raise UserError(f"{self.job}: it was written by another version: {error!r}") from error

    def configuration(self) -> dict[str, Any] | None:
        """Every field that the job was begun with; None where that is not known.

        Folders that were begun before job.json held it have it in the run's folder, as long as that is there.

        Raises:
            UserError: a file is broken.
        """
        told = read_json(self.job)
        if "configuration" in told:
            every = told["configuration"]
            require(isinstance(every, dict), f"{self.job}: configuration: expected an object, got {every!r}")
            return dict(every)
        if not self.run.config.is_file():
            return None
        return self.run.read_config().fields


class StudyFolder:
    """Paths in the folder of a study.

    study.json     the study in full
    jobs/NAME/     a folder for each job, as `JobFolder` describes it
    results.csv    a row a job
    results.json   what came out of each job, and the statistics
    report.html    the report, one page
    .lock          held by the study that runs
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study = path / "study.json"
        self.csv = path / "results.csv"
        self.json = path / "results.json"
        self.report = path / "report.html"
        self.lock = path / ".lock"

    def job(self, name: str) -> JobFolder:
        """The folder of the job of this name."""
        return JobFolder(self.path / "jobs" / name)

    def make(self) -> None:
        """Make the folder, unless it is there.

        Raises:
            UserError: it is a file, or holds something else than a study.
        """
        require(not self.path.exists() or self.path.is_dir(), f"out: {self.path} is a file, expected a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in self.path.iterdir() if path != self.lock]
        require(
            not others or self.study.is_file(),
            f"out: {self.path} is neither empty nor the folder of a study; name a new folder",
        )

    def begin(self, study: Study) -> list[str]:
        """Write what is studied, in a new folder or in that of the same study with fewer or more jobs.

        Returns:
            The names of the jobs that are done with defaults that are not known.

        Raises:
            UserError: a job was begun with other fields, or is done with another evaluation, than it has in this study
                with the defaults of today.
        """
        begun = [job for job in study.jobs() if self.job(job.name).job.is_file()]
        unknown = []
        for job in begun:
            folder = self.job(job.name)
            known = folder.configuration()
            _require_same(folder, known, job, study.name)
            if folder.is_done and known is None:
                unknown.append(job.name)
        remove_leftovers(self.path)
        write_json(self.study, dataclasses.asdict(study))
        return unknown

    def results(self, study: Study) -> list[Result]:
        """What came out of the jobs that are done, in the study's order."""
        folders = (self.job(job.name) for job in study.jobs())
        return [Result.read(folder.result) for folder in folders if folder.is_done]


def _require_same(folder: JobFolder, known: dict[str, Any] | None, job: Job, study: str) -> None:
    """Raise `UserError` if what was begun in the folder, and evaluated if it is done, is not this job of a study.

    Args:
        known: the folder's configuration.
    """
    told = folder.read_job()
    tell = Job(**json.loads(to_json_text(dataclasses.asdict(job))))  # as it would be read back
    was, now = (told.fields, tell.fields) if known is None else (known, job.configuration())
    changed = _changed(_with_axes(told, was), _with_axes(tell, now))
    require(
        not changed,
        f"out: {folder.path} was begun with other fields than {study} has now: {'; '.join(changed)}. Write the old "
        "values into the study if it is defaults that have changed, or name a new folder",
    )
    require(
        told.evaluation == tell.evaluation or not folder.is_done,  # how to evaluate it can still be said otherwise
        f"out: {folder.path} was evaluated with {to_json_text(told.evaluation)}, {study} has now "
        f"{to_json_text(tell.evaluation)}: remove the result.json of such jobs, and they are evaluated anew, or name a "
        "new folder",
    )


def _with_axes(job: Job, fields: dict[str, Any]) -> dict[str, Any]:
    """What two jobs are compared in: the system and the settings, and the fields."""
    return {"preset": job.preset, "settings": job.settings} | fields


def _changed(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """As `lr was 0.0002, is 0.001`: the fields in which two configurations differ, of those that change results."""
    fields = [name for name in dict.fromkeys([*was, *now]) if name not in (*GIVEN, *PLACED)]
    return [
        f"{name} {_value('was', was, name)}, {_value('is', now, name)}"
        for name in fields
        if name not in was or name not in now or was[name] != now[name]
    ]


def _value(word: str, fields: dict[str, Any], name: str) -> str:
    return f"{word} {to_json_text(fields[name])}" if name in fields else f"{word} not there"
