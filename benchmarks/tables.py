"""pytest-benchmark's records as Markdown tables, one for each benchmark function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from benchmarks.machine import FAR

Record = dict[str, Any]

DISTURBED = 0.8  # as a share of the micro-kernel's best rate in the run


@dataclass(frozen=True)
class Machine:
    """The machine at its best in a run, with which each record is compared.

    Attributes:
        rates: best FLOP/s of the micro-kernel, by dtype, which the machine reaches while nobody else uses its cores.
        round_trip: seconds of a cache line between the cores and back. A tenth of the cases had less; the minimum
            could be luck.
    """

    rates: dict[str, float]
    round_trip: float

    @classmethod
    def of(cls, records: list[Record]) -> Machine:
        """Return the best values in the records of a run."""
        rates: dict[str, float] = {}
        for record in records:
            dtype = record["extra_info"]["dtype"]
            rates[dtype] = max(rates.get(dtype, 0.0), rate_of_the_kernel(record))
        trips = sorted(record["extra_info"]["round_trip"] for record in records)
        return cls(rates, trips[len(trips) // 10])

    def was_far(self, record: Record) -> bool:
        """Whether the cores were farther apart than at other times while the case was measured."""
        return bool(record["extra_info"]["round_trip"] > FAR * self.round_trip)

    def was_disturbed(self, record: Record) -> bool:
        """Whether others used the cores during the case, which put the micro-kernel well below its best rate."""
        return rate_of_the_kernel(record) < DISTURBED * self.rates[record["extra_info"]["dtype"]]

    def in_words(self, records: list[Record]) -> str:
        """Say how steady the machine was during the records."""
        spans = []
        for dtype in self.rates:
            rates = [rate_of_the_kernel(record) for record in records if record["extra_info"]["dtype"] == dtype]
            spans.append(f"{dtype} {min(rates) * 1e-9:.0f}–{max(rates) * 1e-9:.0f}")
        return (
            f"{sum(map(self.was_far, records))} of {len(records)} cases while the cores were far apart, "
            f"{sum(map(self.was_disturbed, records))} while others used them (the micro-kernel's GFLOP/s beside the "
            f"cases: {', '.join(spans)})"
        )


def rate_of_the_kernel(record: Record) -> float:
    """Return the FLOP/s of the micro-kernel, measured beside the case."""
    return float(record["extra_info"]["peak_flops"])


def _case(record: Record) -> str:
    return str(record["name"].partition("[")[2].rstrip("]"))


def _time(record: Record) -> str:
    return f"{record['extra_info']['median']['fused_gan'] * 1e6:.1f}"


def _ratio(name: str) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        ratio = record["extra_info"]["ratio"].get(name)
        return "" if ratio is None else f"{ratio:.2f}"

    return cell


def _over_floor(record: Record) -> str:
    ratio = record["extra_info"]["ratio"].get("floor")
    return "" if ratio is None else f"{1 / ratio:.2f}"


def _rate(record: Record) -> float:
    info = record["extra_info"]
    return float(info["flops"] / info["median"]["fused_gan"])


def _memory(record: Record) -> str:
    memory = record["extra_info"].get("memory")
    return "" if memory is None else f"{memory['fused_gan'] / memory['eager']:.2f}"


COLUMNS: dict[str, Callable[[Record], str]] = {
    "case": _case,
    "µs": _time,
    "eager ÷ ours": _ratio("eager"),
    "compile ÷ ours": _ratio("compile"),
    "oneDNN ÷ ours": _ratio("onednn"),
    "usual loop ÷ ours": _ratio("usual"),
    "bare step ÷ ours": _ratio("bare"),
    "ours ÷ bare product": _over_floor,
    "GFLOP/s": lambda record: f"{_rate(record) * 1e-9:.0f}",
    "of the kernel's rate": lambda record: f"{_rate(record) / record['extra_info']['peak_flops']:.0%}",
    "peak memory ÷ eager's": _memory,
}


def _summary(records: list[Record]) -> str:
    """Say geometric mean and worst of the ratios against eager, and against the better of eager and compile."""
    ratios = [record["extra_info"]["ratio"] for record in records]
    against = {"eager": [ratio["eager"] for ratio in ratios]}
    if all("compile" in ratio for ratio in ratios):
        against["the better of eager and compile"] = [min(ratio["eager"], ratio["compile"]) for ratio in ratios]
    return "; ".join(
        f"{math.exp(sum(map(math.log, values)) / len(values)):.2f}× {name} (geometric mean of {len(values)}), "
        f"worst {min(values):.2f}×"
        for name, values in against.items()
    )


def markdown(records: list[Record]) -> str:
    """Return one section per benchmark function. Columns that none of its cases fills are left out."""
    machine = Machine.of(records)
    lines = []
    for function, group in groupby(records, lambda record: record["name"].partition("[")[0]):
        cases = list(group)
        rows = [[cell(record) for cell in COLUMNS.values()] for record in cases]
        for row, record in zip(rows, cases, strict=True):
            row[0] += (" (far)" if machine.was_far(record) else "") + (
                " (disturbed)" if machine.was_disturbed(record) else ""
            )
        filled = [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
        lines += [f"## {function.removeprefix('bench_').replace('_', ' ')}", "", _summary(cases), ""]
        lines += ["| " + " | ".join(list(COLUMNS)[i] for i in filled) + " |"]
        lines += ["| --- |" + " ---: |" * (len(filled) - 1)]
        lines += ["| " + " | ".join(row[i] for i in filled) + " |" for row in rows]
        lines += [""]
    return "\n".join(lines)
