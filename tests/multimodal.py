"""A random Gemma-3 of a few thousand weights, whose language model stands beside a vision tower.

Gemma-3 from 4B up and MedGemma are such models: their configuration nests that of the text, and
text never reaches the tower.
"""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sm70lib.models import loading

TOWER = "vision_tower"
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"],
}
IMAGES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def put(folder) -> str:
    """Puts such a model in the place of a study's small base; returns its folder."""
    place = folder / "base/model"
    tokenizer = loading.load_tokenizer(place)
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(
        "gemma3",
        text_config=TEXT | ends | {"vocab_size": len(tokenizer)},
        vision_config=IMAGES,
        mm_tokens_per_image=4,
        dtype="float32",
        **ends,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(place)
    return str(place)
