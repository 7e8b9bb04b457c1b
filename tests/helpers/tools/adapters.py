"""PEFT."""

from __future__ import annotations

import torch

from helpers.tools.table import Numbers, layer_names, network, plain, refused, tool, x


def _lora_trains_and_goes(numbers: Numbers) -> None:
    adapted, trained, merged, unloaded = numbers
    torch.testing.assert_close(merged, trained)
    torch.testing.assert_close(unloaded, plain(), rtol=0, atol=0)
    for before, after in ((plain(), adapted), (adapted, trained)):
        assert (before - after).abs().max() > 1e-3


@tool(
    "PEFT: LoRA added, trained, merged, unloaded",
    _lora_trains_and_goes,
    "peft",
    FusedLinear=refused("PEFT knows no such layer", ValueError, "FusedLinear.* is not supported"),
)
def lora(column: str) -> Numbers:
    import peft

    def adapted() -> peft.PeftModel:
        base = network(column)
        torch.manual_seed(2)
        config = peft.LoraConfig(r=4, target_modules=layer_names(base), init_lora_weights=False)
        model = peft.get_peft_model(base, config)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        results.append(model(x()).detach())
        model(x()).square().sum().backward()
        optimizer.step()
        results.append(model(x()).detach())
        return model

    results: Numbers = []
    merged = adapted().merge_and_unload()(x()).detach()
    results.clear()
    unloaded = adapted().unload()(x()).detach()
    return [*results, merged, unloaded]
