"""Two processes train as one does: the same batches, the same noise, the same losses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fused_gan.base.errors import UserError
from fused_gan.base.lock import locked
from fused_gan.systems.processes import own_rows
from fused_gan.training import load_checkpoint
from helpers import train_in_processes
from helpers.saved import numbers
from helpers.small_runs import write_patches
from helpers.train_in_processes import PRESETS, main

ROOT = Path(__file__).parents[2]
TOLD = """
import os, sys
from pathlib import Path
from helpers.small_runs import options, run
from fused_gan.base.errors import UserError
data, folder = sys.argv[1:]
try:
    run("mlp-gan", options("mlp-gan", data, Path(folder, "run"), 10))
except UserError as error:
    Path(folder, f"told-{os.environ['RANK']}").write_text(str(error))
"""
LEFT = """
import gc, os, sys
from pathlib import Path
from helpers.small_runs import options, run
from fused_gan.systems import processes

def threads():
    names = (task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
    return [name for name in names if "gloo" in name]

data, folder = sys.argv[1:]
gc.disable()
run("mlp-gan", options("mlp-gan", data, Path(folder, "run"), 10))
before = threads()
processes._leave()
Path(folder, f"threads-{os.environ['RANK']}").write_text(f"{'some' if before else 'none'}, then {threads()}")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of the same runs, in one process and, launched by torchrun, in two."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_patches(folder / "patches.npz")
    launch(Path(train_in_processes.__file__), data, str(folder / "two"))
    main(data, folder / "one")
    return {1: folder / "one", 2: folder / "two"}


def launch(program: Path, *words: str) -> None:
    """Run a program in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(program), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_equal_one(runs: dict[int, Path], preset: str) -> None:
    one, two = (numbers(runs[count] / preset) for count in (1, 2))
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for ours, expected in zip(two, one, strict=True):
        assert ours == pytest.approx(expected, rel=1e-9)
    states = [
        load_checkpoint(runs[count] / preset / "checkpoints" / "step-0000020.safetensors").state for count in (1, 2)
    ]
    network = "vae" if preset.endswith("vae") else "generator"
    for name, weight in states[0][network].items():
        torch.testing.assert_close(states[1][network][name], weight, rtol=1e-8, atol=1e-12)


def test_what_one_process_is_refused_all_are_told(tmp_path: Path) -> None:
    """Only the first asks for the lock; another that went on would wait for it."""
    data, program, folder = write_patches(tmp_path / "patches.npz"), tmp_path / "program.py", tmp_path / "run"
    program.write_text(TOLD)
    folder.mkdir()
    with locked(folder / ".lock"):
        launch(program, data, str(tmp_path))
    for index in range(2):
        assert "another process is training in" in (tmp_path / f"told-{index}").read_text()


def test_a_process_that_leaves_its_group_leaves_no_thread_of_it(tmp_path: Path) -> None:
    """A thread that is left while the interpreter ends may abort the process."""
    data, program = write_patches(tmp_path / "patches.npz"), tmp_path / "program.py"
    program.write_text(LEFT)
    launch(program, data, str(tmp_path))
    for index in range(2):
        assert (tmp_path / f"threads-{index}").read_text() == "some, then []"


def test_each_process_takes_its_own_rows() -> None:
    class Process:
        num_processes = 3

        def __init__(self, index: int) -> None:
            self.process_index = index

    rows = [own_rows(Process(index), 24, 2) for index in range(3)]  # type: ignore[arg-type]
    taken = [row for parts in rows for part in parts for row in range(24)[part]]
    assert taken == list(range(24))
    with pytest.raises(UserError, match="batch_size: 25 cannot be shared equally by 3 processes in 2 parts"):
        own_rows(Process(0), 25, 2)  # type: ignore[arg-type]
