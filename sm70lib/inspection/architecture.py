"""Whether a model is one that transformers loads as a causal language model here."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.quantizers import AutoHfQuantizer

from sm70lib.models import loading
from sm70lib.study.params import StudyError

# Checkpoints without a language model's head: transformers would draw a random one.
HEADLESS = re.compile(r".*(For\w*Classification|ForQuestionAnswering|(?<!LMHead)Model)")
FROM_BNB = "bitsandbytes"
# Seen with PEFT 0.21 and bitsandbytes 0.50: an adapter on all linear layers fails in four bits
NOT_IN_FOUR_BITS = ("llama4_text", "mamba")


def configuration(name: str, folder: Path, key: str) -> PretrainedConfig:
    """The configuration of a model.

    Args:
        name: Folder or hub name of the model.
        folder: Where its files are.
        key: The parameter that names it.

    Raises:
        StudyError: If it cannot be read, or the model brings code of its own.
    """
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0][:150]
    if "trust_remote_code" in first or "custom code" in first:
        raise StudyError(
            f"{key}: {name} brings Python code of its own, which is not run; give a model of a "
            "family that transformers has"
        )
    raise StudyError(f"{key}: {name} cannot be read ({first})")


def check(name: str, config: PretrainedConfig, key: str, quantised: bool) -> None:
    """Looks at a model's family and at how its weights are stored.

    Args:
        name: Folder or hub name of the model.
        config: Its configuration.
        key: The parameter that names it.
        quantised: Whether it will be quantised here.

    Raises:
        StudyError: If it is not a causal language model, or its weights need what is not here.
    """
    trouble = _not_causal(config) or _not_in_four_bits(config, quantised)
    trouble = trouble or _not_loadable(config, quantised)
    if trouble:
        raise StudyError(f"{key}: {name} {trouble}")


def _not_causal(config: PretrainedConfig) -> str:
    family = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        return f"is an encoder-decoder ({family}); only causal language models are scored"
    if family in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", True):
        return f"is an encoder ({family}), which fills gaps; only causal language models are scored"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"is of the family {family}, which transformers loads as no causal language model"
    named = (getattr(config, "architectures", None) or [""])[0]
    if HEADLESS.fullmatch(named):
        return f"is a {named}, which has no language model's head; give the causal language model"
    return ""


def _not_in_four_bits(config: PretrainedConfig, quantised: bool) -> str:
    family = config.get_text_config().model_type
    if not quantised or family not in NOT_IN_FOUR_BITS:
        return ""
    return (
        f"is of the family {family}, which PEFT or bitsandbytes cannot take in four bits: take "
        "quantisation away (quant=none; quant_type: none)"
    )


def _not_loadable(config: PretrainedConfig, quantised: bool) -> str:
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return ""
    method = stored["quant_method"] if isinstance(stored, dict) else stored.quant_method
    method = str(getattr(method, "value", method))
    if quantised and method != FROM_BNB:
        return (
            f"is stored quantised already ({method}), and cannot be quantised to NF4 on top: give "
            "its checkpoint in 16 bits, or take quantisation away (quant=none; quant_type: none)"
        )
    try:
        quantizer = AutoHfQuantizer.from_config(stored, pre_quantized=True)
        quantizer.validate_environment(device_map={"": loading.device()})
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0][:200]
        return f"is stored quantised ({method}), which cannot be loaded here: {first}"
    return ""
