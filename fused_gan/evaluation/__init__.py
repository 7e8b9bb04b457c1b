"""Scores of trained systems that need no download: `evaluate`, `load_extractor`, `train_extractor`."""

from typing import TYPE_CHECKING, Any

from fused_gan.evaluation.evaluator import Evaluator, find_extractor
from fused_gan.evaluation.extractor import SHIPPED, Extractor, ExtractorError, load_extractor
from fused_gan.evaluation.result import Evaluation, Settings
from fused_gan.evaluation.train_extractor import train_extractor

if TYPE_CHECKING:
    from fused_gan.training.evaluate import evaluate, read_evaluations

__all__ = [
    "SHIPPED",
    "Evaluation",
    "Evaluator",
    "Extractor",
    "ExtractorError",
    "Settings",
    "evaluate",
    "find_extractor",
    "load_extractor",
    "read_evaluations",
    "train_extractor",
]


def __getattr__(name: str) -> Any:
    # Both read and write run folders, so they are defined in fused_gan.training. Their public names are here.
    if name in ("evaluate", "read_evaluations"):
        from fused_gan.training import evaluate as of_runs

        return getattr(of_runs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
