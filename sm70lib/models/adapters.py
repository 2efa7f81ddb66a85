"""Putting an adapter on its base, and looking whether all of it found its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from peft.utils import load_peft_weights
from safetensors import safe_open

from sm70lib.study.params import StudyError


def attach(model, adapter: str | Path, trainable: bool = False) -> PeftModel:
    """Puts an adapter on a model.

    PEFT only warns of weights that fit nothing; such an adapter would answer as its base does.

    Args:
        model: The base.
        adapter: Folder of the adapter.
        trainable: Whether it can be trained; else it is frozen.

    Raises:
        StudyError: If a weight of the adapter has another size than the base wants, or fits nothing
            in it.
    """
    try:
        tuned = PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
    except RuntimeError as error:
        mismatch = re.search(r"size mismatch for [^\n]*", str(error))
        if mismatch is None:
            raise
        raise StudyError(
            f"the adapter {adapter} does not fit its base: {mismatch[0]}; give the base that it "
            f"was trained on, with the tokens that were added to it{_named(adapter)}"
        ) from None
    given = _names(Path(adapter))
    # Without the flag, PEFT asks the hub whether the base's vocabulary was resized.
    places = set(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    places |= {name for name, _ in tuned.named_parameters()}
    strangers = sorted(given - places)
    if strangers:
        raise StudyError(
            f"{len(strangers)} of {len(given)} weights of the adapter {adapter} fit nothing in its "
            f"base, such as {strangers[0]}: it was trained on another model{_named(adapter)}"
        )
    return tuned


def _names(adapter: Path) -> set[str]:
    """The names of an adapter's weights."""
    weights = adapter / "adapter_model.safetensors"
    if weights.exists():
        with safe_open(weights, "pt") as file:
            return set(file.keys())
    return set(load_peft_weights(str(adapter), device="cpu"))


def _named(adapter: str | Path) -> str:
    """The base that an adapter's configuration names, in brackets; "" if it names none."""
    configuration = Path(adapter) / "adapter_config.json"
    if not configuration.exists():
        return ""
    base = json.loads(configuration.read_text()).get("base_model_name_or_path")
    return f" (its adapter_config.json names {base})" if base else ""
