"""Loads a causal language model (full precision or NF4, with or without adapter), and scores answers with it.

A prompt and all its options go through the model as one packed row: the prompt, then one branch per option
that sees the prompt and itself only. What several prompts begin with (five fixed shots) is computed once, and
their rests stand in one row, each seeing that prefix and itself. Same numbers as scoring every option alone
(to 1e-5), for a fraction of the tokens; logits are computed only where they predict an option's token.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bitsandbytes as bnb
import pandas as pd
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer,
                          BitsAndBytesConfig, DynamicCache, PreTrainedModel)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as transformers_logging

from sm70lib.params import StudyError

transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def load_tokenizer(name: str | Path):
    """The fast tokenizer of a model, with a pad token (its EOS where it has none)."""
    tokenizer = AutoTokenizer.from_pretrained(_found(name))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(name: str | Path, p=None, adapter: str | Path | None = None, trainable: bool = False,
         where: torch.device | None = None) -> PreTrainedModel | PeftModel:
    """A model in evaluation mode on this process's device or `where`; its adapter frozen unless `trainable`.

    With `p` its linear layers are quantised as the study says (`quant_type`, `quant_double`,
    `quant_compute_dtype`); without, they stay in the checkpoint's precision. Only safetensors are read and
    no remote code runs. Raises StudyError where the folder has no model.
    """
    model = AutoModelForCausalLM.from_pretrained(
        _found(name), quantization_config=quantisation(p), dtype=_dtype(p), attn_implementation="sdpa",
        use_safetensors=True, trust_remote_code=False, device_map=None if sharded() else {"": where or device()})
    shut_cpu_inference_kernel(model)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    model.config.use_cache = False
    return model.eval()


def quantisation(p) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314, section 3), or None for full precision."""
    if p is None or p.quant_type == "none":
        return None
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=p.quant_type,
                              bnb_4bit_use_double_quant=p.quant_double,
                              bnb_4bit_compute_dtype=getattr(torch, p.quant_compute_dtype),
                              bnb_4bit_quant_storage=_dtype(p) if sharded() else torch.uint8)


def sharded() -> bool:
    """Whether the launcher asked for FSDP, which cuts weights up itself and wants them all in one type."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


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


def merge(base: str, p, adapter: Path, into: str, folder: Path) -> None:
    """Writes base and adapter as one plain model to `folder`, with its tokenizer; on the CPU, in memory once.

    `into` original: the base as published, which is what SM70's own checkpoints look like; dequantised: the
    NF4 base written out, which is what the adapter was trained on. Merging into four bits would quantise the
    sum once more, and move it.
    """
    plain = load(base, p if into == "dequantised" else None, where=torch.device("cpu"))
    if into == "dequantised" and p.quant_type != "none":
        plain = plain.dequantize()
    PeftModel.from_pretrained(plain, adapter).merge_and_unload().save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)


def by_sequence(module, query, key, value, attention_mask, cu_seq_lens_q=None, **how):
    """Attention of packed rows, one row after another, so that none costs for what it may not see.

    With one mask for all, a sequence pays for its whole square. `cu_seq_lens_q` (TRL's): where rows begin, and
    the end.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    rows = zip(*(states.split(cu_seq_lens_q.diff().tolist(), dim=2) for states in (query, key, value)))
    return torch.cat([sdpa_attention_forward(module, *row, None, **how)[0] for row in rows], dim=1), None


AttentionInterface.register("by_sequence", by_sequence)
AttentionMaskInterface.register("by_sequence", sdpa_mask)


@torch.inference_mode()
def parity(tuned: torch.nn.Module, merged: torch.nn.Module, rows) -> dict[str, float]:
    """Two models on the same rows (input_ids, labels): items, target tokens, flips, largest logit difference.

    flips: target positions at which they find different tokens likeliest.
    """
    tokens, flips, largest = 0, 0, 0.0
    for row in rows:
        asked, ids = torch.tensor(row["labels"][1:]) >= 0, torch.tensor([row["input_ids"]])
        one, other = (model(input_ids=ids.to(model.device), use_cache=False).logits[0, :-1].float().cpu()[asked]
                      for model in (tuned, merged))
        tokens, flips = tokens + len(one), flips + (one.argmax(-1) != other.argmax(-1)).sum().item()
        largest = max(largest, (one - other).abs().max().item())
    return {"items": len(rows), "tokens": tokens, "flips": flips, "largest_logit_difference": largest}


def _dtype(p) -> torch.dtype | str:
    return "auto" if p is None else getattr(torch, p.quant_compute_dtype)


def _found(name: str | Path) -> str:
    """The name itself; refuses a folder that is not there before the hub is asked for 46 seconds."""
    folder = Path(name)
    if not folder.is_dir() and (folder.is_absolute() or str(name).startswith((".", "outputs"))):
        raise StudyError(f"no model in {name}: run 00_base first, or give base_model a folder or a hub name")
    return str(name)


def adapter_table(adapter: Path) -> pd.DataFrame:
    """The adapter by kind of layer: matrices, parameters, and the Frobenius norms of A and B (means over layers)."""
    rows = [(name.split(".")[-3], name.split(".")[-2][-1], weight.numel(), weight.float().norm().item())
            for name, weight in load_file(adapter / "adapter_model.safetensors").items() if name.endswith(".weight")]
    frame = pd.DataFrame(rows, columns=["layer", "matrix", "parameters", "norm"])
    norms = frame.pivot_table(index="layer", columns="matrix", values="norm", sort=False).add_prefix("norm_")
    return frame.groupby("layer", sort=False)["parameters"].agg(["size", "sum"]).set_axis(
        ["matrices", "parameters"], axis=1).join(norms.round(2))


def answer(loaded, tokenizer, prompt: str, max_new_tokens: int) -> str:
    """What a model writes after BOS and `prompt`, greedily, up to its EOS or `max_new_tokens` tokens."""
    ids = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    return written(loaded, tokenizer, [ids], max_new_tokens)[0][0]


@torch.inference_mode()
def written(loaded, tokenizer, prompts: list[list[int]], max_new_tokens: int, samples: int = 1, seed: int = 0
            ) -> list[list[str]]:
    """What a model writes after each prompt of token ids: greedily, or `samples` draws at temperature 0.8."""
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    how = {"do_sample": True, "temperature": 0.8, "top_k": 0, "num_return_sequences": samples} if samples > 1 else {
        "do_sample": False}
    torch.manual_seed(seed)
    rows = loaded.generate(ids.to(loaded.device), attention_mask=seen.to(loaded.device), use_cache=True,
                           max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id, **how)
    texts = [text.strip() for text in tokenizer.batch_decode(rows[:, width:], skip_special_tokens=True)]
    return [texts[start:start + samples] for start in range(0, len(texts), samples)]


def require(name: str, key: str) -> None:
    """Raises StudyError unless a model's folder or its files on the hub (gated ones too) can be read."""
    try:
        AutoConfig.from_pretrained(_found(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise StudyError(f"{key}: {name} cannot be read ({first}); where it is gated, ask its owners for access and "
                         "log in (hf auth login), or take it out") from None


def located(folder: Path) -> str:
    """The base of the study in `folder`: its hub name or its own folder, as 00_base noted."""
    name = json.loads((folder / "base/base.json").read_text())["model"]
    return str(folder / name) if name == "base/model" else name


# ---- log-likelihoods --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """Token ids of a prompt and of each option that could follow it (at least one token each)."""

    context: list[int]
    options: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens that go through the model; an option's last token is only predicted, never read."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)


@torch.inference_mode()
def remember(model, ids: list[int]) -> DynamicCache | None:
    """Keys and values of a prefix `(tokens,)` that several prompts share; None for an empty one."""
    if not ids:
        return None
    return _decoder(model)(input_ids=torch.tensor([ids]).to(model.device), use_cache=True).past_key_values


@torch.inference_mode()
def loglikelihoods(model, rows: list[list[Request]], pad_id: int, prefix: DynamicCache | None = None
                   ) -> list[list[float]]:
    """Summed log-likelihood (nats) of every option of every request, in one forward pass.

    The requests of a row stand side by side and see neither each other nor another row. Given a `prefix`,
    contexts are what follows it, and there is one row.
    """
    known = prefix.get_seq_length() if prefix else 0
    ids, places, owners, branches = (part.to(model.device) for part in _packed(rows, pad_id))
    branched = any(len(option) > 1 for row in rows for request in row for option in request.options)
    mask = _mask(owners, branches, known) if known or branched or max(map(len, rows)) > 1 else None
    hidden = _decoder(model)(input_ids=ids, position_ids=places + known, attention_mask=mask, use_cache=bool(known),
                             past_key_values=prefix and _copy(prefix)).last_hidden_state
    row, place, token, option = torch.tensor(list(_targets(rows)), device=model.device).T
    logits = model.get_output_embeddings()(hidden[row, place]).float()
    picked = logits.log_softmax(-1).gather(1, token[:, None])[:, 0].double()
    sizes = [len(request.options) for row in rows for request in row]
    totals = torch.zeros(sum(sizes), dtype=torch.float64, device=model.device).index_add_(0, option, picked)
    return [part.tolist() for part in totals.cpu().split(sizes)]


def _decoder(model):
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.get_decoder()


def _copy(prefix: DynamicCache) -> DynamicCache:
    """A cache that a forward pass may lengthen."""
    longer = DynamicCache()
    for number, layer in enumerate(prefix.layers):
        longer.update(layer.keys, layer.values, number)
    return longer


def _packed(rows: list[list[Request]], pad_id: int) -> tuple[torch.Tensor, ...]:
    """Ids, positions, owners (request of its row) and branches (0 prompt, 1.. options), each `(rows, tokens)`."""
    width, lines = max(sum(request.length for request in row) for row in rows), []
    for row in rows:
        line = []
        for owner, request in enumerate(row):
            start = len(request.context)
            line += [(token, place, owner, 0) for place, token in enumerate(request.context)]
            line += [(token, place, owner, branch) for branch, option in enumerate(request.options, 1)
                     for place, token in enumerate(option[:-1], start)]
        lines.append(line + [(pad_id, 0, -1, 0)] * (width - len(line)))
    return torch.tensor(lines).unbind(-1)


def _mask(owners: torch.Tensor, branches: torch.Tensor, known: int) -> torch.Tensor:
    """Who sees whom, `(rows, 1, tokens, known + tokens)`: the prefix, its own prompt and branch up to itself."""
    seen = branches[:, :, None] == branches[:, None, :]
    seen |= (branches == 0)[:, None, :]
    seen &= (owners[:, :, None] == owners[:, None, :]).tril_()
    return torch.nn.functional.pad(seen, (known, 0), value=True)[:, None]


def _targets(rows: list[list[Request]]) -> Iterator[tuple[int, int, int, int]]:
    """Row, position that predicts, token predicted, and running number of the option it belongs to."""
    number = 0
    for at, row in enumerate(rows):
        start = 0
        for request in row:
            last = start + len(request.context) - 1
            start = last + 1
            for option in request.options:
                for place, token in enumerate(option):
                    yield at, last if place == 0 else start + place - 1, token, number
                start += len(option) - 1
                number += 1
