"""What training has left, by kind of layer: the matrices of an adapter or of a whole model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from sm70lib.study.files import WEIGHTS


def table(stage: Path) -> pd.DataFrame:
    """Describes by kind of layer what a training stage has left: its adapter, or a whole model."""
    if (stage / "model").is_dir():
        return model_table(stage / "model")
    return adapter_table(stage / "adapter")


def model_table(model: Path) -> pd.DataFrame:
    """Describes a model by kind of layer.

    Args:
        model: The model's folder.

    Returns:
        One row per kind of layer: matrices, parameters, and the Frobenius norm (mean over layers).
    """
    rows = []
    for file in sorted(model.glob("*.safetensors")):
        for name, weight in load_file(file).items():
            rows.append((name.split(".")[-2], weight.numel(), weight.float().norm().item()))
    frame = pd.DataFrame(rows, columns=["layer", "parameters", "norm"])
    by_layer = frame.groupby("layer", sort=False)
    return by_layer.agg(
        matrices=("norm", "size"), parameters=("parameters", "sum"), norm=("norm", "mean")
    ).round(2)


def adapter_table(adapter: Path) -> pd.DataFrame:
    """Describes an adapter by kind of layer.

    Args:
        adapter: The adapter's folder.

    Returns:
        One row per kind of layer: matrices, parameters, and the Frobenius norms of A and B (means
        over layers).
    """
    rows = []
    for name, weight in load_file(adapter / WEIGHTS).items():
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
