"""Whatever the damage to a file, one line names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fused_gan.base.errors import UserError
from fused_gan.data import load
from helpers.damaged_files import failures, samples


def test_no_exception_but_our_own_comes_of_damaged_files(tmp_path: Path) -> None:
    assert len(samples()) >= 12, "eight kinds of pictures and four others"
    found = [text for _, _, text in failures(1200, 0, tmp_path)]
    assert not found, found[0]


def test_damage_that_is_found_is_named(tmp_path: Path) -> None:
    for ending, sound in samples().items():
        name = ending if ending.endswith(".bin") else f"a.{ending}"
        (tmp_path / name).write_bytes(sound[0][: len(sound[0]) // 3])
        with pytest.raises(UserError, match=str(tmp_path)):
            load(str(tmp_path / name if name.endswith(("npz", "csv")) else tmp_path))
        (tmp_path / name).unlink()
