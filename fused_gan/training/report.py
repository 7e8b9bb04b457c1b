"""Writes a run as one HTML page. The file itself holds curves, pictures, verdicts and configuration."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fused_gan.base.files import as_path
from fused_gan.base.html_page import figure, image, table, write_page
from fused_gan.base.json_files import to_json_text
from fused_gan.base.scores import SCALES, SCORES
from fused_gan.data.image_data import CLASSES_SHOWN, listed
from fused_gan.training.description import RunDescription
from fused_gan.training.folder import RunFolder, read_lines
from fused_gan.training.plots import NO_LOSSES, curves
from fused_gan.training.recorder import GRID_ROWS, grid_columns


def write_report(folder: RunFolder | Path | str, out: Path | str | None = None) -> Path:
    """Write the page of a run, finished or not; return its path.

    Args:
        folder: the run folder, or its path.
        out: the file to write; by default report.html in the folder.

    Raises:
        UserError: the folder does not hold a run, or a file in it is broken.
    """
    folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    description = folder.read_config()
    path = folder.report if out is None else as_path(out)
    write_page(path, f"{description.preset}: {folder.path.name}", _body(folder, description))
    return path


def _body(folder: RunFolder, description: RunDescription) -> Iterator[str]:
    metrics, looks = read_lines(folder.metrics), read_lines(folder.health)
    yield f"<p>{html.escape(_summary(description, metrics))}</p>"
    yield "<h2>Health</h2>"
    yield from _verdicts(looks)
    yield "<h2>Pictures</h2>"
    of_columns, of_rows = classes_of_columns(description), _classes_of_rows(description)
    yield figure(folder.picture, f"Samples after the last step. Their noise is always the same.{of_columns}")
    yield figure(folder.reconstruction, "Real images, each with its reconstruction on its right.")
    yield figure(folder.interpolation, f"Each row goes from one latent to another.{of_rows}")
    yield from _strip(sorted(folder.samples.glob("step-*.png")))
    yield "<h2>Curves</h2>"
    losses = list(dict.fromkeys(name for line in metrics for name in line if name not in NO_LOSSES))
    if metrics:
        yield image(curves(metrics, losses, "losses and scores"), "losses and scores")
        yield image(curves(metrics, ["images_per_second"], "images per second"), "speed")
        yield from _score_curves(metrics)
    yield from _health_curves(looks)
    yield from _evaluations(folder)
    yield "<h2>Layers at the last look</h2>"
    yield from _layers(looks)
    yield "<h2>Configuration</h2>"
    shown = dataclasses.replace(description, plans=None).to_json()  # plans are hundreds of lines of measurements
    yield f"<pre>{html.escape(to_json_text(shown, indent=2))}</pre>"


def _summary(description: RunDescription, metrics: Sequence[dict[str, Any]]) -> str:
    training = description.training
    shape = "×".join(map(str, description.image_shape))
    text = f"{description.images:,} images of {shape} from {training['data']}"
    if description.class_names:
        plural = "es" if len(description.class_names) > 1 else ""
        text += f" in {len(description.class_names)} class{plural} ({listed(description.class_names, CLASSES_SHOWN)})"
    text += ", "
    text += f"seed {training['seed']}, {training['device']}. "
    if not metrics:
        return text + "Nothing was logged yet."
    timed = [line for line in metrics if "seconds" in line]
    took = f", {timed[-1]['seconds']:,.0f} s" if timed else ""
    return text + f"{metrics[-1]['step']:,} of {training['steps']:,} steps{took}."


def classes_of_columns(description: RunDescription) -> str:
    """Return a sentence that says which classes a grid of samples shows; "" if the system knows no classes."""
    names, columns = _names(description), grid_columns(description.classes)
    if not names:
        return ""
    if columns == len(names):
        return f" Columns, from the left: {', '.join(names)}."
    shown = (names[index % len(names)] for index in range(GRID_ROWS * columns))
    return f" Row by row, {columns} in each: {', '.join(shown)}."


def _classes_of_rows(description: RunDescription) -> str:
    names = _names(description)
    rows = (names[row % len(names)] for row in range(GRID_ROWS)) if names else ()
    return f" Rows, from the top: {', '.join(rows)}." if names else ""


def _names(description: RunDescription) -> Sequence[str]:
    """Return the names of the classes that the system tells apart; in a run that recorded none, their numbers."""
    return (description.class_names or tuple(map(str, range(description.classes)))) if description.classes else ()


def _verdicts(looks: Sequence[dict[str, Any]]) -> Iterator[str]:
    found = [(look["step"], verdict) for look in looks for verdict in look["verdicts"]]
    if not looks:
        yield "<p>The health monitor has not looked yet.</p>"
    elif not found:
        yield f'<p class="well">No verdict in {len(looks)} looks.</p>'
    latest = {verdict["name"]: (step, verdict) for step, verdict in found}
    for name, (step, verdict) in latest.items():
        count = sum(other["name"] == name for _, other in found)
        text = f"{verdict['evidence']} (at step {step}; in {count} of {len(looks)} looks)."
        yield (
            f'<p class="verdict"><strong>{html.escape(name)}</strong>: {html.escape(text)} '
            f"What may help: {html.escape(verdict['hint'])}.</p>"
        )


def _score_curves(metrics: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give the curves of the scores during training, one picture for each scale."""
    for names in SCALES:
        if any(name in line for line in metrics for name in names):
            title = ", ".join(SCORES[name].title for name in names)
            yield image(curves(metrics, names, title), title)


def _evaluations(folder: RunFolder) -> Iterator[str]:
    """Give the results of `fused-gan evaluate`."""
    if not folder.evaluation.is_file():
        return
    from fused_gan.evaluation.table import HEAD, notes, reasons, rows
    from fused_gan.training.evaluate import read_evaluations  # takes a second

    yield "<h2>Evaluation</h2>"
    for evaluation in read_evaluations(folder.evaluation):
        yield f"<h3>After step {evaluation.settings.step:,}</h3>"
        yield table(HEAD, list(rows(evaluation)))
        yield from (f"<p>{html.escape(line)}</p>" for line in (*reasons(evaluation), *notes(evaluation.settings)))
        yield f"<p>{evaluation.seconds:.1f} s</p>"


def _health_curves(looks: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not looks:
        return
    norms = [{"step": look["step"]} | look["network_norms"] for look in looks]
    yield image(curves(norms, list(looks[-1]["network_norms"]), "gradient norm", logarithmic=True), "gradient norm")
    pairs = (
        ("the discriminator's accuracy", ["accuracy_real", "accuracy_fake"]),
        ("diversity: mean distance of two images", ["diversity", "data_diversity"]),
    )
    for title, names in pairs:
        if looks[-1][names[0]] is not None:
            yield image(curves(looks, names, title), title)


def _layers(looks: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not looks:
        return
    look = looks[-1]
    rows = [
        (name, f"{norm:.2e}", _share(look["dead"].get(name)), _share(look["saturated"].get(name)))
        for name, norm in look["gradient_norms"].items()
    ]
    # Activation modules, as behind a convolution, have shares of units but no weights and so no gradient.
    others = [name for name in (*look["dead"], *look["saturated"]) if name not in look["gradient_norms"]]
    rows += [(name, "", _share(look["dead"].get(name)), _share(look["saturated"].get(name))) for name in others]
    yield table(("layer", "gradient, root mean square", "dead units", "saturated"), rows)
    if look["kl"]:
        yield "<h2>Latent dimensions at the last look</h2>"
        yield table(("dimension", "KL in nats"), [(str(i), f"{value:.3f}") for i, value in enumerate(look["kl"])])


def _share(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" if math.isfinite(value) else "not finite"


def _strip(paths: Sequence[Path]) -> Iterator[str]:
    """Give at most six grids, spread over the whole run, side by side."""
    if len(paths) < 2:
        return
    places = sorted({round(index * (len(paths) - 1) / 5) for index in range(6)})
    yield '<div class="strip">'
    yield from (figure(paths[place], f"after step {int(paths[place].stem.split('-')[1]):,}") for place in places)
    yield "</div>"
