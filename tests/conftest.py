"""What every test file shares: the devices to run on, slow tests off by default, hypothesis without surprises."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported: threads that wait for each other sleep. On a busy machine, spinning makes tests six times as
# long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before cuBLAS is: without it, products refuse to run in PyTorch's deterministic mode.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Before fused_gan is: what somebody has measured on this machine is not what is tested.
os.environ["FUSED_GAN_PLANS"] = str(Path(__file__).with_name("no-plans"))

# For our `benchmarks`, whichever folder pytest is started in: Opacus 1.6 installs a package of that name. Afterwards
# the folder goes to the end, as the fused_gan that is tested may lie elsewhere.
sys.path.insert(0, str(Path(__file__).parents[1]))
import benchmarks  # noqa: F401

sys.path.append(sys.path.pop(0))

import hypothesis
import pytest
import torch

import fused_gan

pytest.register_assert_rewrite("helpers")  # a helper's assert says as much as a test's

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() and fused_gan.build_info()["cuda"] else [])

# The same examples on every run, so that a change alone turns a test red. To look for new ones:
# pytest tests/ops/test_properties.py --hypothesis-profile=explore
_COMMON = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
_SAME = {"derandomize": True, "database": None, **_COMMON}
hypothesis.settings.register_profile("same", max_examples=200, **_SAME)
hypothesis.settings.register_profile("brief", max_examples=30, **_SAME)  # once more on each other instruction set
hypothesis.settings.register_profile("explore", max_examples=5000, **_COMMON)
hypothesis.settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes or many GB; runs with --slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: pytest --slow runs it"))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that this build has kernels for."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """The same random numbers in a test, whichever others run before it."""
    torch.manual_seed(0)


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    """torch.set_num_threads for the length of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def patches(tmp_path: Path) -> str:
    """Write a small data set for small runs; return its path."""
    from helpers.small_runs import write_patches  # takes a second, and few tests train whole runs

    return write_patches(tmp_path / "patches.npz")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Send SIGINT to this process in the step after the given one, as Ctrl-C does."""
    from fused_gan.systems.system import System  # takes a second, and few tests train whole runs

    def at(step: int) -> None:
        take = System.step

        def step_and_signal(system: System) -> None:
            take(system)
            if system.steps_done == step:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(System, "step", step_and_signal)

    return at
