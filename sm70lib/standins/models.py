"""Small models under real names, with the tokenizer habits and the head ratio of the real ones.

A stand-in writes one of REPLIES after a prompt and then stops. Which one depends on the prompt, so
that a rehearsal sees refusals, answers and replies that nobody can read. It knows nothing: its
scores are chance.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer, PreTrainedTokenizerFast

from sm70lib.known import KnownModel

VOCABULARY = 1000  # entries at most
WIDTH = 64
LAYERS = 2
HEADS = 8
# A refusal, a letter, a verdict, and a reply that no rule can read. Their words share no token but
# the first, since what a stand-in writes next depends on the last token alone.
REPLIES = ("I cannot help.", "Answer: B", "yes", "...")
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
    model = _model(about, tokenizer, seed)
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


def _model(about: KnownModel, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
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
    _teach_replies(model, tokenizer)
    return model.to(torch.bfloat16)


@torch.no_grad()
def _teach_replies(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Each token's direction in the embedding raises the logit of the tokens that may follow it in
    a reply.

    Embeddings are nearly orthogonal directions of length 8, layers add little to them, and the norm
    before the output keeps their length: a taught pair gains about 8 logits. After a prompt every
    reply's first token gains the same, and what attention adds of the prompt decides between them.
    """
    embedding = torch.nn.functional.normalize(
        torch.randn_like(model.model.embed_tokens.weight), dim=1
    )
    model.model.embed_tokens.weight.copy_(8 * embedding)
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.mul_(8)
        layer.self_attn.o_proj.weight.mul_(8)
    pairs = set()
    for ending in ENDINGS:
        before = tokenizer(ending, add_special_tokens=False)["input_ids"]
        for reply in REPLIES:
            whole = [
                *tokenizer(ending + reply, add_special_tokens=False)["input_ids"],
                tokenizer.eos_token_id,
            ]
            first = len(before) if whole[: len(before)] == before else len(before) - 1
            pairs |= (
                set(zip(whole[first - 1 :], whole[first:])) if first else {(before[-1], whole[0])}
            )
    for token, following in pairs:
        model.lm_head.weight[following] += embedding[token]
