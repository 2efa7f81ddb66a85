"""Every parameter: its type, unit, range and help."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from sm70lib.parameters import stages
from sm70lib.parameters.values import (
    Benchmark,
    Compared,
    Distinct,
    Number,
    Pattern,
    Protocol,
    Seed,
    Source,
)
from sm70lib.parameters.values import parameter as _p

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Part = Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")]  # 1/2 is the first of two parts
Policy = Literal["report", "drop", "fail"]
Palette = Literal["colorblind", "deep", "muted", "bright", "dark", "pastel"]


class Study(BaseModel):
    """The parameters of a study but for those of its stages. Values cannot be changed."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
    study: Name = _p("name of the study and of its folder in outputs/", affects="nothing")
    seed: Seed = _p("seed of sampling: rows held back, examples drawn")
    world_seed: Seed = _p("seed of the fictional medicine")
    world_conditions: int = _p("invented conditions", "conditions", ge=1)
    world_requests: bool = _p(
        "write clinical requests too, harmless ones and their unsafe twins", before=False
    )
    world_guidelines: int = _p(
        "further conditions, of which guidelines alone tell; 0 writes none",
        "conditions",
        before=0,
        ge=0,
    )
    base_model: str | None = _p(
        "hub name or folder of the base; null trains a small one here", min_length=1
    )
    base_text: Distinct[Source] = _p("sources whose text the small base is pretrained on")
    base_vocab_size: int = _p("entries of the small base's tokenizer", "tokens", ge=260)
    base_hidden_size: int = _p("width of the small base", "units", ge=8)
    base_layers: int = _p("layers of the small base", "layers", ge=1)
    base_heads: int = _p("attention heads of the small base", "heads", ge=1)
    base_kv_heads: int = _p("key-value heads of the small base", "heads", ge=1)
    base_intermediate_size: int = _p("width of its feed-forward layers", "units", ge=8)
    base_context: int = _p("longest context of the small base", "tokens", ge=64)
    base_steps: int = _p("pretraining length", "steps", ge=1)
    base_batch_size: int = _p("pretraining batch", "sequences per step", ge=1)
    base_length: int = _p("length of a pretraining sequence", "tokens", ge=8)
    base_lr: Number = _p("peak learning rate of pretraining", gt=0, le=1)
    data_root: str = _p("world, hub, or a folder of sources and benchmarks", affects="nothing")
    data_sources: Distinct[Source] = _p("instruction sources to tune on", min_length=1)
    data_limit: int | None = _p(
        "at most so many rows of each source, drawn by seed; null is all", "rows", ge=1
    )
    data_caps: dict[Source, Annotated[int, Field(ge=1)]] = _p(
        "at most so many rows of single sources", "rows"
    )
    data_parts: dict[Source, Part] = _p(
        "single sources of which only one of several parts is read, such as 1/2; a question's rows "
        "share a part"
    )
    data_leaks: dict[Source, Benchmark] = _p(
        "single sources of which only rows are read that hold an item of this benchmark"
    )
    data_repeats: dict[Source, Annotated[int, Field(ge=1)]] = _p(
        "how often a pass reads the rows of single sources", "times"
    )
    data_template: Literal["medalpaca", "sm70", "meditron", "chat"] = _p(
        "prompt template of the training rows"
    )
    data_max_length: int = _p("longest training row", "tokens", ge=16)
    data_overlong: Literal["cut", "drop"] = _p(
        "what happens to longer rows; cut shortens the input only"
    )
    data_holdout: int = _p("rows kept back for the held-out loss", "rows", ge=0)
    data_holdout_documents: dict[Source, Annotated[int, Field(ge=1)]] = _p(
        "whole documents (files) of single sources that are kept back besides", "documents"
    )
    audit_leak: Policy = _p("policy for rows that contain a benchmark item")
    audit_duplicate: Policy = _p("policy for repeated rows")
    audit_personal: Policy = _p("policy for rows with e-mail addresses or telephone numbers")
    audit_label: Literal[Policy, "repair"] = _p("policy for rows with a suspect label")
    quant_type: Literal["nf4", "none"] = _p("quantisation of the frozen base")
    quant_double: bool = _p("quantise the quantisation constants too")
    quant_compute_dtype: Literal["float32", "bfloat16"] = _p(
        "type that quantised layers compute in"
    )
    plan_dollars_per_hour: Number | None = _p(
        "price of one GPU; null plans no money", affects="looks", gt=0
    )
    plan_watts: Number = _p(
        "power of the machine under load, for an estimate of energy; 0 estimates none",
        "W",
        affects="looks",
        before=0.0,
        ge=0,
    )
    plan_grams_per_kwh: Number = _p(
        "CO2 of the electricity; 0 estimates none", "g/kWh", affects="looks", before=0.0, ge=0
    )
    train_parameters: Literal["adapter", "full"] = _p(
        "what training changes: an adapter on the frozen base, or all weights of the model",
        before="adapter",
    )
    full_dtype: Literal["fp32", "bf16"] = _p("type of the weights where all of them are trained")
    lora_r: int = _p("rank of the adapter", ge=1)
    lora_alpha: int = _p("scale of the adapter (times 1 / lora_r)", ge=1)
    lora_dropout: Number = _p("dropout in front of the adapter", "share", ge=0, lt=1)
    lora_targets: Pattern = _p("adapted layers: all-linear, or a regular expression")
    lora_dtype: Literal["fp32", "bf16"] = _p("type of the adapter's weights")
    lora_rslora: bool = _p("divide the scale by the root of lora_r (rsLoRA, arXiv 2312.03732)")
    lora_dora: bool = _p("train magnitudes apart from directions (DoRA, arXiv 2402.09353)")
    train_stages: list[stages.StageName] = _p("training rounds", min_length=1)
    train_seeds: Distinct[Seed] = _p("seeds of training; the first makes adapter/", min_length=1)
    train_merge: Distinct[Literal["original", "dequantised"]] = _p(
        "bases that the adapter is merged into"
    )
    train_launcher: str = _p(
        "command in front of the training module", affects="nothing", min_length=1
    )
    train_micro_batch_size: int = _p(
        "sequences per device and pass", "sequences", affects="nothing", ge=1
    )
    train_save_steps: int = _p("distance of checkpoints", "steps", affects="nothing", ge=1)
    train_report_to: Literal["none", "trackio", "wandb", "mlflow", "tensorboard"] = _p(
        "tracker that training reports to", affects="nothing"
    )
    train_gradient_checkpointing: bool = _p(
        "recompute activations to save memory", affects="nothing"
    )
    eval_benchmarks: Distinct[Benchmark] = _p("benchmarks to predict", min_length=1)
    eval_protocols: Distinct[Protocol] = _p("ways of asking and scoring", min_length=1)
    eval_shots: Distinct[Annotated[int, Field(ge=0)]] = _p(
        "examples shown before an item", min_length=1
    )
    eval_limit: int | None = _p("at most so many items of a protocol; null is all", "items", ge=1)
    eval_caps: dict[Benchmark, Annotated[int, Field(ge=1)]] = _p(
        "at most so many items of single benchmarks, drawn by the digests of their ids", "items"
    )
    eval_own: Distinct[Literal["base", "base-nf4", "stages", "merged", "tuned"]] = _p(
        "the study's own models that are scored", min_length=1
    )
    eval_batch_tokens: int = _p("tokens of a forward pass", "tokens", affects="nothing", ge=1)
    eval_models: dict[Name, str] = _p(
        "other models scored beside the study's own, by names of lower-case letters, digits, . _ -"
    )
    eval_judges: dict[Name, str] = _p(
        "who reads replies that a rubric is for: models on servers, and files of readings",
        before={},
    )
    eval_launcher: str = _p(
        "command in front of the scoring module", affects="nothing", min_length=1
    )
    eval_primary_protocol: Protocol = _p("protocol of the declared comparison")
    eval_primary_shots: int = _p("shots of the declared comparison", "examples", ge=0)
    eval_primary_benchmarks: Distinct[Compared] = _p("benchmarks of the declared comparison")
    ask_question: str | None = _p(
        "question of 07_ask; null takes the study's items", affects="looks", min_length=1
    )
    ask_max_new_tokens: int = _p("longest answer in 07_ask", "tokens", affects="looks", ge=1)
    errors_examples: int = _p(
        "examples shown of each kind of error", "items", affects="looks", ge=0
    )
    figures_dpi: int = _p(
        "resolution of the figures", "dots per inch", affects="looks", ge=50, le=600
    )
    figures_palette: Palette = _p("colours", affects="looks")
    figures_studies: Distinct[Name] = _p("further studies shown beside this one")
    stats_resamples: int = _p("flips drawn by the paired test of clusters", "flips", ge=100)
    stats_level: Number = _p("level of the intervals", "share", gt=0.5, lt=1)


def _with_stages() -> dict[str, FieldInfo]:
    """All parameters; those of the stages stand in front of those of the evaluation."""
    own = list(Study.model_fields.items())
    place = list(Study.model_fields).index("eval_benchmarks")
    return dict(own[:place]) | stages.expanded() | dict(own[place:])


FIELDS = _with_stages()


def _before() -> dict[str, Any]:
    about: dict[str, Any] = {name: field.json_schema_extra for name, field in FIELDS.items()}
    return {name: each["before"] for name, each in about.items() if each["before"] is not None}


BEFORE = _before()  # what was done before a parameter came, by its name; see `parameter`
