"""What a CUDA graph does, on the CPU: the operators of a call are recorded with their memory and their numbers, and
called again on the same memory with the same numbers, whatever the host's variables say by then.

So a value that the host would have had to bring into the call shows as a wrong result here as it would there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fused_gan.systems.step_graph import ORDINARY

WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default, torch.ops.aten.nonzero.default)


class Tape(TorchDispatchMode):
    """Within it, operators are recorded as they run. Those that a graph could not hold are refused."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in WAITS, f"{func} waits for the device"
        assert torch.Tag.nondeterministic_seeded not in func.tags, f"{func} draws random numbers"
        results = func(*args, **(kwargs or {}))
        if func.namespace != "profiler":
            self._calls.append((func, args, kwargs or {}, _new(func, results)))
        return results

    def __len__(self) -> int:
        return len(self._calls)

    @torch.no_grad()
    def replay(self) -> None:
        """Everything again, each result into the memory that it was recorded in."""
        for func, args, kwargs, made in self._calls:
            for memory, result in zip(made, _new(func, func(*args, **kwargs)), strict=True):
                memory.copy_(result)


def _new(func: Any, results: Any) -> list[Tensor]:
    """The results that have memory of their own; what is written in place, or is a view, lies in recorded memory."""
    returns = func._schema.returns
    given = [results] if len(returns) == 1 else list(results or ())
    new = [result for result, value in zip(given, returns, strict=True) if value.alias_info is None]
    return [leaf for leaf in tree_leaves(new) if isinstance(leaf, Tensor)]


class TapedStep:
    """`StepGraph` with a tape for a graph, on the CPU.

    Recording executes the operators, unlike a graph's: the step that is recorded is therefore not replayed.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self._step, self._ordinary_left = step, ORDINARY
        self.tape: Tape | None = None

    def __call__(self) -> None:
        if self._ordinary_left:
            self._ordinary_left -= 1
            self._step()
        elif self.tape is None:
            with Tape() as self.tape:
                self._step()
        else:
            self.tape.replay()
