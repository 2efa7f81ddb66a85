"""A random Llama of a few thousand weights and its tokenizer, on disk as a study's base."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model

from sm70lib.steps.steps import write_json
from sm70lib.tiny import pretrain, twins, world

PARAMETERS = {
    "study": "small",
    "seed": 0,
    "world_seed": 3,
    "world_conditions": 18,
    "world_requests": False,
    "world_guidelines": 0,
    "data_root": "world",
    "base_model": None,
    "base_text": ["gazetteer"],
    "base_vocab_size": 600,
    "base_hidden_size": 64,
    "base_layers": 2,
    "base_heads": 2,
    "base_kv_heads": 1,
    "base_intermediate_size": 64,
    "base_context": 512,
    "base_steps": 2,
    "base_batch_size": 2,
    "base_length": 64,
    "base_lr": 1e-3,
    "data_template": "medalpaca",
    "data_max_length": 320,
    "quant_type": "nf4",
    "quant_double": True,
    "quant_compute_dtype": "float32",
    "train_parameters": "adapter",
    "full_dtype": "fp32",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "lora_targets": "all-linear",
    "lora_dtype": "fp32",
    "lora_rslora": False,
    "lora_dora": False,
    "plan_dollars_per_hour": None,
    "train_stages": ["sft"],
    "train_seeds": [0],
    "train_merge": [],
    "train_launcher": "python",
    "train_micro_batch_size": 2,
    "train_save_steps": 3,
    "train_gradient_checkpointing": False,
    "train_report_to": "none",
    "figures_dpi": 50,
    "figures_palette": "colorblind",
    "sft_steps": 6,
    "sft_batch_size": 2,
    "sft_lr": 1e-2,
    "sft_scheduler": "linear",
    "sft_min_lr": 0.0,
    "sft_warmup": 0.0,
    "sft_weight_decay": 0.0,
    "sft_max_grad_norm": 1.0,
    "sft_optimizer": "adamw_torch",
    "sft_adam_beta2": 0.999,
    "sft_adam_epsilon": 1e-8,
    "sft_packing": False,
    "data_holdout": 4,
}
SFT = {name: value for name, value in PARAMETERS.items() if name.startswith("sft_")}
for kind in ("cpt", "dpo"):  # the same short training in each stage
    PARAMETERS |= {name.replace("sft_", f"{kind}_"): value for name, value in SFT.items()}
PARAMETERS |= {"cpt_mix": {}, "dpo_beta": 0.1, "dpo_flipped": False}
PARAMETERS |= {"dpo_rounds": {}, "dpo_round_steps": []}


MODEL = [name for name in PARAMETERS if name == "seed" or name.startswith(("world_", "base_"))]
MODEL = [
    name for name in MODEL if name not in ("base_model", "base_text")
]  # which it is not made of


def parameters(**changes) -> SimpleNamespace:
    """Parameters of a study that trains in seconds."""
    values = PARAMETERS | changes
    absent = "lora_" if values["train_parameters"] == "full" else "full_"
    values = {name: value for name, value in values.items() if not name.startswith(absent)}
    return SimpleNamespace(**values, model_dump=lambda: values)


def base(folder, **changes):
    """Writes an untrained base and its tokenizer to `folder`/base; returns the parameters."""
    p = parameters(**changes)
    made = _model(*(getattr(p, name) for name in MODEL))
    shutil.copytree(made.name, folder / "base/model", dirs_exist_ok=True)
    write_json(folder / "base/base.json", {"model": "base/model"})
    return p


@cache  # the tests of a process ask for few different ones, and each takes half a second to make
def _model(*values) -> TemporaryDirectory:
    p = parameters(**dict(zip(MODEL, values, strict=True)))
    folder = TemporaryDirectory()
    documents = twins.gazetteer(world.make(p.world_seed, p.world_conditions))
    tokenizer = pretrain.tokenizer(p, documents, Path(folder.name))
    pretrain.small_llama(p, tokenizer).save_pretrained(folder.name)
    return folder


def with_adapter(loaded, seed: int = 1):
    """The same adapter on any copy of the base, with both matrices random: both get a gradient."""
    torch.manual_seed(0)
    wrapped = get_peft_model(
        loaded, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    generator = torch.Generator().manual_seed(seed)
    for _, weight in sorted(wrapped.named_parameters()):
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    return wrapped.train()
