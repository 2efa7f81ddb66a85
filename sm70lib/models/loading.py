"""Loads a causal language model (full precision or NF4, with or without adapter), and scores answers with it.

Prompts and all their options go through the model as one packed row without padding: each prompt, then one branch
per option that sees the prompt and itself only. What several prompts begin with (five fixed shots) is computed
once, and seen by all. Same numbers as scoring every option alone (to 1e-5), for a fraction of the tokens; logits
are computed only where they predict an option's token.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bitsandbytes as bnb
import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from peft.tuners.lora.bnb import Linear4bit
from safetensors.torch import load_file
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as transformers_logging

from sm70lib.corpus.prompts import prompt_ids
from sm70lib.study.params import StudyError

transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    here = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return torch.device(here if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str | Path):
    """The fast tokenizer of a model, with a pad token (its EOS where it has none)."""
    tokenizer = AutoTokenizer.from_pretrained(_found(name))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
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


class Span(NamedTuple):
    """Tokens `first` to `last` of a packed row: they see it from `begin` on, causally or as `mask` (0, -inf) says."""

    begin: int
    first: int
    last: int
    mask: torch.Tensor | None = None


def packed(module, query, key, value, attention_mask, cu_seq_lens_q=None, spans=(), prefix=(), **how):
    """Attention of one row that holds many sequences, part by part, so that none costs for what it may not see.

    With one mask for all, every token would pay for the whole row. `cu_seq_lens_q` (TRL's): where sequences begin,
    and the end; or `spans` that cover the row. `prefix`: keys and values of a layer, which all spans see. Raises
    ValueError where positions begin anew and nothing says where sequences do.
    """
    if cu_seq_lens_q is not None:
        parts = zip(*(states.split(cu_seq_lens_q.diff().tolist(), dim=2) for states in (query, key, value)))
        return torch.cat([sdpa_attention_forward(module, *part, None, **how)[0] for part in parts], dim=1), None
    if not spans:
        if attention_mask is None and how.get("position_ids", query.new_zeros(1)).diff().lt(1).any():
            raise ValueError("packed sequences came without cu_seq_lens_q and would see each other")
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    found = []
    for span in spans:
        seen = [states[:, :, span.begin:span.last] for states in (key, value)]
        if prefix:
            seen = [torch.cat(pair, dim=2) for pair in zip(prefix[module.layer_idx], seen)]
        found.append(sdpa_attention_forward(module, query[:, :, span.first:span.last], *seen, span.mask, **how)[0])
    return torch.cat(found, dim=1), None


def packed_mask(*sizes, attention_mask=None, **how):
    """Padding alone needs a mask: a packed row of thousands of tokens would make, for nothing, their square."""
    return None if attention_mask is None else sdpa_mask(*sizes, attention_mask=attention_mask, **how)


AttentionInterface.register("packed", packed)
AttentionMaskInterface.register("packed", packed_mask)


class AddedInPlace(Linear4bit):
    """A quantised layer to whose output the adapter's product is added in place, where PEFT copies, scales and adds.

    What that is worth in training: tests/benchmarks/training.py.
    """

    def forward(self, x, *args, **kwargs):
        """Output of layer and adapter, `(..., features)`; PEFT's own for DoRA, several adapters at once or none."""
        if self.disable_adapters or self.merged or self.lora_variant or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        name, tokens = self.active_adapters[0], x.reshape(-1, x.shape[-1])
        output = self.base_layer(tokens)
        low = self.lora_A[name](self.lora_dropout[name](tokens.to(self.lora_A[name].weight.dtype)))
        output.addmm_(low.to(output.dtype), self.lora_B[name].weight.T.to(output.dtype), alpha=self.scaling[name])
        return output.view(*x.shape[:-1], -1)


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
    return written(loaded, tokenizer, prompt_ids([prompt], tokenizer), max_new_tokens)[0][0]


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

SPAN = 256  # tokens of short requests that share a span: masked pairs of tokens cost less than more calls
READ = 256  # places whose logits over the whole vocabulary exist at one time


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
def remember(model, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values `(1, heads, tokens, width)` of every layer for a prefix that prompts share; [] for none."""
    if not ids:
        return []
    cache = _decoder(model)(input_ids=torch.tensor([ids]).to(model.device), use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


@torch.inference_mode()
def loglikelihoods(model, asked: Sequence[Request], prefix: Sequence = ()) -> list[list[float]]:
    """Summed log-likelihood (nats) of every option of every request, in one forward pass.

    The requests stand side by side in one row, without padding, and none sees another. Given a `prefix`
    (from `remember`), their contexts are what follows it.
    """
    known = prefix[0][0].shape[2] if prefix else 0
    about = np.array(list(_tokens(asked)))
    ids, places = torch.tensor(about[:, :2], device=model.device).T[:, None]
    hidden = _decoder(model)(  # a mask of four dimensions is taken as it is; `packed` brings its own
        input_ids=ids, position_ids=places + known, attention_mask=ids[None, None], use_cache=False, prefix=prefix,
        spans=_spans(asked, about, known, model.get_input_embeddings().weight)).last_hidden_state[0]
    read, token, option = torch.tensor(list(_targets(asked)), device=model.device).T
    places, at = torch.unique(read, return_inverse=True)  # options share the end of their prompt
    picked = torch.empty(len(at), dtype=torch.float64, device=model.device)
    for number, some in enumerate(places.split(READ)):
        here, logits = at // READ == number, model.get_output_embeddings()(hidden[some]).float()
        picked[here] = logits.log_softmax(-1)[at[here] % READ, token[here]].double()
    sizes = [len(request.options) for request in asked]
    totals = torch.zeros(sum(sizes), dtype=torch.float64, device=model.device).index_add_(0, option, picked)
    return [part.tolist() for part in totals.cpu().split(sizes)]


def _decoder(model):
    decoder = (model.get_base_model() if hasattr(model, "get_base_model") else model).get_decoder()
    if decoder.config._attn_implementation != "packed":  # which is sdpa wherever there is one sequence to a row
        decoder.set_attn_implementation("packed")
    return decoder


def _tokens(asked: Sequence[Request]) -> Iterator[tuple[int, int, int, int]]:
    """Of every token that goes through the model: its id, position, request and branch (0 prompt, 1.. options)."""
    for number, request in enumerate(asked):
        size = len(request.context)
        for branch, tokens in enumerate([request.context, *(option[:-1] for option in request.options)]):
            for place, token in enumerate(tokens, size if branch else 0):
                yield token, place, number, branch


def _spans(asked: Sequence[Request], about: np.ndarray, known: int, like: torch.Tensor) -> list[Span]:
    """Short requests share a span; the prompt of a long one, where it follows nothing, needs no mask."""
    found, start, end = [], 0, 0
    for request, following in zip(asked, [*asked[1:], None]):
        end += request.length
        if following and end + following.length - start <= SPAN:
            continue
        middle = start
        if request.length == end - start and not known:
            middle += len(request.context)
            found.append(Span(start, start, middle))
        if middle < end:
            found.append(Span(start, middle, end, _mask(about[start:end], middle - start, known, like)))
        start = end
    return found


def _mask(about: np.ndarray, first: int, known: int, like: torch.Tensor) -> torch.Tensor:
    """What tokens from `first` on see, `(1, 1, tokens, known + all)`: prefix, their prompt, their own branch."""
    owner, branch, order = about[:, 2], about[:, 3], np.arange(len(about))
    seen = (owner[first:, None] == owner) & (order[first:, None] >= order)
    seen &= (branch == 0) | (branch[first:, None] == branch)
    seen = np.pad(seen, ((0, 0), (known, 0)), constant_values=True)
    return torch.from_numpy(np.where(seen, np.float32(0), np.float32(-np.inf))).to(like)[None, None]


def _targets(asked: Sequence[Request]) -> Iterator[tuple[int, int, int]]:
    """Place that predicts, token predicted, and running number of the option it belongs to."""
    end = number = 0
    for request in asked:
        end += len(request.context)
        last = end - 1
        for number, option in enumerate(request.options, number):
            yield from zip([last, *range(end, end + len(option) - 1)], option, itertools.repeat(number))
            end += len(option) - 1
        number += 1
