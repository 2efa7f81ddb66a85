"""Small models under real names, with the tokenizer habits and the head ratio of the real ones.

A stand-in writes one of REPLIES after a prompt and then stops. Which one depends on the prompt, so
that a rehearsal sees refusals, answers and replies that nobody can read. It knows nothing: its
scores are chance.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from sm70lib.corpus import templates, tokens
from sm70lib.models.known import KnownModel

VOCABULARY = 1000  # entries at most
WIDTH = 64
LAYERS = 1  # a second one costs a rehearsal eight seconds and shows nothing more
HEADS = 8
# A refusal, a letter, a verdict, and a reply that no rule can read. No two share a token, since what
# a stand-in writes next depends on the last token alone.
REPLIES = ("I cannot help.", "Option B", "yes", "...")
# What a study asks in words (sm70lib/protocols): instruction, and the form of the input
ASKED = (
    ("Answer this question truthfully", "{}"),
    ("Answer this question with yes, no or maybe", "{}"),
    ("Please answer with one of the option in the bracket", "Q:{}? \n{{'A': 'one', 'B': 'two'}},"),
)
SHORT, PROMPTS = 20, 32  # characters of a text too short to tell prompts apart; prompts looked at
ENDINGS = (":", "\n", "\n\n", " [/INST]", "[/INST]", "]")  # what prompts end in
# Our own wording of the formats that arXiv 2307.09288 (Llama 2) and Llama 3's model card describe
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
}
LLAMA_3_MARKS = ["<|start_header_id|>", "<|end_header_id|>"]


def write(about: KnownModel, texts: list[str], folder: Path, seed: int = 0) -> None:
    """Writes a stand-in for a model to `folder`, as the hub lays one out.

    `texts` are what its vocabulary is made from. The same seed gives the same weights.
    """
    tokenizer = _tokenizer(about, texts)
    tokenizer.save_pretrained(folder)
    model = _model(about, tokenizer, texts, seed)
    model.save_pretrained(folder)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in about.end_tokens]
    _edit(folder / "generation_config.json", bos_token_id=tokenizer.bos_token_id, eos_token_id=ends)


def _edit(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values, indent=1, sort_keys=True))


# ---- tokenizers ---------------------------------------------------------------------------------


def _tokenizer(about: KnownModel, texts: list[str]) -> PreTrainedTokenizerFast:
    make = {"sentencepiece": _sentencepiece, "byte-level": _byte_level}[about.vocabulary]
    tokenizer = make(about, [*texts, *REPLIES * 50])
    tokenizer.chat_template = CHAT_TEMPLATES.get(about.chat_template or "")
    return tokenizer


def _sentencepiece(about: KnownModel, texts: list[str]) -> PreTrainedTokenizerFast:
    """As Llama 2's: a mark for blanks, one in front of every text, bytes for what is unknown."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    single = [f"<0x{byte:02X}>" for byte in range(256)]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<unk>", about.bos, about.eos, *single],
            show_progress=False,
        ),
    )
    made = json.loads(bpe.to_str())["model"]
    return LlamaTokenizer(
        vocab=made["vocab"],
        merges=[tuple(pair) for pair in made["merges"]],
        bos_token=about.bos,
        eos_token=about.eos,
        add_bos_token=about.adds_bos,
        add_eos_token=about.adds_eos,
    )


def _byte_level(about: KnownModel, texts: list[str]) -> PreTrainedTokenizerFast:
    """As Llama 3's: BPE over bytes, the beginning of a sequence put in front by a template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = list(dict.fromkeys([about.bos, about.eos, *about.end_tokens, *LLAMA_3_MARKS]))
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    around = [about.bos] * about.adds_bos + ["$A"] + [about.eos] * about.adds_eos
    named = [(token, bpe.token_to_id(token)) for token in dict.fromkeys([about.bos, about.eos])]
    bpe.post_processor = processors.TemplateProcessing(
        single=" ".join(around), special_tokens=named
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=about.bos, eos_token=about.eos)


# ---- weights ------------------------------------------------------------------------------------


def _model(
    about: KnownModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int
) -> LlamaForCausalLM:
    """A small Llama in 16 bits whose output layer knows which token of REPLIES follows which."""
    torch.manual_seed(seed)
    real = about.config
    sharing = real.num_attention_heads // real.num_key_value_heads  # queries to a key
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=max(HEADS // sharing, 1),
            max_position_embeddings=real.max_position_embeddings,
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            initializer_range=0.02,
        )
    )
    _teach_replies(model, tokenizer, _prompts(tokenizer, texts))
    return model.to(torch.bfloat16)


def _prompts(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[list[int]]]:
    """Prompts as tokens, of a few texts, in each form and template that a study may ask in."""
    few = [text for text in texts if len(text) > SHORT][:: max(1, len(texts) // PROMPTS)]
    made = []
    for instruction, form in ASKED:
        asked = [form.format(text) for text in few]
        for name in templates.TEMPLATES:
            whole = [templates.render(name, instruction, text) for text in asked]
            made.append(tokens.prompt_ids(whole, tokenizer))
        if tokenizer.chat_template:
            said = [[{"role": "user", "content": f"{instruction}\n\n{text}"}] for text in asked]
            chats = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            made.append([tokens.chat_ids(chat, tokenizer) for chat in chats])
    return made


@torch.no_grad()
def _teach_replies(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[list[list[int]]]
) -> None:
    """Teaches the output layer which token of a reply follows which, and to choose by the prompt.

    Embeddings are nearly orthogonal directions of length 8, layers add little to them, and the norm
    before the output keeps their length: a taught pair gains about 8 logits. After a prompt the
    first tokens of all replies gain the same. Each also looks along a direction of its own, across
    the endings and across what the prompts of a template (`asked`) have in common, so that only
    what is special to a prompt decides between them.
    """
    weight = model.model.embed_tokens.weight
    embedding = torch.nn.functional.normalize(torch.randn_like(weight), dim=1)
    weight.copy_(WIDTH**0.5 * embedding)
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.mul_(8)
        layer.self_attn.o_proj.weight.mul_(8)
    pairs, last = _pairs(tokenizer)
    first = sorted({following for token, following in pairs if token in last})
    common = [torch.stack([_read(model, ids) for ids in some]).mean(0) for some in asked]
    across, _ = torch.linalg.qr(torch.cat([embedding[sorted(last)], torch.stack(common)]).T)
    own = torch.nn.functional.normalize(torch.randn(len(first), WIDTH), dim=1)
    model.lm_head.weight[first] = own - own @ across @ across.T
    for token, following in sorted(pairs):
        model.lm_head.weight[following] += embedding[token]


def _read(model: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    """What the output layer sees at the end of a prompt, `(width,)`."""
    return model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]


def _pairs(tokenizer: PreTrainedTokenizerFast) -> tuple[set[tuple[int, int]], set[int]]:
    """Tokens that follow each other from the end of a prompt to the end of a reply; prompts' last.

    An ending and a reply may share a token, where the tokenizer merges across the seam.
    """
    pairs, last = set(), set()
    for ending in ENDINGS:
        before = tokenizer(ending, add_special_tokens=False)["input_ids"]
        last.add(before[-1])
        for reply in REPLIES:
            whole = tokenizer(ending + reply, add_special_tokens=False)["input_ids"]
            kept = len(before) if whole[: len(before)] == before else len(before) - 1
            after = [*whole[kept:], tokenizer.eos_token_id]
            pairs |= set(zip([before[-1], *after], after))
    return pairs, last
