"""Writes a study as one HTML page. The file itself holds summary, tables, curves and pictures."""

from __future__ import annotations

import dataclasses
import html
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fused_gan.base.html_page import figure, image, table, write_page
from fused_gan.base.json_files import to_json_text
from fused_gan.base.scores import SCORES
from fused_gan.study.folder import StudyFolder
from fused_gan.study.grid import Study
from fused_gan.study.plots import gradients_by_layer, score_over_time, unused_by_layer
from fused_gan.study.result import Result, require_comparable, weakest_shares, worst_shares
from fused_gan.study.statistics import LEVEL, Cell, Difference, cells, differences
from fused_gan.study.summary import format_number, format_score, summarise
from fused_gan.study.tables import write_csv, write_results
from fused_gan.training import RunFolder
from fused_gan.training.report import classes_of_columns

if TYPE_CHECKING:
    from fused_gan.evaluation import Evaluation

KINDS = ("dead", "saturated", "negative")


def write_study(folder: StudyFolder, study: Study) -> bool:
    """Write CSV, JSON and HTML page of the results so far. Return False, and write nothing, if there are no results.

    Raises:
        UserError: a result cannot be read, or the results were evaluated in different ways.
    """
    results = folder.results(study)
    if not results:
        return False
    require_comparable(results)
    together = cells(study, results)
    compared = {metric: _all_differences(study, results, metric) for metric in study.metrics}
    summary = summarise(study, together, compared[study.success.metric])
    write_csv(folder.csv, study, results)
    write_results(folder.json, study, results, together, [one for found in compared.values() for one in found], summary)
    write_page(folder.report, f"Study: {study.name}", _body(folder, study, together, compared, summary))
    return True


def _all_differences(study: Study, results: Sequence[Result], metric: str) -> list[Difference]:
    return [difference for axis in study.axes for difference in differences(study, results, metric, axis)]


def _body(
    folder: StudyFolder,
    study: Study,
    found: Sequence[Cell],
    compared: dict[str, list[Difference]],
    summary: Sequence[str],
) -> Iterator[str]:
    yield f"<p>{html.escape(study.about)}</p>"
    yield "<h2>In words</h2>"
    yield f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in summary)}</ul>"
    yield "<h2>Settings</h2>"
    yield _cell_table(study, found)
    yield from _comparisons(study, compared)
    curves = {metric: score_over_time(study, found, metric) for metric in study.metrics}
    if any(curves.values()):
        yield "<h2>Over time</h2>"
    for metric, png in curves.items():
        if png:
            yield _captioned(
                png, f"{_title_with_arrow(metric)} over the steps. A thin line is a run, a thick line is the mean."
            )
    yield "<h2>Gradients</h2>"
    yield _captioned(
        gradients_by_layer(study, found),
        "Root mean square of each layer's weight gradient, from the input to the output, as its geometric mean over "
        "the seeds where it is finite. Dashed lines are after the first step, solid lines at the end.",
    )
    units = unused_by_layer(study, found)
    if units:
        yield "<h2>Units</h2>"
        yield _captioned(
            units,
            "Shares of units of each hidden layer at the end, averaged over the seeds whose outputs are finite: dead "
            "(relu), saturated (tanh, sigmoid), or negative on all images (leaky_relu). Under relu, negative units "
            "would be dead; here they still learn.",
        )
    yield from _pictures(folder, study, found)
    yield "<h2>How it was measured</h2>"
    yield from _method(study, found)


def _cell_table(study: Study, found: Sequence[Cell]) -> str:
    gradients = ("gradient, start", "gradient, end")
    head = [*study.axes, "succeeded", "verdicts", *map(_title_with_arrow, study.metrics), *gradients, *KINDS]
    rows = [
        [
            *cell.settings.values(),
            f"{cell.successes(study)} of {len(cell.results)}",
            _verdicts(cell),
            *(format_score(cell, metric) for metric in study.metrics),
            _median_share(cell, "start"),
            _median_share(cell, "end"),
            *(_worst(cell, kind) for kind in KINDS),
        ]
        for cell in found
    ]
    caption = (
        "Verdicts are those of the health monitor at the end, with the number of runs. Metrics are mean ± standard "
        "deviation over the seeds whose score is finite. Gradient is the ratio of a network's weakest layer to its "
        "strongest, in the network where it is smaller, as the median over the runs. Dead, saturated and negative are "
        "shares of units at the end, in the hidden layer where they are largest, as the mean over the runs. Gradients "
        "and shares leave out the runs whose gradients or outputs are not finite."
    )
    return (
        f'<div class="wide">{table(head, rows, len(study.axes) + 2)}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
    )


def _title_with_arrow(metric: str) -> str:
    """Return a metric's title with its better direction, as `FD ↓` where less is better."""
    arrow = {True: " ↑", False: " ↓", None: ""}[SCORES[metric].larger_is_better]
    return SCORES[metric].title + arrow


def _median_share(cell: Cell, when: str) -> str:
    shares = weakest_shares(cell.results, when)
    return f"{np.median(shares):.2g}" if shares else "not finite"


def _worst(cell: Cell, kind: str) -> str:
    shares = worst_shares(cell.results, kind)
    return f"{np.mean(shares):.1%}" if shares else ""


def _verdicts(cell: Cell) -> str:
    counts = Counter(name for result in cell.results for name in result.verdicts)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _comparisons(study: Study, compared: dict[str, list[Difference]]) -> Iterator[str]:
    intervals = [one for found in compared.values() for one in found if one.interval]
    yield "<h2>Differences</h2>"
    yield (
        f"<p>First minus second, paired by seed. The interval is the {LEVEL:.0%} bootstrap-t interval of the mean "
        f"difference. Where it leaves out 0, the two settings differ. There are {len(intervals)} intervals here. If "
        f"nothing differed at all, about {len(intervals) * (1 - LEVEL):.0f} of them would leave out 0 by chance.</p>"
    )
    for metric, found in compared.items():
        together = [one for one in found if not one.others]
        yield f"<h3>{html.escape(_title_with_arrow(metric))}</h3>"
        yield table(("axis", "first", "second", "difference", "interval", "seeds", ""), _rows(together), 3)
        within = [one for one in found if one.others]
        if within:
            title = html.escape(_title_with_arrow(metric))
            yield f"<details><summary>{title}, within each setting of the other axes</summary>"
            head = ("axis", "first", "second", "with", "difference", "interval", "seeds", "")
            yield table(head, _rows(within, with_others=True), 4)
            yield "</details>"


def _rows(found: Sequence[Difference], with_others: bool = False) -> list[list[str]]:
    return [
        [
            one.axis,
            one.first,
            one.second,
            *([", ".join(one.others.values())] if with_others else []),
            format_number(one.mean),
            f"{format_number(one.interval[0])} to {format_number(one.interval[1])}" if one.interval else one.silence,
            str(one.pairs),
            "differ" if one.shown else "",
        ]
        for one in found
    ]


def _pictures(folder: StudyFolder, study: Study, found: Sequence[Cell]) -> Iterator[str]:
    """Give the grids of each setting's first seed, so that no run is picked by hand."""
    shown = [(", ".join(cell.settings.values()), folder.job(cell.results[0].name).run) for cell in found]
    for title, name in (("Samples", "samples.png"), ("Reconstructions", "reconstructions.png")):
        grids = [(label, run) for label, run in shown if (run.path / name).is_file()]
        if grids:
            yield f"<h2>{title}</h2>"
            yield "<p>From the first seed of each setting. No run was picked.</p>"
            figures = "".join(figure(run.path / name, _caption(label, run)) for label, run in grids)
            yield f'<div class="strip">{figures}</div>'


def _caption(label: str, run: RunFolder) -> str:
    classes = classes_of_columns(run.read_config()) if run.config.is_file() else ""
    return f"{label}.{classes}" if classes else label


def _method(study: Study, found: Sequence[Cell]) -> Iterator[str]:
    results = [result for cell in found for result in cell.results]
    for alike in _evaluated_alike(results):
        yield f"<p>{len(alike)} of {len(results)} runs were evaluated like this:</p>"
        yield from _evaluations(study, alike)
    if any(result.curve for result in results):
        samples = {str(job.configured().training.evaluate_samples) for job in study.jobs()}
        yield (
            f"<p>The curves over time compare {' or '.join(sorted(samples))} samples with as many real images, both "
            "chosen by the run's own seed. So they need not end at the numbers of the tables.</p>"
        )
    definition = {"preset": study.preset, "fields": study.fields, "axes": study.axes, "seeds": study.seeds}
    yield f"<pre>{html.escape(to_json_text(definition, indent=2))}</pre>"


def _evaluated_alike(results: Sequence[Result]) -> list[list[Evaluation]]:
    """Return the evaluations in groups with the same settings, except for the checkpoint."""
    from fused_gan.evaluation import Evaluation, Settings  # takes a second

    together: dict[Settings, list[Evaluation]] = {}
    for result in results:
        if result.evaluation:
            settings = Settings(**result.evaluation["settings"])
            one = Evaluation(**result.evaluation | {"settings": settings})
            together.setdefault(dataclasses.replace(settings, checkpoint="", step=0), []).append(one)
    return list(together.values())


def _evaluations(study: Study, alike: Sequence[Evaluation]) -> Iterator[str]:
    """Give what the evaluations of a group share, and the range in which they differ."""
    from fused_gan.evaluation.table import notes, title

    rows = [(title(key, alike[0]), _range(one.floor.get(key, math.nan) for one in alike)) for key in study.metrics]
    yield table(("score, and which way is better", "real against real"), rows)
    lines = [
        *notes(alike[0].settings),
        f"of the checkpoint after step {_with_counts(f'{one.settings.step:,}' for one in alike)}",
        f"by {_with_counts(', '.join(f'{name} {version}' for name, version in one.versions.items()) for one in alike)}",
        f"{_range(one.seconds for one in alike)} s each",
    ]
    yield f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def _range(values: Iterable[float]) -> str:
    """Return the range of values, as `1.2`, or `1.2 to 3.4` where they differ."""
    ends = sorted(values)
    return " to ".join(dict.fromkeys((format_number(ends[0]), format_number(ends[-1]))))


def _with_counts(values: Iterable[str]) -> str:
    """Return the values, as `1,200`, or with counts, as `1,200 (3 of 7 runs), 6,000 (4 of 7 runs)`, if they differ."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count} of {counts.total()} runs)" for value, count in counts.items())


def _captioned(png: bytes, caption: str) -> str:
    return f"<figure>{image(png, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
