"""Small tokenizers with the habits of real ones: their marks, byte handling and chat formats."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from sm70lib.sizes.known import KnownModel
from sm70lib.study.params import StudyError

VOCABULARY = 1000  # entries at most
# Our own wording of the formats that arXiv 2307.09288 (Llama 2), the cards of Llama 3 and Zephyr,
# github:swiss-ai/apertus_format and SmolLM2's GGUF describe; a conversation with SmolLM2 always
# begins with a turn of the system
CHAT_TEMPLATES = {
    "llama-2": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% else %}"
        "{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama-3": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
        "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
        "{{ message['content'] + eos_token + '\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "apertus": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|' + message['role'] + '_start|>' + message['content'] }}"
        "{{ '<|' + message['role'] + '_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant_start|>' }}{% endif %}"
    ),
    "smollm2": (
        "{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a stand-in.<|im_end|>\n' }}{% endif %}"
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
MARKS = {
    "llama-3": ["<|start_header_id|>", "<|end_header_id|>"],
    "apertus": [
        f"<|{role}_{end}|>" for role in ("system", "user", "assistant") for end in ("start", "end")
    ],
}


def tokenizer(about: KnownModel, texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the kind that a model has.

    Args:
        about: the model.
        texts: what the vocabulary is made from.

    Raises:
        StudyError: There is no such kind of vocabulary, or no such chat template.
    """
    make = _written("vocabulary", about.vocabulary, _TOKENIZERS)
    template = about.chat_template and _written(
        "chat_template", about.chat_template, CHAT_TEMPLATES
    )
    made = make(about, texts)
    made.chat_template = template
    return made


def _written(what: str, name: str, table: dict[str, Any]) -> Any:
    """What this file has under a name that known_models.yml gives."""
    if name not in table:
        raise StudyError(
            f"known_models.yml: {what} is {name!r}; choose from {', '.join(table)}, or write "
            f"{name!r} in sm70lib/standins/stand_in_tokenizers.py"
        )
    return table[name]


def _sentencepiece(about: KnownModel, texts: list[str]) -> PreTrainedTokenizerFast:
    """Like Llama 2's: a mark for each blank and before every text, bytes for unknown characters."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    single_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", about.bos, about.eos, *single_bytes],
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    trained = json.loads(bpe.to_str())["model"]
    return LlamaTokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],
        bos_token=about.bos,
        eos_token=about.eos,
        add_bos_token=about.adds_bos,
        add_eos_token=about.adds_eos,
    )


def _byte_level(about: KnownModel, texts: list[str]) -> PreTrainedTokenizerFast:
    """Like Llama 3's: BPE over bytes; a template puts the beginning-of-sequence token in front."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    marks = MARKS.get(about.chat_template or "", MARKS["llama-3"])
    special = list(dict.fromkeys([about.bos, about.eos, *about.end_tokens, *marks]))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bpe.post_processor = _framing(about, bpe)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=about.bos, eos_token=about.eos)


def _framing(about: KnownModel, bpe: Tokenizer) -> processors.TemplateProcessing:
    """Adds the tokens that the model expects before and after every text."""
    parts = ["$A"]
    if about.adds_bos:
        parts.insert(0, about.bos)
    if about.adds_eos:
        parts.append(about.eos)
    tokens = dict.fromkeys([about.bos, about.eos])  # no token twice, where the two are the same
    ids = [(token, bpe.token_to_id(token)) for token in tokens]
    return processors.TemplateProcessing(single=" ".join(parts), special_tokens=ids)


_TOKENIZERS = {"sentencepiece": _sentencepiece, "byte-level": _byte_level}
