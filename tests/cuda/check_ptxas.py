"""Compares what ptxas reports of every kernel with a budget, and looks for wgmma that ptxas had to serialise.

python check_ptxas.py LOG [--write]     LOG: of a build with NVCC_APPEND_FLAGS=-Xptxas=-v, which is installed

A kernel may use fewer registers, less stack and less code than its budget (--write lowers it), never more without the
budget file being changed in the same commit. The numbers are one compiler's: another release of nvcc is not compared.
Bytes of code come from the installed library, by cuobjdump.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

BUDGET = Path(__file__).parent / "budget.json"
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
SECTION = re.compile(r"\] \.text\.(\S+) +PROGBITS +\w+ \w+ (\w+)")  # of a kernel, in readelf's list
REGISTERS = re.compile(r"Used (\d+) registers")
PRECISIONS, DIRECTIONS = ("bfloat16", "float16", "tf32", "float32"), ("forward", "backward")
CLASSES = ("", ", other activations", ", scaled activations")  # of a pointwise kernel
ELEMENTS = {"__nv_bfloat16": "bfloat16", "__half": "float16", "float": "float32", "double": "float64"}

Usage = dict[str, dict[str, int]]  # kernel and architecture -> registers, stack, spills


def label(symbol: str) -> str:
    """A kernel's name for people, from its demangled symbol; CUTLASS's are so long that c++filt leaves them mangled."""
    instruction = re.search(r"MMA_\d+x\d+x\d+_F32(TF32|BF16|F16)\1", symbol)
    if instruction and ("ActivationForward" in symbol or "ActivationGradient" in symbol):
        precision = {"TF32": "tf32", "BF16": "bfloat16", "F16": "float16"}[instruction[1]]
        columns = 256 if "Cooperative" in symbol else 128
        return f"wgmma {precision} {'forward' if 'ActivationForward' in symbol else 'backward'} 128x{columns}"
    if found := re.search(
        r"mma_kernel<\(\S*Precision\)(\d), \(\S*Direction\)(\d), \S*TileShape<(\d+), (\d+),[^>]*>, (\d+)>", symbol
    ):
        precision, direction, rows, columns, access = (int(number) for number in found.groups())
        return f"mma {PRECISIONS[precision]} {DIRECTIONS[direction]} {rows}x{columns}, {access} bytes an access"
    if found := re.search(r"(\w+)_kernel<(\w+)((?:, \w+)*)(?:, \(\S*ActivationClass\)(\d))?>", symbol):
        name, element, options, kind = found.groups()
        return f"{name} {ELEMENTS[element]}{options}{CLASSES[int(kind or 0)]}"
    raise ValueError(f"a kernel without a name for people: {symbol[:300]}")


def labels(symbols: Iterable[str]) -> dict[str, str]:
    """The label of each symbol."""
    ordered = sorted(set(symbols))
    demangled = subprocess.run(["c++filt"], input="\n".join(ordered), capture_output=True, text=True, check=True)
    return dict(zip(ordered, map(label, demangled.stdout.splitlines()), strict=True))


def code_bytes(library: Path) -> dict[str, int]:
    """The bytes of machine code of every kernel in a library, by the names of `read`."""
    packages = sysconfig.get_path("purelib")
    cuobjdump = next(Path(packages).glob("nvidia/cu*/bin/cuobjdump"), None) or shutil.which("cuobjdump")
    if cuobjdump is None:
        sys.exit(f"expected cuobjdump in PATH or in {packages}/nvidia: pip install nvidia-cuda-cuobjdump")
    found: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        extract = [cuobjdump, "-xelf", "all", library.resolve()]
        subprocess.run(extract, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        for cubin in Path(folder).glob("*.cubin"):
            architecture = cubin.suffixes[-2].removeprefix(".")
            listed = subprocess.run(["readelf", "-SW", cubin], capture_output=True, text=True, check=True).stdout
            for symbol, size in SECTION.findall(listed):
                found[symbol, architecture] = int(size, 16)
    names = labels(symbol for symbol, _ in found)
    return {f"{names[symbol]}, {architecture}": size for (symbol, architecture), size in found.items()}


def read(log: str) -> Usage:
    """What ptxas said of each kernel."""
    names = labels(symbol for symbol, _ in ENTRY.findall(log))
    usage: Usage = {}
    current = None
    for line in log.splitlines():
        if found := ENTRY.search(line):
            current = usage.setdefault(f"{names[found[1]]}, {found[2]}", {})
        elif current is not None and (found := STACK.search(line)):
            current |= {"stack": int(found[1]), "spills": int(found[2]) + int(found[3])}
        elif current is not None and (found := REGISTERS.search(line)):
            current["registers"] = int(found[1])
            current = None
    return usage


def complaints(usage: Usage, budget: Usage) -> list[str]:
    """Where usage is over the budget, or the two do not speak of the same kernels."""
    found = [f"{name}: in the budget, but not compiled" for name in budget.keys() - usage.keys()]
    found += [f"{name}: compiled, but not in the budget" for name in usage.keys() - budget.keys()]
    for name in usage.keys() & budget.keys():
        for what, used in usage[name].items():
            allowed = budget[name].get(what, 0)
            if used > allowed:
                found.append(f"{name}: {used} {what}, the budget is {allowed}")
    return sorted(found)


def compiler() -> str:
    """nvcc's release."""
    printed = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release ([\d.]+)", printed)[1]  # type: ignore[index]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--write", action="store_true", help="make what the log says the budget")
    arguments = parser.parse_args()
    log = arguments.log.read_text(errors="replace")
    if "C7510" in log:
        sys.exit(f"{arguments.log}: ptxas serialised wgmma (warning C7510): is -DNDEBUG missing?")
    usage = read(log)
    if not usage:
        sys.exit(f"{arguments.log}: expected ptxas's report, got none: build with NVCC_APPEND_FLAGS=-Xptxas=-v")
    sizes = code_bytes(Path(sysconfig.get_path("purelib"), "fused_gan", "libfused_gan.so"))
    for name, numbers in usage.items():
        numbers["code"] = sizes[name]
    if arguments.write:
        BUDGET.write_text(json.dumps({"nvcc": compiler(), "kernels": dict(sorted(usage.items()))}, indent=1) + "\n")
        print(f"written: {BUDGET}, {len(usage)} kernels")
        return 0
    budget = json.loads(BUDGET.read_text())
    if budget["nvcc"] != compiler():
        print(f"ptxas budget: NOT COMPARED, it is nvcc {budget['nvcc']}'s, and this is nvcc {compiler()}")
        return 0
    if found := complaints(usage, budget["kernels"]):
        sys.exit("ptxas budget:\n  " + "\n  ".join(found))
    print(f"ptxas budget: {len(usage)} kernels within it, no serialised wgmma")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
