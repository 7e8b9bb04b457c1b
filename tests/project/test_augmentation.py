"""The measurement of augmentation goes on behind a seed that was killed, and mixes no options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.augmentation import GENERATED, Options, main, table
from fused_gan.base.errors import UserError


def write_accuracies(folder: Path, options: Options) -> None:
    folder.mkdir(parents=True)
    content = {"options": options.told, "accuracies": {str(count): 0.9 + count / 1e5 for count in GENERATED}}
    (folder / "accuracies.json").write_text(json.dumps(content))


def test_a_seed_that_was_killed_is_begun_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(tmp_path, seeds=5, gan_steps=2, classifier_steps=2)
    for seed in (0, 1, 2, 4):
        write_accuracies(tmp_path / f"seed{seed}", options)
    left = tmp_path / "seed3" / "cgan" / "config.json"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    main(options)
    content = json.loads((tmp_path / "seed3" / "accuracies.json").read_text())
    assert content["options"] == {"gan_steps": 2, "classifier_steps": 2}
    assert content["accuracies"].keys() == {str(count) for count in GENERATED}
    assert "| 500 | 2,000 |" in capsys.readouterr().out


def test_accuracies_of_other_options_are_refused(tmp_path: Path) -> None:
    for seed in range(5):
        write_accuracies(tmp_path / f"seed{seed}", Options(gan_steps=4000))
    with pytest.raises(UserError, match=r"seed0/accuracies.json is of options .*4000.*, expected .*300.*; name a new"):
        main(Options(tmp_path, seeds=5, gan_steps=300))


def test_gains_that_are_equal_have_no_interval() -> None:
    assert "+1.00 (too many equal differences)" in table(np.array([[0.9, 0.91, 0.95]] * 5))
