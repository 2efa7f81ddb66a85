"""Many families of models: scores against transformers' own eager attention, and training in NF4.

Every model is tiny and random, and has weights large enough that a lost window, scale or cap moves
its scores by nats. What is compared with is a second load of the same files, with attention written
out (`eager`), one sequence a pass, and all logits.
"""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from sm70lib.inspection import architecture
from sm70lib.inspection.architecture import NOT_IN_FOUR_BITS
from sm70lib.models import backend, loading, packed, proof
from sm70lib.models.proof import PACKED, PLAIN
from sm70lib.models.request import Request
from sm70lib.study.params import StudyError
from sm70lib.training import trainers
from tests import small

VOCABULARY = 400
WINDOW = 32  # far shorter than the prompts below
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
ALTERNATING = ["sliding_attention", "full_attention"] * 2

PACK = {  # family: what its configuration says beyond SIZE
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": dict(head_dim=16, num_experts=4, **EXPERTS),
    "phi": {},
    "phi3": {"sliding_window": WINDOW},
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": WINDOW, "layer_types": ALTERNATING},
    "granite": {"logits_scaling": 8.0, "residual_multiplier": 0.5, "attention_multiplier": 0.25},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, "sliding_window": WINDOW},
    "olmo2": {},
    "apertus": {},
    "olmo3": {"sliding_window": WINDOW},
    "exaone4": {"sliding_window": WINDOW},
    "smollm3": {},
    "starcoder2": {"sliding_window": WINDOW},
    "glm4": {"head_dim": 16},
    "helium": {"head_dim": 16},
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 2048},
    "gpt_neox": {},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "gemma3": {  # MedGemma's: the language model stands inside, beside a tower for images
        "text_config": SIZE
        | {"head_dim": 16, "sliding_window": WINDOW, "layer_types": ALTERNATING},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
}
GO_PLAINLY = {  # capped logits, sinks, a state, chunks, or attention of their own
    "gemma2": {"head_dim": 16, "sliding_window": WINDOW},
    "gpt_oss": {
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
    },
    "jamba": {
        "num_experts": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "llama4_text": {
        "head_dim": 16,
        "num_local_experts": 2,
        "attention_chunk_size": WINDOW,
        "intermediate_size_mlp": 128,
    },
    "falcon": {},
    "stablelm": {},
    "nemotron": {},
    "bloom": {"n_head": 4, "n_layer": 4},
    "gptj": {"n_embd": 64, "n_layer": 4, "n_head": 4, "rotary_dim": 8},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 4},
    "mamba": {},
}
FAMILIES = PACK | GO_PLAINLY


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a family's model, which is made when a test first asks for it."""

    @cache
    def folder(family: str) -> str:
        return saved(family, tmp_path_factory.mktemp(family))

    return folder


def saved(family: str, folder) -> str:
    """A random model of the family, saved in a folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **SIZE | FAMILIES[family])
    )
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, 0, 0.25)
    model.save_pretrained(folder)
    return str(folder)


def requests() -> tuple[list[Request], list[int]]:
    """Three requests that are longer than the window, and a prefix for them."""
    draw = np.random.default_rng(1)

    def ids(count: int) -> list[int]:
        return draw.integers(3, VOCABULARY, count).tolist()

    asked = [Request(ids(length), [ids(1), ids(3), ids(4)]) for length in (120, 70, 90)]
    return asked, ids(100)


@torch.no_grad()
def eager(folder: str, asked: list[Request], prefix: list[int]) -> np.ndarray:
    """Every option's log-likelihood (nats) by eager attention."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    values = []
    for request in asked:
        start = len(prefix) + len(request.context) - 1
        for option in request.options:
            row = torch.tensor([[*prefix, *request.context, *option]])
            logs = model(input_ids=row, use_cache=False).logits[0].log_softmax(-1)
            values.append(sum(logs[start + n, token].item() for n, token in enumerate(option)))
    return np.array(values)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_eager_attention(family, folder_of):
    folder = folder_of(family)
    asked, prefix = requests()
    local = backend.Local(loading.load(folder), tokenizer=None)
    assert local.way == (PACKED if family in PACK else PLAIN), local.proof
    checked = 0
    for common in ([], prefix):
        scores = local.loglikelihoods(asked, common)
        values = np.array([value for row in scores for value in row])
        assert np.abs(values - eager(folder, asked, common)).max() < 1e-3
        checked += len(values)
    assert checked == 18


@pytest.mark.parametrize("family", FAMILIES)
def test_training_on_packed_rows_is_proved_or_refused(family, folder_of):
    found = proof.prove_training(loading.load(folder_of(family)), longest=1024)
    assert found.way == (PACKED if family in PACK else PLAIN), found
    assert bool(found.reason) == (found.way == PLAIN)


def test_a_base_that_cannot_read_packed_rows_is_refused_in_a_sentence(folder_of):
    loaded = loading.load(folder_of("gemma2"))
    p = SimpleNamespace(data_max_length=256, train_stages=["sft"], sft_packing=True)
    sentence = "sft_packing: gemma-2 cannot be trained on packed rows, as its code does not pack"
    with pytest.raises(StudyError, match=f"{sentence}.*; set sft_packing to false"):
        trainers._prove_packing(loaded, "gemma-2", p, "sft")


def in_nf4(folder: str):
    """A model in NF4 with an adapter on all its linear layers, ready to be trained."""
    loaded = loading.load(folder, small.parameters())
    torch.manual_seed(1)
    tuned = get_peft_model(loaded, LoraConfig(r=2, target_modules="all-linear"))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, 0, 0.05)
    return tuned  # in evaluation mode, as some families drop units in training


def rows() -> list[torch.Tensor]:
    """Two rows that are longer than the window."""
    draw = np.random.default_rng(2)
    return [torch.tensor(draw.integers(3, VOCABULARY, length)) for length in (70, 45)]


def loss_and_gradients(model, logits: list[torch.Tensor]) -> tuple[float, torch.Tensor]:
    """The mean loss (nats) of the rows, and the gradient of the adapter's weights."""
    targets = torch.cat([row[1:] for row in rows()])
    predicted = torch.cat([values[:-1] for values in logits])
    loss = torch.nn.functional.cross_entropy(predicted.float(), targets)
    loss.backward()
    trained = [weight for _, weight in model.named_parameters() if weight.grad is not None]
    gradients = torch.cat([weight.grad.flatten() for weight in trained])
    model.zero_grad(set_to_none=True)
    return loss.item(), gradients


def together(model) -> list[torch.Tensor]:
    """The logits of the rows, packed into one sequence."""
    lengths = [len(row) for row in rows()]
    logits = model(
        input_ids=torch.cat(rows())[None],
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        cu_seq_lens_q=torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
        use_cache=False,
    ).logits[0]
    return list(logits.split(lengths))


@pytest.mark.parametrize("family", NOT_IN_FOUR_BITS)
def test_a_family_that_four_bits_do_not_fit_is_refused_in_a_sentence(family):
    config = AutoConfig.for_model(family, **SIZE | FAMILIES[family])
    architecture.check("it", config, "base_model", quantised=False)
    with pytest.raises(StudyError, match=f"base_model: it is of the family {family}.*quant_type"):
        architecture.check("it", config, "base_model", quantised=True)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in NOT_IN_FOUR_BITS])
def test_a_training_step_in_nf4_is_the_same_packed_or_not(family, folder_of):
    """A family that cannot be packed is trained without; the test above shows the refusal."""
    model = in_nf4(folder_of(family))
    alone = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows()]
    loss, gradients = loss_and_gradients(model, alone)
    assert np.isfinite(loss) and gradients.norm() > 0
    if family in GO_PLAINLY:
        return
    packed.enter(model)
    other_loss, other_gradients = loss_and_gradients(model, together(model))
    assert abs(loss - other_loss) < 1e-4
    assert (gradients - other_gradients).norm() < 1e-3 * gradients.norm()
    lengths = [len(row) for row in rows()]
    joined = model(input_ids=torch.cat(rows())[None], use_cache=False).logits[0]
    _, wrong = loss_and_gradients(model, list(joined.split(lengths)))
    assert (gradients - wrong).norm() > 0.1 * gradients.norm(), "rows that see each other differ"
