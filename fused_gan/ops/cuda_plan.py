"""Says in words which kernels multiply on CUDA, for `fused_gan.plan`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from fused_gan.ops.library import FACTS, native

EXAMPLE = ("an H100", (90, 132))  # the plan is said for this GPU where no GPU is visible

NAMES = {
    "library": "torch's product (cuBLAS), then one kernel for the rest",
    "wgmma_128x256": "one kernel on Hopper's tensor cores (wgmma), tiles of 128 × 256",
    "wgmma_128x128": "one kernel on Hopper's tensor cores (wgmma), tiles of 128 × 128",
    "mma_128x128": "one kernel on the tensor cores (mma), tiles of 128 × 128",
    "mma_64x64": "one kernel on the tensor cores (mma), tiles of 64 × 64",
    "mma_32x32": "one kernel on the tensor cores (mma), tiles of 32 × 32",
    "mma_any": "one kernel on the tensor cores (mma), tiles of 64 × 64, any alignment",
}


def capability(device: torch.device | str | None) -> tuple[int, int]:
    """Return what the plan must know of a device: ten times its compute capability, and its multiprocessors."""
    facts = torch.cuda.get_device_properties(torch.device(device or "cuda"))
    return 10 * facts.major + facts.minor, facts.multi_processor_count


class Product(NamedTuple):
    """A matrix product as the plan knows it: C (rows, columns) = A (rows, depth) · B."""

    precision: str  # a dtype, "tf32" or "float32 as bfloat16"
    direction: str  # "forward" or "backward"
    rows: int
    columns: int
    depth: int
    aligned: bool  # whether every row of every matrix begins at a multiple of 16 bytes
    epilogue: bool  # whether there is an activation that may be part of it (backward: or a bias gradient)


def product(
    dtype: str, direction: str, rows: int, columns: int, depth: int, aligned: bool, epilogue: bool = True
) -> Product:
    """Return a product as the plan knows it. The precision of float32 is what PyTorch's settings say at this moment.

    Args:
        dtype: "bfloat16", "float16" or "float32".
        direction: "forward" (rows, depth) · (columns, depth)ᵀ, or "backward" (rows, depth) · (depth, columns).
        aligned: whether every row of every matrix begins at a multiple of 16 bytes.
        epilogue: whether there is an activation that may be part of it (backward: or a bias gradient).
    """
    precision = native.cuda_float32(rows, columns, depth) if dtype == "float32" else dtype
    return Product(precision, direction, rows, columns, depth, aligned, epilogue)


def is_aligned(dtype: str, *row_lengths: int) -> bool:
    """Whether contiguous matrices with rows of these lengths are aligned, in torch's allocations."""
    return all(length * (4 if dtype == "float32" else 2) % 16 == 0 for length in row_lengths)


def explain(dtype: str, shape: tuple[int, int, int], device: torch.device | str | None) -> tuple[str, str]:
    """Return what to say of the forward and of the backward of a layer whose activation may be part of its product.

    Raises:
        ValueError: this build has no CUDA kernels.
    """
    if FACTS["cuda"] is None:
        raise ValueError("device: 'cuda' is not in this build of fused_gan (CPU only)")
    top = "one kernel for activation gradient and bias gradient, then cuBLAS products"
    if dtype == "float64":
        return "cuBLAS product, then one kernel for bias and activation: no product of ours in float64", top
    samples, inputs, outputs = shape
    where, facts = ("", capability(device)) if torch.cuda.is_available() else (f"on {EXAMPLE[0]}: ", EXAMPLE[1])
    aligned = is_aligned(dtype, inputs, outputs)
    forward = product(dtype, "forward", samples, outputs, inputs, aligned)
    backward = product(dtype, "backward", samples, inputs, outputs, aligned)
    below = f"; within a chain, the product down to the layer below it: {explain_product(backward, facts)}"
    others = "; an activation other than relu, leaky_relu, tanh and sigmoid is a kernel of its own"
    return where + explain_product(forward, facts) + others, where + top + below + others


def explain_product(what: Product, device: tuple[int, int]) -> str:
    """Return in words which kernel the plan chooses for a product, and why."""
    kernel, splits, measured = native.cuda_decision(what, device)
    times = {name: time for name, _, time, obstacle in native.cuda_candidates(what, device) if not obstacle}
    cut = f", the depth in {splits} parts, which a second kernel adds" if splits > 1 else ""
    if measured:
        return f"{NAMES[kernel]}{cut} ({kernel}, {what.precision}): measured to be the fastest on this kind of device"
    others = ", ".join(f"{name} {time:.1f}" for name, time in times.items() if name != kernel)
    return (
        f"{NAMES[kernel]}{cut} ({kernel}, {what.precision}): estimated at {times[kernel]:.1f} µs from assumed rates, "
        f"not measured (others: {others or 'none can run'}); fused_gan.autotune() measures"
    )
