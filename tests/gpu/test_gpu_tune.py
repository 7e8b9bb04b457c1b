"""Tuning on a GPU measures no layer twice, and counts each once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import cases, tune
from fused_gan import tuning
from fused_gan.tuning.cuda import products


def test_layers_that_have_been_tuned_are_known() -> None:
    layer = tune.layers()[0]
    shape, precision = layer
    records = [tuning.Record(*product, "library", 1, 1.0, 1.0) for product, _ in products([shape], [precision.dtype])]
    assert [tune.is_known(layer, tuning.Findings("x", 90, 132, tuple(records[:n]))) for n in range(3)] == [
        False, False, True,
    ]  # fmt: skip
    beginning = tune.layers()[:12]
    assert {shape[0] for shape, _ in beginning} == set(tune.BATCHES)
    assert {precision for _, precision in beginning} == set(cases.PRECISIONS)
    assert {shape[0] for shape, _ in tune.layers()} == {*tune.BATCHES, *tune.STEP_BATCHES}


def test_layers_are_counted_once_over_all_processes_of_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first finds one known, measures one and loses its device; the second measures the rest."""
    precision = SimpleNamespace(name="bfloat16", dtype=torch.bfloat16, apply=lambda: None)
    device = "NVIDIA H100", (90, 132)
    faults = iter([False, True, False])

    def autotune(shapes: list[tuple[int, int, int]], dtypes: list[torch.dtype], path: Path) -> list[tuning.Record]:
        if next(faults, False):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        found = tuple(tuning.Record(*product, "library", 1, 1.0, 1.0) for product, _ in products(shapes, tuple(dtypes)))
        tuning.add(path, tuning.Findings(device[0], *device[1], found))
        return list(found)

    class Restarted(Exception):
        pass

    def go_on(**options: float) -> None:
        raise Restarted(options)

    layers = [((64, 64, width), precision) for width in (64, 128, 192, 256)]
    monkeypatch.setattr(tune, "layers", lambda: layers)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device[0])
    monkeypatch.setattr(tune.cuda_plan, "capability", lambda _: device[1])
    monkeypatch.setattr(tune.fused_gan, "autotune", autotune)
    monkeypatch.setattr(tune.faults, "is_lost", lambda: True)
    monkeypatch.setattr(tune.faults, "go_on", go_on)
    measured = products([layers[0][0]], (torch.bfloat16,))
    known = tuple(tuning.Record(*product, "library", 1, 1.0, 1.0) for product, _ in measured)
    tuning.write(tmp_path / tuning.file_name(device[0]), tuning.Findings(device[0], *device[1], known))
    monkeypatch.setattr("sys.argv", ["tune", str(tmp_path)])
    with pytest.raises(Restarted) as restart:
        tune.main()
    words = [word for name, value in restart.value.args[0].items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["tune", str(tmp_path), *words])
    assert tune.main() == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "2 of 4 layers measured, 1 known before, 1 failed, 0 left"
