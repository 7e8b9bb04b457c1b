"""What can be seen of a CUDA build without a GPU: it imports, its operators have CUDA kernels, its CPU side computes.

Run by `make cuda` in an environment of its own. Ends with a word for the reader, or with an error.
"""

from __future__ import annotations

import torch

import fused_gan


def main() -> None:
    facts = fused_gan.build_info()
    assert facts["cuda"], f"this is a build without CUDA: {facts}"
    for operator in ("fused_gan::linear_act", "fused_gan::linear_act_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(operator, "CUDA"), f"{operator} has no CUDA kernel"
    assert torch._C._dispatch_has_kernel_for_dispatch_key("fused_gan::linear_act", "AutocastCUDA")

    x, weight, bias = torch.randn(5, 3), torch.randn(4, 3), torch.randn(4)
    ours = torch.ops.fused_gan.linear_act(x, weight, bias, "tanh", 0.01)
    torch.testing.assert_close(ours, torch.tanh(torch.nn.functional.linear(x, weight, bias)))

    executed = (
        "a GPU is here: run the test suite" if torch.cuda.is_available() else "no GPU: no kernel was executed here"
    )
    print(
        f"make cuda: compiled for {facts['cuda_architectures']} (CUDA {facts['cuda']}), linked, imported into "
        f"torch {torch.__version__}, CUDA kernels registered; {executed}"
    )


if __name__ == "__main__":
    main()
