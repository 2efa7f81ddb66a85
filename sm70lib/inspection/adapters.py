"""Whether an adapter fits the model that it is put on, before either is loaded."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from pathlib import Path

import torch
from peft import PeftConfig
from transformers import AutoModelForCausalLM, PretrainedConfig

from sm70lib.inspection.weights import damage
from sm70lib.models.adapters import attach, shapes
from sm70lib.steps.weights import placed
from sm70lib.study.files import CONFIGURATION, WEIGHTS
from sm70lib.study.params import StudyError
from sm70lib.untrusted.escaping import shortened
from sm70lib.untrusted.time_limit import matches


def check(adapter: Path, base: str, config: PretrainedConfig, key: str) -> tuple[int, str]:
    """Puts an adapter on a model without storage, and looks whether all of it finds its place.

    Args:
        adapter: The adapter's folder.
        base: Folder or hub name of the model.
        config: The model's configuration.
        key: The parameter that names both.

    Returns:
        Rows of the input embeddings with the adapter, and a few words on it.

    Raises:
        StudyError: If a file is missing or damaged, or it is not an adapter of layers, or it does
            not fit.
    """
    about = _configuration(adapter, key)
    with torch.device("meta"):
        own = deepcopy(config)  # which resizing changes
        built = AutoModelForCausalLM.from_config(own, trust_remote_code=False)
    _require_patterns(about, [name for name, _ in built.named_modules()], adapter, key)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nothing can be copied to where nothing is stored
            tuned = attach(built, adapter)
    except StudyError as error:
        raise StudyError(f"{key}: {error}") from None
    # PEFT's errors are of many kinds.
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise StudyError(f"{key}: the adapter {adapter} cannot be put on {base}: {first}") from None
    rows = tuned.get_input_embeddings().weight.shape[0]
    return rows, f"adapter of {len(shapes(adapter))} weights, all of which fit{_other(about, base)}"


def _configuration(adapter: Path, key: str) -> PeftConfig:
    files = [adapter / name for name in (CONFIGURATION, WEIGHTS)]
    if not all(file.is_file() for file in files):
        raise StudyError(
            f"{key}: {adapter} is not an adapter: it needs {CONFIGURATION} and {WEIGHTS}, "
            "as PEFT's save_pretrained writes them; weights are read in no other format"
        )
    trouble = damage(adapter / WEIGHTS)
    if trouble:
        raise StudyError(f"{key}: {adapter / WEIGHTS} {trouble}")
    try:
        about = PeftConfig.from_pretrained(str(adapter))
    except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        first = str(error).strip().splitlines()[0][:150]
        raise StudyError(f"{key}: {adapter / CONFIGURATION} cannot be read ({first})") from None
    if about.is_prompt_learning:
        raise StudyError(
            f"{key}: {adapter} is a {about.peft_type.value} adapter, which puts words before every "
            "prompt; adapters of layers, such as LoRA, are scored"
        )
    return about


def _require_patterns(about: PeftConfig, names: list[str], adapter: Path, key: str) -> None:
    """Raises StudyError if a pattern of the configuration is none, or takes for ever."""
    for setting in ("target_modules", "exclude_modules"):
        pattern = getattr(about, setting, None)
        if not isinstance(pattern, str) or pattern.lower() == "all-linear":
            continue
        try:
            for name in names:
                matches(pattern, name)
        except ValueError as error:
            raise StudyError(
                f"{key}: {adapter / CONFIGURATION}: {setting} {shortened(pattern)}: {error}"
            ) from None


def _other(about: PeftConfig, base: str) -> str:
    """A few words if the adapter names another base than it is put on; else ""."""
    named = about.base_model_name_or_path
    if not named or Path(placed(named)).name.lower() == Path(base).name.lower():
        return ""
    return f", though it names {named} as its base"
