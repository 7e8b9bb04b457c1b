"""The state of a run, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class RunState:
    """The state from which a run goes on as if it had never stopped.

    Attributes:
        system: the state of the system, as `System.state_dict` returns it.
        best: the lowest cost so far, which belongs to the best checkpoint.
        latest: the latest value of each logged number.
        monitor: the state of the monitor, as `Monitor.state_dict` returns it.
        rollbacks: how often the run was rolled back.
        logged_step: the step of the latest log of losses.
        seconds: the duration of training so far, in seconds.
    """

    system: dict[str, Any]
    best: float
    latest: dict[str, float]
    monitor: dict[str, Any]
    rollbacks: int
    logged_step: int
    seconds: float

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunState:
        """Return the state that `to_dict` turned into `content`.

        Raises:
            KeyError, TypeError: a field is missing.
        """
        run = content["run"]
        system = {name: value for name, value in content.items() if name != "run"}
        return cls(system, **{field.name: run[field.name] for field in fields(cls) if field.name != "system"})

    def to_dict(self) -> dict[str, Any]:
        """Return the state as a checkpoint holds it: the system's entries, and all others under "run"."""
        run = {name: value for name, value in vars(self).items() if name != "system"}
        return self.system | {"run": run}

    @property
    def steps_done(self) -> int:
        """The number of steps that the system has done."""
        done: int = self.system["steps_done"]
        return done

    @property
    def is_suspicious(self) -> bool:
        """Whether the health monitor suspected a failure at its last look."""
        return bool(self.monitor["suspicions"])


def sampling_weights(state: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return the weights that pictures are made with: the averaged ones, where the run averages them.

    Args:
        state: what a checkpoint holds, `RunState.to_dict` or a system's part of it.
        network: the name of the network.

    Raises:
        KeyError: the state lacks the network.
    """
    found: dict[str, Any] = state.get(f"averaged_{network}", state[network])
    return found
