"""How good a trained system is, by metrics that need no download: `evaluate`, `load_extractor`, `train_extractor`."""

from fused_gan.evaluation.evaluate import Evaluation, Settings, evaluate, read_evaluations
from fused_gan.evaluation.evaluator import Evaluator, find_extractor
from fused_gan.evaluation.extractor import SHIPPED, Extractor, ExtractorError, load_extractor
from fused_gan.evaluation.fit import train_extractor

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
