"""A run that is stopped from outside keeps what it has done, whatever stops it. Each command is its own process."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fused_gan.training.checkpoint import Checkpoints
from helpers.commands import SMALL
from helpers.small_runs import write_patches
from helpers.studies import write_grid

COMMAND = [sys.executable, "-m", "fused_gan.cli"]
# More steps than any of these tests takes, and nothing saved or logged on the way.
ENDLESS = ["--steps", "100000000", "--checkpoint-interval", "100000000", "--sample-interval", "100000000"]


def started(folder: Path, *options: str, launcher: tuple[str, ...] = (), **how: object) -> subprocess.Popen[str]:
    data = write_patches(folder / "patches.npz")
    words = ["train", "mlp-gan", *SMALL, *ENDLESS, "--data", data, "--out", str(folder / "run"), "--no-tensorboard"]
    command = [*COMMAND[:1], *launcher, *COMMAND[1:]] if launcher else COMMAND
    return subprocess.Popen(
        [*command, *words, "--batch-size", "8", "--threads", "1", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how,  # type: ignore[call-overload]
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and what standard error says."""
    try:
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, error


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if line in said:
            return
    raise AssertionError(f"it never said {line!r}; errors: {process.stderr.read()}")  # type: ignore[union-attr]


def saved_step(folder: Path) -> int:
    store = Checkpoints(folder / "run" / "checkpoints", keep=1)
    return store.step(store.last())


def goes_on(folder: Path) -> None:
    done = saved_step(folder)
    words = ["resume", str(folder / "run"), "--steps", str(done + 3)]
    subprocess.run([*COMMAND, *words], check=True, capture_output=True, timeout=60)
    assert saved_step(folder) == done + 3


def test_the_reader_of_the_output_goes_away(tmp_path: Path) -> None:
    """As of ``fused-gan train … | head -n 1``."""
    process = started(tmp_path, "--log-interval", "50")
    wait_for("run folder", process)
    process.stdout.close()  # type: ignore[union-attr]
    process.stdout = None
    status, error = ended(process)
    assert status == 128 + signal.SIGPIPE, error
    assert re.search(r"stopped by SIGPIPE after step \d+; everything is saved", error)
    assert "Traceback" not in error
    goes_on(tmp_path)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_that_was_started_without_its_streams_trains(tmp_path: Path, closed: str) -> None:
    """As some daemons start theirs. What is written to a stream must not land in a file of the run either."""
    data = write_patches(tmp_path / "patches.npz")
    words = ["train", "mlp-gan", *SMALL, "--data", data, "--out", str(tmp_path / "run"), "--steps", "3"]
    sample = ["sample", str(tmp_path / "run"), "--count", "2"]
    for arguments, status in ((words, 0), (sample, 0), (["sample", "no"], 2)):
        command = ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND, *arguments]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert process.returncode == status, process.stderr
        assert "Traceback" not in process.stderr
        assert "error" not in process.stdout
    assert saved_step(tmp_path) == 3


def test_a_terminal_without_the_signs_of_the_first_line_gets_escapes(tmp_path: Path) -> None:
    data = write_patches(tmp_path / "patches.npz")
    words = ["train", "mlp-gan", *SMALL, "--data", data, "--out", str(tmp_path / "run"), "--steps", "3"]
    settings = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, env=settings)
    assert process.returncode == 0, process.stderr
    assert r"1\xd78\xd78" in process.stdout


def test_the_terminal_closes_and_takes_the_output_with_it(tmp_path: Path) -> None:
    process = started(tmp_path)
    wait_for("run folder", process)
    process.stdout.close()  # type: ignore[union-attr]
    process.stdout = None
    process.send_signal(signal.SIGHUP)
    status, error = ended(process)
    assert status in (128 + signal.SIGHUP, 128 + signal.SIGPIPE), error
    goes_on(tmp_path)


def test_under_nohup_a_closing_terminal_is_nothing(tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = started(tmp_path, preexec_fn=ignore)
    wait_for("run folder", process)
    process.send_signal(signal.SIGHUP)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM


def test_several_processes_stop_together_long_before_they_log(tmp_path: Path) -> None:
    """A launcher that was asked to stop asks its processes, and kills them half a minute later."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = started(tmp_path, "--log-interval", "100000000", launcher=torchrun)
    wait_for("run folder", process)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    ended(process)
    assert saved_step(tmp_path) > 0


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=str)
def test_a_run_whose_output_was_closed_from_the_start_trains_quietly(closed: tuple[int, ...], tmp_path: Path) -> None:
    """As ``fused-gan train … >&-``, or a service without any output."""
    data = write_patches(tmp_path / "patches.npz")
    words = ["train", "mlp-gan", *SMALL, "--steps", "5", "--data", data, "--out", str(tmp_path / "run")]
    shell = " ".join(f"{number}>&-" for number in closed)
    command = f"{shlex.join([*COMMAND, *words, '--no-tensorboard'])} {shell}"
    assert subprocess.run(command, shell=True, timeout=60).returncode == 0
    assert saved_step(tmp_path) == 5


@pytest.mark.parametrize("words", [["doctor"], ["train", "--help"]], ids=" ".join)
def test_other_commands_are_quiet_when_their_reader_goes_away(words: list[str]) -> None:
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()  # type: ignore[union-attr]
    process.stdout = None
    status, error = ended(process)
    assert status != 0
    assert error == ""


DEV_FULL = "fused-gan: error: standard output cannot be written: No space left on device"


@pytest.mark.parametrize(
    "words", [["doctor"], ["train", "--help"], ["data"], ["study", "--list"], ["train"]], ids=" ".join
)
def test_an_output_that_cannot_be_written_is_said_in_one_line(words: list[str], tmp_path: Path) -> None:
    """As of ``fused-gan … > results.txt`` on a full disk. It is no reader that has gone."""
    data = write_patches(tmp_path / "patches.npz")
    more = {
        "data": [data, "--out", str(tmp_path / "grid.png")],
        "study --list": ["vae-activations"],
        "train": ["mlp-gan", *SMALL, *ENDLESS, "--data", data, "--out", str(tmp_path / "run"), "--no-tensorboard"],
    }
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, *words, *more.get(" ".join(words), [])]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert process.returncode == 1, process.stderr
    if words == ["train"]:
        saved = f"everything is saved after step {saved_step(tmp_path)}, fused-gan resume {tmp_path / 'run'} goes on"
        assert process.stderr == f"{DEV_FULL}; {saved}\n"
    else:
        assert process.stderr == f"{DEV_FULL}\n"


def test_a_study_whose_output_cannot_be_written_stops_with_its_jobs_saved(tmp_path: Path) -> None:
    words = ["study", "--config", str(write_grid(tmp_path, 1500)), "--out", str(tmp_path / "out"), "--workers", "1"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert process.returncode == 1
    assert process.stderr == f"{DEV_FULL}; every job is saved, the same command goes on\n"


def test_what_is_refused_is_said_although_the_output_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*COMMAND, "sample", "none"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (process.returncode, process.stderr) == (2, "fused-gan: error: run: none is not a folder\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP], ids=lambda signum: signum.name)
def test_a_signal_in_the_middle_of_a_file_leaves_no_half_of_it(tmp_path: Path, signum: signal.Signals) -> None:
    data = write_patches(tmp_path / "patches.npz")
    run = str(tmp_path / "run")
    train = ["train", "mlp-gan", *SMALL, "--data", data, "--steps", "2", "--batch-size", "8", "--no-tensorboard"]
    subprocess.run([*COMMAND, *train, "--out", run], check=True, capture_output=True)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "sample", run, "--count", "100000000", "--out", str(out)], stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if any(path.name.endswith(".tmp") and path.stat().st_size > 1000 for path in out.glob(".samples*")):
                break
            time.sleep(0.1)
        process.send_signal(signum)
        status, error = ended(process)
    finally:
        process.kill()
    assert status == 128 + signum
    assert error.splitlines()[-1] == f"fused-gan: error: ended by {signum.name}"
    assert [path.suffix for path in out.iterdir()] == [".png"]
