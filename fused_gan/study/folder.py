"""The folder of a study: its files, and how they are written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.files import as_path, remove_leftovers
from fused_gan.base.json_files import read_json, to_json_text, write_json
from fused_gan.study.grid import GIVEN, PLACED, Job, Study
from fused_gan.study.result import Result
from fused_gan.training import RunFolder


class JobFolder:
    """Paths in the folder of one job.

    job.json      the job, and the full configuration that it stood for when it was begun
    run/          the run folder of its training
    log.txt       the output of its process
    .lock         the lock that its process holds
    result.json   the result; it is written last, so a job is done if and only if it has this file
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path = as_path(path)
        self.job = path / "job.json"
        self.log = path / "log.txt"
        self.result = path / "result.json"
        self.lock = path / ".lock"
        self.run = RunFolder(path / "run")

    @property
    def is_done(self) -> bool:
        return self.result.is_file()

    def create(self, job: Job) -> None:
        """Make the folder, if it is missing, and write job.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.job, dataclasses.asdict(job) | {"configuration": job.configuration()})

    def read_job(self) -> Job:
        """Return the job, its fields completed by the defaults of the time when it was begun.

        Raises:
            UserError: job.json is missing or broken.
        """
        recorded = read_json(self.job)
        configuration = recorded.pop("configuration", {})
        try:
            return Job(**recorded | {"fields": recorded["fields"] | configuration})
        except (TypeError, KeyError) as error:
            raise UserError(f"{self.job}: it was written by another version: {error!r}") from error

    def configuration(self) -> dict[str, Any] | None:
        """Return every field that the job was begun with, or None if they were not recorded.

        If job.json was written before it held these fields, they come from the run folder, as long as it exists.

        Raises:
            UserError: a file is broken.
        """
        recorded = read_json(self.job)
        if "configuration" in recorded:
            fields = recorded["configuration"]
            require(isinstance(fields, dict), f"{self.job}: configuration: expected an object, got {fields!r}")
            return dict(fields)
        if not self.run.config.is_file():
            return None
        return self.run.read_config().fields


class StudyFolder:
    """Paths in the folder of a study.

    study.json     the full study
    jobs/NAME/     one folder per job, as `JobFolder` describes it
    results.csv    one row per job
    results.json   the result of each job, and the statistics
    report.html    the report
    .lock          the lock that the running study holds
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path = as_path(path)
        self.study = path / "study.json"
        self.csv = path / "results.csv"
        self.json = path / "results.json"
        self.report = path / "report.html"
        self.lock = path / ".lock"

    def job(self, name: str) -> JobFolder:
        """Return the folder of the job of this name."""
        return JobFolder(self.path / "jobs" / name)

    def make(self) -> None:
        """Make the folder, unless it exists.

        Raises:
            UserError: the path is a file, or a folder that holds something other than a study.
        """
        require(not self.path.exists() or self.path.is_dir(), f"out: {self.path} is a file, expected a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in self.path.iterdir() if path != self.lock]
        require(
            not others or self.study.is_file(),
            f"out: {self.path} is neither empty nor the folder of a study; name a new folder",
        )

    def begin(self, study: Study) -> list[str]:
        """Write study.json, in a new folder or in the folder of the same study with fewer or more jobs.

        Returns:
            The names of finished jobs whose full configuration was not recorded and so cannot be checked.

        Raises:
            UserError: a job was begun with other fields than this study with today's defaults gives it, or was
                evaluated in another way.
        """
        begun = [job for job in study.jobs() if self.job(job.name).job.is_file()]
        unchecked = []
        for job in begun:
            folder = self.job(job.name)
            configuration = folder.configuration()
            _require_same(folder, configuration, job, study.name)
            if folder.is_done and configuration is None:
                unchecked.append(job.name)
        remove_leftovers(self.path)
        write_json(self.study, dataclasses.asdict(study))
        return unchecked

    def results(self, study: Study) -> list[Result]:
        """Return the results of the jobs that are done, in the study's order."""
        folders = (self.job(job.name) for job in study.jobs())
        return [Result.read(folder.result) for folder in folders if folder.is_done]


def _require_same(folder: JobFolder, configuration: dict[str, Any] | None, job: Job, study: str) -> None:
    """Raise `UserError` unless the job in the folder was begun, and evaluated if it is done, as this job of a study.

    Args:
        folder: the job's folder.
        configuration: the folder's configuration.
        job: the job in the study.
        study: the study's name.
    """
    recorded = folder.read_job()
    current = Job(**json.loads(to_json_text(dataclasses.asdict(job))))  # as it would be read back
    was, now = (recorded.fields, current.fields) if configuration is None else (configuration, job.configuration())
    changed = _changed(_with_axes(recorded, was), _with_axes(current, now))
    require(
        not changed,
        f"out: {folder.path} was begun with other fields than {study} has now: {'; '.join(changed)}. Write the old "
        "values into the study if it is defaults that have changed, or name a new folder",
    )
    require(
        recorded.evaluation == current.evaluation or not folder.is_done,  # until then it may change
        f"out: {folder.path} was evaluated with {to_json_text(recorded.evaluation)}, {study} has now "
        f"{to_json_text(current.evaluation)}: remove the result.json of such jobs, and they are evaluated anew, or "
        "name a new folder",
    )


def _with_axes(job: Job, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what two jobs are compared by: the system, the settings and the fields."""
    return {"preset": job.preset, "settings": job.settings} | fields


def _changed(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the fields in which two configurations differ, as `lr was 0.0002, is 0.001`.

    Fields that change no result are left out.
    """
    fields = [name for name in dict.fromkeys([*was, *now]) if name not in (*GIVEN, *PLACED)]
    return [
        f"{name} {_value('was', was, name)}, {_value('is', now, name)}"
        for name in fields
        if name not in was or name not in now or was[name] != now[name]
    ]


def _value(word: str, fields: dict[str, Any], name: str) -> str:
    return f"{word} {to_json_text(fields[name])}" if name in fields else f"{word} not there"
