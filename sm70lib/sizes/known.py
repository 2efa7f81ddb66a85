"""What is known of models on the hub before they are downloaded (`known_models.yml`)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sm70lib.study.params import value_of


class Dimensions(BaseModel):
    """The dimensions of a Llama, or of a family with the same words, in transformers' words."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    model_type: str = "llama"
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool


class KnownModel(BaseModel):
    """Shape, tokenizer and access of a model; `source` says where this was read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    config: Dimensions
    bytes_per_weight: int
    vocabulary: str
    bos: str
    eos: str
    adds_bos: bool
    adds_eos: bool
    chat_template: str | None
    end_tokens: list[str]
    gated: bool
    source: str


def _read() -> dict[str, KnownModel]:
    text = Path(__file__).with_name("known_models.yml").read_text(encoding="utf-8")
    return {name: KnownModel(**about) for name, about in value_of(text, "known_models.yml").items()}


MODELS = _read()
