"""Putting an adapter on its base, and looking whether all of it found its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open

from sm70lib.study.files import CONFIGURATION, WEIGHTS
from sm70lib.study.params import StudyError


def attach(model, adapter: str | Path, trainable: bool = False) -> PeftModel:
    """Puts an adapter on a model.

    PEFT passes over weights that fit nothing, and only warns of those that are missing: such an
    adapter would answer as its base does, wholly or in part. What it says of its own load counts,
    as it knows the older names of weights that transformers has renamed. An adapter that brings
    embeddings for tokens of its own gets room for them.

    Args:
        model: The base. One on PyTorch's `meta` device shows whether all fits, and loads nothing.
        adapter: Folder of the adapter.
        trainable: Whether it can be trained; else it is frozen.

    Raises:
        StudyError: If the adapter has no safetensors, or a weight of it has another size than the
            base wants, or fits nothing in it, or is missing.
    """
    given = shapes(Path(adapter))
    _make_room(model, given, adapter)
    about = PeftConfig.from_pretrained(str(adapter))
    about.inference_mode = not trainable
    # Where PEFT saves it again, it compares vocabularies with this base: the one that is loaded.
    about.base_model_name_or_path = model.name_or_path or None
    tuned = get_peft_model(model, about)
    try:
        found = tuned.load_adapter(str(adapter), "default", is_trainable=trainable)
    except RuntimeError as error:
        mismatch = re.search(r"size mismatch for [^\n]*", str(error))
        if mismatch is None:
            raise
        raise StudyError(
            f"the adapter {adapter} does not fit its base: {mismatch[0]}; give the base that it "
            f"was trained on, with the tokens that were added to it{_named(adapter)}"
        ) from None
    _require_all(tuned, found, len(given), adapter)
    return tuned


def _require_all(tuned: PeftModel, found, count: int, adapter: str | Path) -> None:
    """Raises StudyError if a weight of an adapter fits nothing in its base, or is missing.

    Args:
        tuned: The base with the adapter.
        found: What PEFT said when it loaded the weights.
        count: How many weights the adapter has.
        adapter: Its folder.
    """
    # PEFT writes embeddings for new tokens several times, and reads them once. Without the flag it
    # asks the hub whether the base's vocabulary was resized.
    written = get_peft_model_state_dict(tuned, save_embedding_layers=True)
    strangers = sorted(set(found.unexpected_keys) - set(written))
    missing = sorted(found.missing_keys)
    if strangers:
        raise StudyError(
            f"{len(strangers)} of {count} weights of the adapter {adapter} fit nothing in its "
            f"base, such as {strangers[0]}: it was trained on another model{_named(adapter)}"
        )
    if missing:
        raise StudyError(
            f"the adapter {adapter} lacks {len(missing)} weights that its {CONFIGURATION} "
            f"asks for, such as {missing[0]}: copy or download it again"
        )


def shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """The sizes of an adapter's weights, by name.

    Raises:
        StudyError: If there are no safetensors.
    """
    if not (adapter / WEIGHTS).exists():
        raise StudyError(
            f"the adapter {adapter} has no {WEIGHTS}, and weights are read in no other format: "
            "load it once with PEFT, where you trust it, and save it with save_pretrained"
        )
    with safe_open(adapter / WEIGHTS, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


def _make_room(model, given: dict[str, tuple[int, ...]], adapter: str | Path) -> None:
    """Gives the base as many embeddings as the adapter brings, if it brings other ones.

    Raises StudyError if it brings no rows for a head of its own: they would be random.
    """
    inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    rows = _rows(model, given, inner)
    head = _rows(model, given, outer)
    if {rows, head} <= {None, inner.weight.shape[0]}:
        return
    tied = outer is None or outer.weight is inner.weight
    if rows is None or (head is None and not tied) or head not in (None, rows):
        raise StudyError(
            f"the adapter {adapter} brings {rows or 'no'} rows of input embeddings and "
            f"{head or 'no'} rows of the head: they must be as many, so save it again with both in "
            "modules_to_save"
        )
    model.resize_token_embeddings(rows, mean_resizing=False)


def _rows(model, given: dict[str, tuple[int, ...]], module) -> int | None:
    """Rows of the matrix that the adapter has in place of a module's; None if it has none."""
    name = next((name for name, each in model.named_modules() if each is module), None)
    wanted = (f"base_model.model.{name}.weight", f"base_model.model.{name}.base_layer.weight")
    return next((given[key][0] for key in wanted if key in given), None)


def _named(adapter: str | Path) -> str:
    """The base that an adapter's configuration names, in brackets; "" if it names none."""
    configuration = Path(adapter) / CONFIGURATION
    if not configuration.exists():
        return ""
    base = json.loads(configuration.read_text()).get("base_model_name_or_path")
    return f" (its {CONFIGURATION} names {base})" if base else ""
