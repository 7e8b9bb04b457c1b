"""The report is one page with everything in it, and a browser shows it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fused_gan.cli.main import main
from fused_gan.training import configure, train
from fused_gan.training.report import write_report
from helpers.small_runs import options

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a VAE."""
    folder = tmp_path_factory.mktemp("report")
    np.savez(folder / "p.npz", images=np.random.default_rng(0).integers(0, 256, (50, 6, 6), dtype=np.uint8))
    preset = configure(
        "mlp-vae", data=str(folder / "p.npz"), out=folder / "<run>", steps=30, widths=(8,), z_dim=3, log_interval=3,
        sample_interval=10, health_interval=3, device="cpu", beta=1e5, lr=0.03,
    )  # fmt: skip
    train("mlp-vae", preset.model, preset.training, Console(quiet=True))
    return folder / "<run>"


def test_the_page_holds_everything_and_needs_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == f"report: {run / 'report.html'}"
    page = (run / "report.html").read_text()
    assert "mlp-vae: &lt;run&gt;" in page
    for word in ("50 images of 1×6×6", "30 of 30 steps", "posterior collapse", "What may help: lower beta"):
        assert word in page
    for caption in (
        "Samples after the last step",
        "reconstruction on its right",
        "from one latent",
        "after step 10",
        "KL in nats",
    ):
        assert caption in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "it refers to no other file"
    assert page.count("data:image/png;base64,") >= 8


def test_a_run_that_has_logged_nothing_yet_has_a_page_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "young").mkdir()
    shutil.copy(run / "config.json", tmp_path / "young")
    page = tmp_path / "new" / "folder" / "page.html"
    assert main(["report", str(tmp_path / "young"), "--out", str(page)]) == 0
    assert "Nothing was logged yet." in page.read_text()
    assert main(["report", str(tmp_path / "young"), "--out", str(tmp_path)]) == 2
    assert f"out: {tmp_path} is a folder, expected a file" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [3, 20])
def test_the_grids_of_a_conditional_system_say_their_classes(tmp_path: Path, classes: int) -> None:
    names = [f"<{index}>" for index in range(classes)]
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", images=pixels, labels=np.arange(60) % classes, class_names=names)
    train(options("cgan", str(tmp_path / "p.npz"), tmp_path / "run", 10), console=Console(quiet=True))
    page = html.unescape(write_report(str(tmp_path / "run")).read_text())
    assert f"60 images of 1×8×8 from {tmp_path / 'p.npz'} in {classes} classes (<0>, <1>, <2>" in page
    if classes == 3:
        assert "Columns, from the left: <0>, <1>, <2>." in page
        assert "Rows, from the top: <0>, <1>, <2>, <0>, <1>, <2>, <0>, <1>." in page
    else:
        assert "Row by row, 8 in each: <0>, <1>, <2>" in page
        assert "<19>, <0>, <1>, <2>, <3>." in page, "the last of 64"


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_tensorboard_reads_the_same_numbers_and_pictures(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(3, 31, 3))
    assert {"negative_elbo", "health/diversity", "health/active latent dimensions"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("samples")] == [10, 20, 30]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium; the report was not looked at")
def test_a_browser_shows_the_page(run: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "report.html"
    assert main(["report", str(run), "--out", str(page)]) == 0
    picture = tmp_path / "page.png"
    subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1000,4000", "--virtual-time-budget=5000", f"--screenshot={picture}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB")).reshape(4000, 1000, 3)
    colours = len(np.unique(pixels.reshape(-1, 3), axis=0))
    assert colours > 100, "text, curves and pictures have many colours, a blank page one"
    ink = (pixels < 128).all(2).mean(1)
    filled = [ink[top : top + 500].max() > 0.01 for top in range(0, 3500, 500)]
    assert all(filled), "each part of the page down to the pictures' end shows something"
