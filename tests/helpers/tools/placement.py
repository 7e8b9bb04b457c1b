"""accelerate's hooks and device maps; FSDP2, DTensor and tensor parallelism in two processes."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.tools.table import Numbers, network, plain, refused, same, tool, unchanged, x


@tool("accelerate: cpu_offload", unchanged, "accelerate")
def cpu_offload(column: str) -> Numbers:
    import accelerate

    model = accelerate.cpu_offload(network(column), execution_device=torch.device("cpu"))
    assert all(p.device.type == "meta" for p in model.parameters()), "between the calls the weights are elsewhere"
    return [model(x()).detach()]


@tool("accelerate: dispatch_model, a layer on the disk", unchanged, "accelerate")
def dispatch(column: str) -> Numbers:
    import accelerate

    model = network(column)
    first, *others = [name for name, _ in model.named_children()]
    with tempfile.TemporaryDirectory() as folder:
        places = {first: "disk"} | dict.fromkeys(others, "cpu")
        model = accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=folder, force_hooks=True)
        assert [p.device.type for p in model.parameters()] == ["meta", "meta", "cpu", "cpu"]
        return [model(x()).detach()]


def _blocks_whole(numbers: Numbers) -> None:
    """The first of three blocks of four parameters on the first device, and no block on two devices."""
    whole, torn = numbers
    assert whole.tolist() == [0] * 4 + [1] * 8
    assert torn.tolist() != whole.tolist()


@tool(
    "accelerate: infer_auto_device_map(no_split_module_classes)",
    _blocks_whole,
    "accelerate",
    FusedMLP=same('as stock, under the name "FusedMLP"'),
)
def device_map(column: str) -> Numbers:
    import accelerate

    def places(*whole: str) -> Tensor:
        """Return the index of the device of each parameter."""
        found = accelerate.infer_auto_device_map(model, room, no_split_module_classes=list(whole))
        return torch.tensor(
            [
                next(int(place == "cpu") for module, place in found.items() if f"{name}.".startswith(f"{module}."))
                for name, _ in model.named_parameters()
            ]
        )

    model = nn.Sequential(*(network(column) for _ in range(3)))
    room = {0: int(2.3 * sum(p.nbytes for p in model[0].parameters())), "cpu": 10**9}  # one block stays free
    return [places("FusedMLP" if column == "FusedMLP" else "Sequential"), places()]


# ---- two processes ---------------------------------------------------------------------------------------------------


@functools.cache  # failures too: each cell would wait for them again
def _two_processes() -> tuple[dict[tuple[str, str], Numbers | Exception], str]:
    """Return what the first of the two processes of `two_processes` computed, by name and column, and their errors."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "helpers.tools.two_processes", folder]
        processes = [
            subprocess.Popen([*command, rank], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
            for rank in "01"
        ]
        try:
            errors = "\n".join(process.communicate(timeout=120)[1] for process in processes)
        except subprocess.TimeoutExpired as error:
            errors = str(error)
        finally:
            for process in processes:
                process.kill()
        file = Path(folder) / "results"
        return pickle.loads(file.read_bytes()) if file.exists() else {}, errors


def _of_two_processes(name: str, column: str) -> Numbers:
    results, errors = _two_processes()
    assert results, errors
    result = results[name, column]
    if isinstance(result, Exception):
        raise result
    return result


def _same_step(numbers: Numbers) -> None:
    """Output and gradients are those of one process; the loss is the sum of squares of the output."""
    stock = network("stock")
    stock(x()).square().sum().backward()
    expected: list[Tensor] = [plain(), *(p.grad for p in stock.parameters() if p.grad is not None)]
    torch.testing.assert_close(numbers, expected)


for _name, _title, _cells in (
    ("fully_shard", "FSDP2: fully_shard", {}),
    ("distribute_module", "DTensor: distribute_module", {}),
    (
        "parallelize_module",
        "Tensor parallelism: ColwiseParallel, RowwiseParallel",
        {"FusedLinear": refused("it wants an nn.Linear", NotImplementedError, "only support nn.Linear")},
    ),
):
    tool(_title, _same_step, **_cells)(functools.partial(_of_two_processes, _name))
