"""Prints an evaluation: a table of each score beside real against real, and notes on what the scores mean."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fused_gan.base.scores import SAMPLE_SCORES, SCORES
from fused_gan.evaluation.result import Evaluation, Settings

HEAD = ("score, and which way is better", "value", "real against real")


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the table of an evaluation, and the notes on its numbers."""
    table = Table(title=f"after step {evaluation.settings.step:,}", title_justify="left")
    table.add_column(HEAD[0])
    for head in HEAD[1:]:
        table.add_column(head, justify="right")
    for row in rows(evaluation):
        table.add_row(*map(escape, row))
    console.print(table)
    for line in (*reasons(evaluation), *notes(evaluation.settings), f"{evaluation.seconds:.1f} s"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    """Yield one row of the table per score, with the columns of `HEAD`."""
    for key, value in evaluation.values.items():
        floor = evaluation.floor.get(key)
        yield title(key, evaluation), number_text(value), "" if floor is None else number_text(floor)


def title(key: str, evaluation: Evaluation) -> str:
    """Return a score's name, an arrow to the better side, and its extractor: "FD ↓ (mnist-5k classifier 3fa2c0de)"."""
    arrow = {True: " ↑", False: " ↓", None: ""}[SCORES[key].larger_is_better]
    name = SCORES[key].title + arrow
    if key in SAMPLE_SCORES:
        return f"{name} ({evaluation.settings.extractor})"
    if key == "iwae":
        return f"{name} (k = {evaluation.settings.iwae_k})"
    return name


def number_text(value: float) -> str:
    """Return a number with four significant digits; NaN and infinities as words or signs."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def reasons(evaluation: Evaluation) -> Iterator[str]:
    """Yield one line for each number that is not finite, with the reason."""
    sides = ((evaluation.values, ""), (evaluation.floor, " of real against real"))
    for key, value, side in ((key, value, side) for values, side in sides for key, value in values.items()):
        if key == "psnr" and value == math.inf:
            yield (
                "PSNR is infinite for an image that is reconstructed to the last bit, and so is a mean with one such; "
                "MSE says how far the others are"
            )
        elif not math.isfinite(value):
            yield (
                f"{SCORES[key].title}{side} is not finite, as something that it is computed from overflowed: it says "
                "nothing but that"
            )


def notes(settings: Settings) -> Iterator[str]:
    """Yield one line per note on what the numbers were computed from."""
    origin = "which the run was trained on" if settings.trained_on else "another source than the run was trained on"
    yield (
        f"{settings.samples:,} generated against {settings.samples:,} real images of {settings.reals}, {origin}; real "
        f"against real: as many others of them in the place of the generated ones; seed {settings.seed}"
    )
    if settings.extractor_accuracy is not None:
        yield (
            f"features of the {settings.extractor} (accuracy {settings.extractor_accuracy:.1%} on images held out from "
            f"its training; {settings.preprocessing}): none of these is FID, IS or KID in the features of Inception, "
            "and none compares with numbers by another classifier or of another number of samples"
        )
    if settings.inception_sha256 is not None:
        yield (
            f"FID and Inception Score in the features of Inception (weights {settings.inception_sha256[:8]}), of "
            f"{settings.samples:,} images where papers take 50,000: FID is larger the fewer they are"
        )
    if settings.iwae_k is not None:
        yield (f"likelihoods of pixels as they are (binarisation: {settings.binarisation}), means over the real images")
