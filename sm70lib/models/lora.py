"""LoRA layers: what adapters hold, and how their product is added."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import pandas as pd
import torch
from peft.tuners.lora.bnb import Linear4bit
from safetensors.torch import load_file


def shut_cpu_inference_kernel(model: torch.nn.Module) -> int:
    """Keeps bitsandbytes 0.50 from repacking NF4 weights for a CPU kernel that has no gradient.

    After one evaluation pass that kernel also serves training, and every LoRA matrix below the last layer
    then gets a wrong gradient with nothing but a warning (cosine to the right one: -0.35). Returns the
    number of layers that were set.
    """
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


class AddedInPlace(Linear4bit):
    """A quantised layer to whose output the adapter's product is added in place, where PEFT copies, scales and adds.

    What that is worth in training: tests/benchmarks/training.py.
    """

    def forward(self, x, *args, **kwargs):
        """Output of layer and adapter, `(..., features)`; PEFT's own for DoRA, several adapters at once or none."""
        if (
            self.disable_adapters
            or self.merged
            or self.lora_variant
            or len(self.active_adapters) != 1
        ):
            return super().forward(x, *args, **kwargs)
        name, tokens = self.active_adapters[0], x.reshape(-1, x.shape[-1])
        output = self.base_layer(tokens)
        low = self.lora_A[name](self.lora_dropout[name](tokens.to(self.lora_A[name].weight.dtype)))
        output.addmm_(
            low.to(output.dtype),
            self.lora_B[name].weight.T.to(output.dtype),
            alpha=self.scaling[name],
        )
        return output.view(*x.shape[:-1], -1)


def adapter_table(adapter: Path) -> pd.DataFrame:
    """The adapter by kind of layer: matrices, parameters, and the Frobenius norms of A and B (means over layers)."""
    rows = [
        (name.split(".")[-3], name.split(".")[-2][-1], weight.numel(), weight.float().norm().item())
        for name, weight in load_file(adapter / "adapter_model.safetensors").items()
        if name.endswith(".weight")
    ]
    frame = pd.DataFrame(rows, columns=["layer", "matrix", "parameters", "norm"])
    norms = frame.pivot_table(
        index="layer", columns="matrix", values="norm", sort=False
    ).add_prefix("norm_")
    return (
        frame.groupby("layer", sort=False)["parameters"]
        .agg(["size", "sum"])
        .set_axis(["matrices", "parameters"], axis=1)
        .join(norms.round(2))
    )
