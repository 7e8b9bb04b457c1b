"""One of two processes that compute what `placement` compares: python -m helpers.tools.two_processes FOLDER RANK."""

from __future__ import annotations

import datetime
import pickle
import sys
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from helpers.tools.table import COLUMNS, Numbers, layer_names, network, x


def shard_fully(model: nn.Module, mesh: DeviceMesh) -> Numbers:
    """Half of the samples in each process. FSDP2 averages the gradients of the processes."""
    fully_shard(model, mesh=mesh)
    output = model(x().chunk(2)[mesh.get_rank()])
    (2 * output.square().sum()).backward()
    both = [torch.empty_like(output) for _ in range(2)]
    distributed.all_gather(both, output.detach())
    return [torch.cat(both), *_gradients(model)]


def distribute(model: nn.Module, mesh: DeviceMesh) -> Numbers:
    """The whole weights and half of the samples in each process."""
    output = distribute_module(model, mesh)(distribute_tensor(x(), mesh, [Shard(0)]))
    output.square().sum().backward()
    return [output.full_tensor().detach(), *_gradients(model)]


def parallelize(model: nn.Module, mesh: DeviceMesh) -> Numbers:
    """Half of the hidden features in each process."""
    first, second = layer_names(model)
    parallelize_module(model, mesh, {first: ColwiseParallel(), second: RowwiseParallel()})
    assert model.get_parameter(f"{first}.weight").to_local().shape == (16, 16)
    output = model(x())
    output.square().sum().backward()
    return [output.detach(), *_gradients(model)]


def _gradients(model: nn.Module) -> Numbers:
    gradients: list[Tensor] = [p.grad.full_tensor() for p in model.parameters()]
    return gradients


TOOLS = {"fully_shard": shard_fully, "distribute_module": distribute, "parallelize_module": parallelize}


def result(name: str, column: str, mesh: DeviceMesh) -> Numbers | Exception:
    """Return the tool's numbers, or the error that it raised: the test says which one it expects."""
    try:
        return TOOLS[name](network(column), mesh)
    except Exception as error:
        return error


def main(folder: str, rank: str) -> None:
    """Put each tool to work on each column's network; the first process writes the results, errors included."""
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group(
        "gloo", store=store, rank=int(rank), world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    mesh = init_device_mesh("cpu", (2,))
    results = {(name, column): result(name, column, mesh) for name in TOOLS for column in COLUMNS}
    if rank == "0":
        (Path(folder) / "results").write_bytes(pickle.dumps(results))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
