"""`fused-gan sample`, `reconstruct` and `interpolate` write what a finished run makes, by seed, index and class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fused_gan.cli.main import main
from fused_gan.models.sampler import truncated
from fused_gan.training import Sampler, load_sampler
from helpers.commands import SMALL, refused


def test_samples_follow_seed_and_index_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sample(count: int, seed: int) -> Any:
        out = tmp_path / "out"
        assert main(["sample", str(run), "--count", str(count), "--seed", str(seed), "--out", str(out)]) == 0
        stem = out / f"samples-seed{seed}-count{count}"
        assert capsys.readouterr().out.splitlines()[-1] == f"samples: {stem}.png"
        with np.load(f"{stem}.npz") as archive:
            assert archive["seed"] == seed
            return archive["images"]

    many = sample(1100, 3)
    assert many.shape == (1100, 8, 6)
    assert many.dtype == np.uint8
    assert np.array_equal(sample(5, 3), many[:5])
    assert not np.array_equal(sample(5, 4), many[:5])
    # The seed of the training draws the training's own last grid.
    sample(64, 3)
    with Image.open(run / "samples.png") as ours, Image.open(tmp_path / "out" / "samples-seed3-count64.png") as again:
        assert np.array_equal(np.asarray(ours), np.asarray(again))


def test_a_vae_leaves_reconstructions_too(vae: Path) -> None:
    names = {path.name for path in vae.iterdir()}
    assert {"reconstructions.png", "reconstructions", "samples.png", "interpolation.png", "losses.png"} <= names
    metrics = [json.loads(line) for line in (vae / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "reconstruction", "kl"} <= set(metrics[0])
    assert set(metrics[1]) == {"step", "negative_elbo"}


def test_reconstruct_shows_each_image_beside_its_reconstruction(
    vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "pairs.png"
    assert main(["reconstruct", str(vae), "--count", "8", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == f"reconstructions: {out}"
    with np.load(vae.parent / "p.npz") as archive, Image.open(out) as picture:
        assert picture.size == ((8 * 8 + 2) * 8, (2 * 10 + 2) * 8)  # 16 images in rows of 8, enlarged 8 times
        first = np.asarray(picture)[16 : 10 * 8 : 8, 16 : 8 * 8 : 8]
        assert np.array_equal(first, archive["images"][0])
    np.savez(tmp_path / "wide.npz", images=np.zeros((3, 9, 9), np.uint8))
    error = refused(capsys, ["reconstruct", str(vae), "--data", str(tmp_path / "wide.npz")])
    assert "data: expected images of (3, 8, 6), got (1, 9, 9)" in error


def test_a_gan_cannot_reconstruct(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "reconstruct: it needs a VAE; a GAN has no encoder" in refused(capsys, ["reconstruct", str(run)])


def test_interpolation_begins_and_ends_with_samples(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "way.png"
    assert main(["interpolate", str(run), "--rows", "3", "--columns", "5", "--seed", "7", "--out", str(out)]) == 0
    ends = load_sampler(run, torch.device("cpu")).sample(6, seed=7)
    with Image.open(out) as picture:
        assert picture.size == ((5 * 8 + 2) * 8, (3 * 10 + 2) * 8)
        pixels = np.asarray(picture)
    for row in range(3):
        for column, expected in ((0, ends[row, 0]), (4, ends[3 + row, 0])):
            shown = pixels[(row * 10 + 2) * 8 : (row + 1) * 80 : 8, (column * 8 + 2) * 8 : (column + 1) * 64 : 8]
            assert np.abs(shown.astype(int) - expected).max() <= 1  # the great circle's ends, but for rounding


def test_a_conditional_system_is_asked_for_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "labelled.npz", tmp_path / "run"
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(30) % 4)
    options = ["--data", str(path), "--out", str(out), "--steps", "5", "--no-tensorboard"]
    assert main(["train", "cgan", *SMALL, *options]) == 0
    assert main(["sample", str(out), "--count", "6", "--labels", "3", "1"]) == 0
    assert main(["sample", str(out), "--count", "9", "--seed", "1"]) == 0
    with np.load(out / "samples-seed0-count6.npz") as archive:
        assert archive["labels"].tolist() == [3, 1, 3, 1, 3, 1]
    with np.load(out / "samples-seed1-count9.npz") as archive:
        assert archive["labels"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    capsys.readouterr()
    error = refused(capsys, ["sample", str(out), "--labels", "4"])
    assert "labels: expected classes of the run (0, 1, 2, 3), got 4" in error
    np.savez(path, images=images)
    options = ["--data", str(path), "--out", str(tmp_path / "second"), "--steps", "5"]
    assert "has no class labels, which a conditional GAN needs" in refused(capsys, ["train", "cgan", *SMALL, *options])


def test_an_unconditional_system_takes_no_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, ["sample", str(run), "--labels", "1"])
    assert "labels: this system is not conditional, it takes none" in error


def test_samples_as_pictures_and_by_the_hundred_thousand(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sample", str(run), "--count", "3", "--pngs", "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "samples-seed0-count3.npz") as archive:
        images = archive["images"]
    for index in range(3):
        with Image.open(tmp_path / "samples-seed0-count3" / f"{index:06d}.png") as picture:
            assert np.array_equal(np.asarray(picture), images[index])
    largest = []
    make = Sampler.images

    def noted(sampler: Sampler, noise: Any, labels: Any = None) -> Any:
        largest.append(len(noise))
        return make(sampler, noise, labels)

    monkeypatch.setattr(Sampler, "images", noted)
    assert main(["sample", str(run), "--count", "100000", "--out", str(tmp_path)]) == 0
    assert max(largest) <= 1024, "no more than this is in memory at once"
    with np.load(tmp_path / "samples-seed0-count100000.npz") as archive:
        many = archive["images"]
    assert many.shape == (100000, 8, 6)
    assert np.array_equal(many[:3], images)


def test_truncated_noise_is_cut_off_and_otherwise_normal() -> None:
    noise = torch.randn(200_000, dtype=torch.float64)
    cut = truncated(noise, 0.7)
    assert cut.abs().max().item() <= 0.7
    assert torch.equal(cut.argsort(), noise.argsort())
    inside = noise[noise.abs() < 0.7]  # what throwing away the others would give
    assert cut.std().item() == pytest.approx(inside.std().item(), rel=0.02)
    torch.testing.assert_close(truncated(noise, 8.0), noise, rtol=1e-6, atol=1e-6)


def test_sampling_from_what_is_no_finished_run_is_refused(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"run: {tmp_path / 'none'} is not a folder" in refused(capsys, ["sample", str(tmp_path / "none")])
    assert "is not a run folder, it has no config.json" in refused(capsys, ["sample", str(tmp_path)])
    assert "count: expected a positive integer" in refused(capsys, ["sample", str(run), "--count", "0"])
    assert "is a file, expected a folder" in refused(capsys, ["sample", str(run), "--out", str(run / "config.json")])
    last = run / "checkpoints" / "step-0000020.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    assert f"{last}: damaged" in refused(capsys, ["sample", str(run)])
    last.unlink()
    assert "holds no checkpoint but best.safetensors; take it with --checkpoint best" in refused(
        capsys, ["sample", str(run)]
    )
