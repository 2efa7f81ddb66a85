"""LoRA layers: what an adapter holds, and how its product is added to a layer's output."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import pandas as pd
import torch
from peft.tuners.lora.bnb import Linear4bit
from safetensors.torch import load_file


def shut_cpu_inference_kernel(model: torch.nn.Module) -> int:
    """Keeps bitsandbytes 0.50 from repacking NF4 weights for a CPU kernel without a gradient.

    After one evaluation pass that kernel also serves training. Every LoRA matrix below the last
    layer then gets a wrong gradient, with only a warning (cosine to the right one: -0.35).

    Returns:
        The number of layers that were set.
    """
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


class AddedInPlace(Linear4bit):
    """A quantised layer that adds the adapter's product to its output in place.

    PEFT copies, scales and adds. tests/benchmarks/training.py measures the gain in training.
    """

    def forward(self, x, *args, **kwargs):
        """Output of layer and adapter, by PEFT's own method for DoRA, several adapters or none.

        Args:
            x: Input, `(..., input features)`.

        Returns:
            Output, `(..., output features)`.
        """
        if (
            self.disable_adapters
            or self.merged
            or self.lora_variant
            or len(self.active_adapters) != 1
        ):
            return super().forward(x, *args, **kwargs)
        name = self.active_adapters[0]
        tokens = x.reshape(-1, x.shape[-1])
        output = self.base_layer(tokens)
        adapter_input = tokens.to(self.lora_A[name].weight.dtype)
        low = self.lora_A[name](self.lora_dropout[name](adapter_input))
        output.addmm_(
            low.to(output.dtype),
            self.lora_B[name].weight.T.to(output.dtype),
            alpha=self.scaling[name],
        )
        return output.view(*x.shape[:-1], -1)


def adapter_table(adapter: Path) -> pd.DataFrame:
    """Describes an adapter by kind of layer.

    Args:
        adapter: The adapter's folder.

    Returns:
        One row per kind of layer: matrices, parameters, and the Frobenius norms of A and B (means
        over layers).
    """
    rows = []
    for name, weight in load_file(adapter / "adapter_model.safetensors").items():
        if not name.endswith(".weight"):
            continue
        layer, matrix = name.split(".")[-3], name.split(".")[-2][-1]  # such as q_proj, lora_A
        rows.append((layer, matrix, weight.numel(), weight.float().norm().item()))
    frame = pd.DataFrame(rows, columns=["layer", "matrix", "parameters", "norm"])
    norms = frame.pivot_table(
        index="layer", columns="matrix", values="norm", sort=False
    ).add_prefix("norm_")
    counts = frame.groupby("layer", sort=False)["parameters"].agg(["size", "sum"])
    counts = counts.set_axis(["matrices", "parameters"], axis=1)
    return counts.join(norms.round(2))
