"""The result of a job."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fused_gan.base.errors import UserError, require
from fused_gan.base.json_files import read_json, restore_non_finite, write_json
from fused_gan.study.grid import Success, job_name

FORMAT = "fused_gan study result 1"
MEASURED = ("start", "end", "evaluation", "curve")  # fields that hold numbers, finite or not


@dataclass(frozen=True)
class Result:
    """The result of a job.

    Attributes:
        settings: for each axis the label of the job's setting.
        seed: seed of the training.
        steps: the number of steps trained.
        seconds: the duration of the training, in seconds.
        diverged: which value became infinite or NaN, and when; empty if none did. A diverged run has no evaluation.
        verdicts: the names of the health monitor's verdicts at the end.
        start, end: the health monitor's looks after the first and the last step, as health.jsonl holds them.
        evaluation: the scores and how they were measured, as evaluation.json holds them.
        curve: the evaluations during training: steps with their scores.
    """

    settings: dict[str, str]
    seed: int
    steps: int
    seconds: float
    diverged: str
    verdicts: list[str]
    start: dict[str, Any]
    end: dict[str, Any]
    evaluation: dict[str, Any]
    curve: list[dict[str, float]]

    @property
    def name(self) -> str:
        """The job's name."""
        return job_name(self.settings, self.seed)

    def value(self, metric: str) -> float:
        """Return a metric, which is NaN if the training diverged.

        Raises:
            UserError: the evaluation did not give the metric, as with SSIM of images smaller than its window.
        """
        if not self.evaluation:
            return math.nan
        values: dict[str, float] = self.evaluation["values"]
        require(metric in values, f"metrics: the evaluation of {self.name} has no {metric}, only {', '.join(values)}")
        return values[metric]

    def succeeded(self, success: Success) -> bool:
        """Whether the score passes the bar and there is no verdict at the end."""
        return success.passed(self.value(success.metric)) and not self.verdicts

    def conditions(self) -> dict[str, Any]:
        """Return what the evaluation's values depend on, apart from the weights and the real images."""
        settings = self.evaluation["settings"]
        names = ("samples", "seed", "extractor", "extractor_sha256", "preprocessing", "inception_sha256", "iwae_k")
        return {name: settings[name] for name in names}

    def write(self, path: Path) -> None:
        """Write the result, whole or not at all."""
        write_json(path, {"format": FORMAT} | dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Return the result that `write` wrote.

        Raises:
            UserError: the file is broken, or of another format.
        """
        content = read_json(path)
        found = content.pop("format", None)
        require(found == FORMAT, f"{path}: expected {FORMAT!r}, got {found!r}; remove it, and its job runs again")
        try:
            measured = {name: restore_non_finite(content[name]) for name in MEASURED if name in content}
            return cls(**content | measured)
        except TypeError as error:
            raise UserError(f"{path}: not what {FORMAT!r} holds: {error}") from error


def require_comparable(results: Sequence[Result]) -> None:
    """Raise `UserError` unless the results were evaluated in the same way.

    Only results of the same kind, GAN or VAE, that were compared with the same real images have to agree.
    """
    first: dict[tuple[str, bool], Result] = {}
    for result in results:
        if result.evaluation:
            settings = result.evaluation["settings"]
            known = first.setdefault((settings["reals"], settings["iwae_k"] is None), result)
            require(
                known.conditions() == result.conditions(),
                f"results: {known.name} was evaluated with {known.conditions()}, {result.name} with "
                f"{result.conditions()}: remove the result.json of one kind, and the study evaluates them anew",
            )


def is_finite(look: dict[str, Any]) -> bool:
    """Whether all gradient norms and outputs of a look are finite. If not, its unit shares mean nothing."""
    kinds = ("gradient_norms", "network_norms", "dead", "saturated", "negative")
    values = [value for kind in kinds for value in look[kind].values()]
    return all(map(math.isfinite, [*values, look["diversity"]]))


def weakest_shares(results: Iterable[Result], when: str) -> list[float]:
    """Return the `weakest_share` of each run whose look is finite, at the start or at the end."""
    looks = [getattr(result, when) for result in results]
    return [weakest_share(look) for look in looks if is_finite(look)]


def worst_shares(results: Iterable[Result], kind: str) -> list[float]:
    """Return the largest share of dead, saturated or negative units in a hidden layer, for each run whose last look is
    finite. Runs without an activation that can have such units are left out.
    """
    return [max(result.end[kind].values()) for result in results if result.end[kind] and is_finite(result.end)]


def weakest_share(look: dict[str, Any]) -> float:
    """Return the gradient of a network's weakest layer over that of its strongest, as root mean squares.

    Of several networks, the smallest ratio counts.

    Args:
        look: a look whose values are finite.
    """
    shares = []
    for network in look["network_norms"]:
        norms = [norm for name, norm in look["gradient_norms"].items() if name.startswith(f"{network}.")]
        shares.append(min(norms) / max(norms) if max(norms) > 0 else 0.0)
    return min(shares, default=math.nan)
