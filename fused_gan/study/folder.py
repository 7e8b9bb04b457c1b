"""The study's folder: what lies where, and how it is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from fused_gan.errors import UserError, require
from fused_gan.files import remove_leftovers
from fused_gan.json_files import read_json, to_json_text, write_json
from fused_gan.study.grid import Job, Study
from fused_gan.study.result import Result
from fused_gan.training import RunFolder


class JobFolder:
    """Paths in the folder of one job.

    job.json      what it is told
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
        write_json(self.job, dataclasses.asdict(job))

    def read_job(self) -> Job:
        """What the job is told.

        Raises:
            UserError: the file is missing or broken.
        """
        try:
            return Job(**read_json(self.job))
        except TypeError as error:
            raise UserError(f"{self.job}: it was written by another version: {error}") from error


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

    def begin(self, study: Study) -> None:
        """Write what is studied, in a new folder or in that of the same study with fewer or more jobs.

        Raises:
            UserError: a job was begun with other fields than it has in this study.
        """
        for job in study.jobs():
            folder = self.job(job.name)
            if folder.job.is_file():
                told, tell = read_json(folder.job), json.loads(to_json_text(dataclasses.asdict(job)))
                if not folder.is_done:  # how to evaluate it can still be said otherwise
                    told.pop("evaluation", None), tell.pop("evaluation")
                require(
                    told == tell,
                    f"out: {folder.path} was begun with other fields than {study.name} has now; name a new folder",
                )
        remove_leftovers(self.path)
        write_json(self.study, dataclasses.asdict(study))

    def results(self, study: Study) -> list[Result]:
        """What came out of the jobs that are done, in the study's order."""
        folders = (self.job(job.name) for job in study.jobs())
        return [Result.read(folder.result) for folder in folders if folder.is_done]
