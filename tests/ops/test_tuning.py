"""Measured plans are kept in files that are whole or refused by name, and the plan follows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fused_gan
from fused_gan import tuning
from fused_gan.ops import cuda_plan
from fused_gan.ops.library import native
from fused_gan.tuning import Findings, Record

H100 = (90, 132)
RECORD = Record("bfloat16", "forward", 64, 1024, 512, True, True, "mma_32x32", 2, 5.25, 9.5)
OTHER = Record("float32", "backward", 64, 512, 1024, True, True, "library", 1, 11.0, 11.0)
FINDINGS = Findings("NVIDIA H100 80GB HBM3", *H100, (RECORD, OTHER))
needs_cuda_build = pytest.mark.skipif(fused_gan.build_info()["cuda"] is None, reason="a build without CUDA has no plan")


def test_findings_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    tuning.write(path, FINDINGS)
    assert tuning.read(path) == FINDINGS
    assert [file.name for file in path.parent.iterdir()] == ["plan.json"]


def test_what_others_have_added_meanwhile_stays(tmp_path: Path) -> None:
    """Two tune the same device at once: each adds what it has found to what is there by then."""
    path = tmp_path / "new" / "plan.json"
    first, second = (Findings(FINDINGS.device, *H100, (record,)) for record in (RECORD, OTHER))
    assert tuning.add(path, first) == first
    assert tuning.add(path, second) == FINDINGS == tuning.read(path)
    with pytest.raises(ValueError, match=r"plan\.json: expected what was measured on NVIDIA H200"):
        tuning.add(path, Findings("NVIDIA H200", *H100, (RECORD,)))
    assert tuning.read(path) == FINDINGS


def test_newer_records_replace_those_of_the_same_product() -> None:
    newer = Record("bfloat16", "forward", 64, 1024, 512, True, True, "library", 1, 4.0, 4.0)
    assert FINDINGS.merged([newer]).records == (newer, OTHER)


def test_findings_of_another_device_are_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert tuning.read_for(path, FINDINGS.device, H100) == Findings(FINDINGS.device, *H100, ())
    tuning.write(path, FINDINGS)
    assert tuning.read_for(path, FINDINGS.device, H100) == FINDINGS
    for other in (("NVIDIA H200", H100), (FINDINGS.device, (90, 114))):
        with pytest.raises(
            ValueError, match=r"plan\.json: expected what was measured on NVIDIA .*, got that of NVIDIA H"
        ):
            tuning.read_for(path, *other)


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    tuning.write(path, FINDINGS)
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        tuning.write(path, FINDINGS.merged([]))
    monkeypatch.undo()
    assert tuning.read(path) == FINDINGS
    assert list(tmp_path.iterdir()) == [path]


BROKEN = {
    "no JSON": "not json",
    "another format": json.dumps({"format": 0}),
    "a list": "[]",
    "no records": json.dumps({"format": 2, "device": "x", "capability": 90, "units": 132}),
    "a record short": json.dumps(
        {"format": 2, "device": "x", "capability": 90, "units": 132, "records": [{"kernel": "library"}]}
    ),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"plan\.json: expected measured plans of format 2"):
        tuning.read(path)


@pytest.mark.parametrize(("field", "value"), [("rows", "64"), ("rows", True), ("aligned", 1), ("kernel", None)])
def test_a_field_of_the_wrong_kind_is_named(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    tuning.write(path, FINDINGS)
    content = json.loads(path.read_text())
    content["records"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"plan.json: .*{field}"):
        tuning.read(path)


def test_the_file_is_named_after_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSED_GAN_PLANS", str(tmp_path))
    assert tuning.path_for("NVIDIA H100 80GB HBM3") == tmp_path / "nvidia-h100-80gb-hbm3.json"
    monkeypatch.delenv("FUSED_GAN_PLANS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuning.path_for("A (100)").parent == tmp_path / "fused_gan" / "plans"


def test_plans_that_ship_can_be_read() -> None:
    for path in tuning.SHIPPED.glob("*.json"):
        assert tuning.read(path).records


@pytest.mark.parametrize(
    ("dtype", "length", "aligned"),
    [("float32", 100, True), ("bfloat16", 100, False), ("float16", 784, True), ("float32", 1, False)],
)
def test_alignment_of_rows(dtype: str, length: int, aligned: bool) -> None:
    assert cuda_plan.is_aligned(dtype, 64, length) == aligned


def test_autotune_needs_a_device(tmp_path: Path) -> None:
    if torch.cuda.is_available() and fused_gan.build_info()["cuda"]:
        pytest.skip("here is one")
    with pytest.raises(RuntimeError, match=r"autotune: (this build of fused_gan has no CUDA|there is no CUDA device)"):
        fused_gan.autotune([(64, 64, 64)], path=tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())


@needs_cuda_build
def test_the_plan_follows_what_is_installed() -> None:
    try:
        assert tuning.install(FINDINGS) == []
        assert native.cuda_decision(RECORD.product, H100) == ("mma_32x32", 2, True)
        assert native.cuda_decision(OTHER.product, H100) == ("library", 1, True)
        assert "measured" in cuda_plan.explain_product(RECORD.product, H100)
        unknown = Findings("x", *H100, (Record(*RECORD.product, "no_kernel", 1, 1.0, 1.0),))
        assert tuning.install(unknown) == ["kernel: there is none called 'no_kernel'"]
        on_older = Findings("x", 80, 108, (Record(*RECORD.product, "wgmma_128x128", 1, 1.0, 1.0),))
        assert "cannot run this product" in tuning.install(on_older)[0]
    finally:
        tuning.replace()
        tuning.install_kept()


def test_a_broken_file_in_the_cache_is_left_out_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.setenv("FUSED_GAN_PLANS", str(tmp_path))
    with pytest.warns(UserWarning, match=r"broken\.json: expected measured plans"):
        tuning.install_kept()


@needs_cuda_build
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_plan_explains_itself(dtype: torch.dtype) -> None:
    plan = fused_gan.plan((64, 512, 1024), dtype=dtype, device="cuda")
    assert plan.device == "cuda"
    if dtype != torch.float64:
        assert "estimated" in plan.forward or "measured" in plan.forward
        assert "within a chain" in plan.backward
