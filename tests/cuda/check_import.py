"""What can be seen of a CUDA build without a GPU: it imports, its operators have CUDA kernels, its CPU side computes.

Run by `make cuda` in an environment of its own. Ends with a word for the reader, or with an error.
"""

from __future__ import annotations

import torch

import fused_gan
from fused_gan.ops import cuda_plan
from fused_gan.ops.library import native


def check_plan() -> None:
    """The plan answers, follows PyTorch's precision settings in both APIs, and explains itself."""
    h100 = (90, 132)
    for new_api, setting, expected in ((False, "high", "tf32"), (True, "ieee", "float32"), (True, "tf32", "tf32")):
        if new_api:
            torch.backends.cuda.matmul.fp32_precision = setting
        else:
            torch.set_float32_matmul_precision(setting)
        product = cuda_plan.product("float32", "forward", 4096, 4096, 4096, True)
        assert product[0] == expected, (setting, product)
        kernel, splits, measured = native.cuda_decision(product, h100)
        assert kernel in cuda_plan.NAMES
        assert splits >= 1
        assert not measured
    names = [name for name, *_ in native.cuda_candidates(product, h100)]
    assert sorted(names) == sorted(cuda_plan.NAMES), names
    print(fused_gan.plan((64, 512, 1024), dtype=torch.bfloat16, device="cuda"))


def main() -> None:
    facts = fused_gan.build_info()
    assert facts["cuda"], f"this is a build without CUDA: {facts}"
    operators = ("linear_act", "linear_act_backward", "mlp_forward", "mlp_backward")
    for operator in (f"fused_gan::{name}" for name in operators):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(operator, "CUDA"), f"{operator} has no CUDA kernel"
    assert torch._C._dispatch_has_kernel_for_dispatch_key("fused_gan::linear_act", "AutocastCUDA")

    x, weight, bias = torch.randn(5, 3), torch.randn(4, 3), torch.randn(4)
    ours = torch.ops.fused_gan.linear_act(x, weight, bias, "tanh")
    torch.testing.assert_close(ours, torch.tanh(torch.nn.functional.linear(x, weight, bias)))

    check_plan()
    executed = (
        "a GPU is here: run the test suite" if torch.cuda.is_available() else "no GPU: no kernel was executed here"
    )
    print(
        f"make cuda: compiled for {facts['cuda_architectures']} (CUDA {facts['cuda']}), linked, imported into "
        f"torch {torch.__version__}, CUDA kernels registered; {executed}"
    )


if __name__ == "__main__":
    main()
