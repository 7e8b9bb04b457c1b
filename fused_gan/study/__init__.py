"""Studies: a grid of settings, each trained from several seeds, and statistics of their differences."""

from fused_gan.study.folder import StudyFolder
from fused_gan.study.grid import Job, Study, Success, load_study, shipped_studies
from fused_gan.study.report import write_study
from fused_gan.study.result import Result
from fused_gan.study.runner import Progress, run_study
from fused_gan.study.statistics import Cell, Difference, cells, differences, studentised_interval
from fused_gan.study.workers import here, on_cluster

__all__ = [
    "Cell",
    "Difference",
    "Job",
    "Progress",
    "Result",
    "Study",
    "StudyFolder",
    "Success",
    "cells",
    "differences",
    "here",
    "load_study",
    "on_cluster",
    "run_study",
    "shipped_studies",
    "studentised_interval",
    "write_study",
]
