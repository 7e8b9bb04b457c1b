"""What a cell of the table says, how it is checked, and the network in its four forms.

A tool is a function that takes a column, builds the network of this column, puts the tool to work and returns numbers.
`tool` registers it with one `Cell` per column: the phrase that docs/tools.md prints, and the check that proves it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fused_gan import FusedLinear, FusedMLP, fuse

COLUMNS = ("stock", "fuse()", "FusedLinear", "FusedMLP")
PACKAGES = {  # package: its module. The extra `tools` of pyproject.toml has the versions.
    "accelerate": "accelerate",
    "backpack-for-pytorch": "backpack",
    "captum": "captum",
    "deepxde": "deepxde",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "opacus": "opacus",
    "peft": "peft",
    "torchao": "torchao",
}
Numbers = list[Tensor]


class Cell(NamedTuple):
    """A column's cell in the row of a tool."""

    phrase: str
    check: Callable[[Tool, str], None]


class Tool(NamedTuple):
    """A row of the table."""

    name: str
    needs: tuple[str, ...]  # the packages beside torch
    run: Callable[[str], Numbers]
    cells: dict[str, Cell]

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(PACKAGES[name]) is None]


TOOLS: list[Tool] = []


def tool(
    name: str, stock: Callable[[Numbers], None], *needs: str, **cells: Cell
) -> Callable[[Callable[[str], Numbers]], Callable[[str], Numbers]]:
    """Add a tool to the table.

    Args:
        name: the row's title.
        stock: asserts that the tool's numbers on the stock network are right.
        needs: packages beside torch.
        cells: the cells that are not "as stock", by column, with "fuse" for "fuse()".
    """

    def add(run: Callable[[str], Numbers]) -> Callable[[str], Numbers]:
        row = {column: cells.get(column.removesuffix("()"), SAME) for column in COLUMNS}
        row["stock"] = Cell("works", lambda tool, column: stock(tool.run(column)))
        TOOLS.append(Tool(name, needs, run, row))
        return run

    return add


# ---- the network -----------------------------------------------------------------------------------------------------


def network(column: str) -> nn.Module:
    """Return Linear, ReLU, Linear, Tanh in a column's form, with the same weights in each column."""
    torch.manual_seed(0)
    stock = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh())
    if column == "stock":
        return stock
    if column == "fuse()":
        return fuse(stock)
    return with_weights_of(
        stock,
        FusedMLP([16, 32, 16], "relu", "tanh")
        if column == "FusedMLP"
        else nn.Sequential(FusedLinear(16, 32, activation="relu"), FusedLinear(32, 16, activation="tanh")),
    )


def with_weights_of(stock: nn.Module, network: nn.Module) -> nn.Module:
    """Return the network with the weights of a stock network that has the same layers, perhaps by other names."""
    with torch.no_grad():
        for ours, theirs in zip(network.parameters(), stock.parameters(), strict=True):
            ours.copy_(theirs)
    return network


def layer_names(network: nn.Module) -> list[str]:
    """Return the names of the modules that have a weight."""
    return [name for name, module in network.named_modules() if isinstance(getattr(module, "weight", None), Tensor)]


def x() -> Tensor:
    """Return the same 16 random samples at every call."""
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(1))


# ---- checks ----------------------------------------------------------------------------------------------------------


def plain() -> Tensor:
    """Return the output of the stock network to which no tool was applied."""
    return network("stock")(x()).detach()


def unchanged(numbers: Numbers) -> None:
    """The tool changes nothing in the output."""
    torch.testing.assert_close(numbers[0], plain())


def rounded(numbers: Numbers) -> None:
    """The tool computes with fewer digits: near to what float32 gives, but not the same."""
    assert not torch.equal(numbers[0], plain())
    torch.testing.assert_close(numbers[0], plain(), rtol=0, atol=0.1)


def same(phrase: str) -> Cell:
    """A cell for a tool whose numbers are those that it has on the stock network."""
    return Cell(phrase, lambda tool, column: torch.testing.assert_close(tool.run(column), tool.run("stock")))


def _left_alone(tool: Tool, column: str) -> None:
    """The numbers are those of the network that the tool has not seen."""
    torch.testing.assert_close(tool.run(column)[0], network(column)(x()).detach(), rtol=0, atol=0)


def refused(phrase: str, error: type[Exception], message: str) -> Cell:
    """A cell for a tool that raises an error."""

    def check(tool: Tool, column: str) -> None:
        with pytest.raises(error, match=message):
            tool.run(column)

    return Cell(f"refused: {phrase}", check)


SAME = same("as stock")
LEFT_ALONE = Cell("left as it is, in float32", _left_alone)
