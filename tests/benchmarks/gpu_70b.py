"""QLoRA on Llama-2-70B's exact shape, on one GPU: peak memory, tokens a second, share of the card's
matrix rate.

    python tests/benchmarks/gpu_70b.py                    # the 70B; its weights are drawn at random
    python tests/benchmarks/gpu_70b.py --shape 8b         # Llama-3-8B; 7b is Llama-2-7B
    python tests/benchmarks/gpu_70b.py --shape tiny       # the same on any machine, in seconds

The weights are drawn and quantised to NF4 layer by layer on the card, so that 140 GB are never
anywhere. Rows have Medical Meadow's lengths. Settings: `ours` (bf16 adapter of rank 64 on every
linear layer, 8-bit paged Adam, attention row by row, TRL's fused head where TRL is installed) with
and without packing and gradient checkpointing, and with several sequences a pass; `ours_32_bits`,
the same with fp32 adapter and 32-bit Adam; `tutorial`, transformers, PEFT and bitsandbytes as most
write them (prepare_model_for_kbit_training, 32-bit paged AdamW, every row padded to the limit).
Runs on whatever PyTorch the machine has; needs transformers, peft and bitsandbytes, and no other
file of this project.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault(
    "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"
)  # else fragments count as memory used

import bitsandbytes as bnb
import numpy as np
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    LlamaConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SHAPES = {  # Llama 2 (arXiv 2307.09288) and Llama 3 (arXiv 2407.21783), as in their config.json
    "70b": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 500,
        "max_position_embeddings": 4096,
    },
}
# Medical Meadow's nine sets: rows, mean characters in and out (Data Provenance Collection); CORD-19
# is most of them
MEADOW = [
    (821_007, 1612),
    (33_955, 472),
    (10_178, 991),
    (10_000, 1009),
    (8_676, 241),
    (5_942, 537),
    (2_446, 334),
    (2_208, 7091),
]
PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl")
SETTING = ("recipe", "length", "checkpointing", "layout", "sequences")
GOALS = {"peak_gib_2048": 46, "tokens_per_second": 1000, "ratio": 1.5}


def quantised(config: LlamaConfig, device: str) -> torch.nn.Module:
    """A Llama with random weights, its linear layers (but the head) quantised to NF4 one by one on
    the device.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=torch.bfloat16
        )
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to(device)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            model.set_submodule(name, four_bits(layer, device))
    for name, weight in list(model.named_parameters()):
        if weight.is_meta:
            full = torch.randn(weight.shape, device=device, dtype=torch.bfloat16) * 0.02
            filled = full if weight.dim() > 1 else torch.ones_like(full)
            owner, _, last = name.rpartition(".")
            setattr(
                model.get_submodule(owner), last, torch.nn.Parameter(filled, requires_grad=False)
            )
    model.is_loaded_in_4bit = model.is_quantized = True
    model.config.use_cache = False
    return model


def four_bits(layer: torch.nn.Linear, device: str) -> bnb.nn.Linear4bit:
    """A linear layer of the same shape with random NF4 weights and double quantisation."""
    made = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=False,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = (
        torch.randn(layer.out_features, layer.in_features, device=device, dtype=torch.bfloat16)
        * 0.02
    )
    made.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made
    ).to(device)
    made.support_avx512bf16_for_cpu = False  # on a CPU: the kernel for evaluation has no gradient
    return made


def rows(count: int, limit: int, vocabulary: int, seed: int = 0) -> list[torch.Tensor]:
    """Token rows of Meadow's lengths: four characters a token, 50 tokens of template, lognormal
    with sigma 0.5.
    """
    draw, shares = np.random.default_rng(seed), np.array([n for n, _ in MEADOW], float)
    kinds = draw.choice(len(MEADOW), size=count, p=shares / shares.sum())
    lengths = [
        min(limit, 50 + int(MEADOW[kind][1] / 4 * draw.lognormal(-0.125, 0.5))) for kind in kinds
    ]
    return [torch.from_numpy(draw.integers(3, vocabulary, n)) for n in lengths]


def batches(
    made: list[torch.Tensor], limit: int, layout: str, sequences: int
) -> list[dict[str, torch.Tensor]]:
    """Rows packed into as many `sequences` of the limit, rows as they are (`single`), or `padded`
    to the limit.
    """
    groups, room = [], 0
    for row in made:
        if layout != "packed" or len(row) > room:
            groups, room = [*groups, []], limit * sequences
        groups[-1].append(row)
        room -= len(row)
    found = []
    for group in groups:
        ids, positions = torch.cat(group), torch.cat([torch.arange(len(row)) for row in group])
        labels = torch.cat([torch.cat([torch.tensor([-100]), row[1:]]) for row in group])
        bounds = torch.tensor([0, *np.cumsum([len(row) for row in group])])
        batch = {"input_ids": ids, "labels": labels, "position_ids": positions}
        if layout == "padded":
            pad = limit - len(ids)
            batch = {
                "input_ids": torch.nn.functional.pad(ids, (0, pad)),
                "labels": torch.nn.functional.pad(labels, (0, pad), value=-100),
                "attention_mask": torch.nn.functional.pad(torch.ones_like(ids), (0, pad)),
            }
        batch = {name: value[None] for name, value in batch.items()}
        found.append(batch if layout == "padded" else batch | {"cu_seq_lens_q": bounds})
    return found


def by_sequence(module, query, key, value, attention_mask, cu_seq_lens_q=None, **how):
    """Attention of packed rows one after another, as sm70lib.models.loading has it."""
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    rows = zip(
        *(states.split(cu_seq_lens_q.diff().tolist(), dim=2) for states in (query, key, value))
    )
    return torch.cat(
        [sdpa_attention_forward(module, *row, None, **how)[0] for row in rows], dim=1
    ), None


AttentionInterface.register("by_sequence", by_sequence)
AttentionMaskInterface.register("by_sequence", sdpa_mask)


def ours(
    base,
    rank: int,
    checkpointing: bool,
    dtype=torch.bfloat16,
    adam=bnb.optim.PagedAdamW8bit,
):
    """The adapter in bf16, 8-bit paged Adam, attention row by row, TRL's fused head where there is
    one.
    """
    base.set_attn_implementation("by_sequence")
    torch.backends.cuda.enable_cudnn_sdp(False)  # it builds a plan for every new length
    model = get_peft_model(
        base,
        LoraConfig(r=rank, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
        autocast_adapter_dtype=False,
    )
    for weight in model.parameters():
        weight.data = weight.data.to(dtype) if weight.requires_grad else weight.data
    switch(model, checkpointing, {"use_reentrant": False})
    return (
        model,
        adam([w for w in model.parameters() if w.requires_grad], lr=1e-4),
        fused_head(base),
    )


def ours_32_bits(base, rank: int, checkpointing: bool):
    """The same with adapter and Adam in 32 bits, which resumes bit for bit."""
    return ours(base, rank, checkpointing, dtype=torch.float32, adam=bnb.optim.PagedAdamW32bit)


def fused_head(base) -> dict[str, bool]:
    """Gives the model TRL's head, which never holds all logits; without TRL it does nothing.

    Returns what a call must add then.
    """
    try:
        from trl.trainer.utils import add_fused_lm_head
    except ImportError:
        return {}
    if "forward" not in vars(base):
        add_fused_lm_head(base)
    return {"fused_lm_head": True}


def tutorial(base, rank: int, checkpointing: bool):
    """As most tutorials write it; what is not NF4 becomes 32 bits wide."""
    base.set_attn_implementation("sdpa")
    torch.backends.cuda.enable_cudnn_sdp(True)  # PyTorch's default, and every row has one length
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=checkpointing)
    model = get_peft_model(
        base,
        LoraConfig(
            r=rank,
            lora_alpha=16,
            lora_dropout=0.05,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    return (
        model,
        bnb.optim.PagedAdamW32bit([w for w in model.parameters() if w.requires_grad], lr=1e-4),
        {},
    )


def switch(model, checkpointing: bool, how: dict) -> None:
    """Turns gradient checkpointing on or off."""
    model.gradient_checkpointing_disable()
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


class Peak:
    """The process's largest memory in GiB while the block runs: nvidia-smi's figure, or the
    resident set on a CPU.

    Paged optimiser states escape torch's own meter, so it is not asked.
    """

    def __enter__(self):
        self.most, self.on = 0.0, True
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self) -> None:
        while self.on:
            self.most = max(self.most, memory_gib())
            time.sleep(0.2)

    def __exit__(self, *error) -> None:
        self.on = False
        self.thread.join()
        self.most = max(self.most, memory_gib())


def memory_gib() -> float:
    """What this process holds now.

    The card's total where a container hides which process that is.
    """
    if not torch.cuda.is_available():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    query = ["nvidia-smi", "--format=csv,noheader,nounits", f"--id={torch.cuda.current_device()}"]
    said = subprocess.run(
        [*query, "--query-compute-apps=pid,used_memory"], capture_output=True, text=True
    ).stdout
    own = [
        int(line.split(",")[1])
        for line in said.splitlines()
        if line.split(",")[0] == str(os.getpid())
    ]
    if own:
        return own[0] / 1024
    return (
        int(
            subprocess.run(
                [*query, "--query-gpu=memory.used"], capture_output=True, text=True
            ).stdout.split()[0]
        )
        / 1024
    )


def matrix_rate(device: str, size: int) -> float:
    """The device's measured rate of bf16 matrix products (FLOP a second), the best of five."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(6):
        began = now()
        one @ other
        times.append(now() - began)
    return 2 * size**3 / min(times[1:])


def now() -> float:
    """Seconds, once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def settings(lengths: list[int]) -> list[tuple]:
    """Recipe, length, checkpointing, layout and sequences a pass.

    The tutorial's come last, as it widens the base.
    """
    ways = [
        (True, "packed", 1),
        (True, "single", 1),
        (False, "packed", 1),
        (False, "single", 1),
        (True, "packed", 2),
        (True, "packed", 4),
    ]
    found = [(ours, length, *way) for length in lengths for way in ways]
    middle = sorted(lengths)[len(lengths) // 2]
    found.append((ours_32_bits, middle, True, "packed", 1))
    return found + [(tutorial, length, True, "padded", 1) for length in lengths]


def measure(
    base, recipe, length: int, checkpointing: bool, layout: str, sequences: int, device: str, given
) -> dict:
    """Trains for a while in one setting: peak GiB, useful tokens a second, executed FLOP a second,
    first and last loss.
    """
    found = dict(
        zip(SETTING, (recipe.__name__, length, checkpointing, layout, sequences), strict=True)
    )
    found["commit"] = given.commit or commit()
    if device == "cuda":
        torch.cuda.empty_cache()  # what an earlier setting left is none of this one's
    torch.manual_seed(0)
    work = batches(rows(given.rows, length, base.config.vocab_size), length, layout, sequences)
    model, optimiser, how = recipe(base, given.rank, checkpointing)
    model.train()
    try:
        with Peak() as peak:
            losses = [step(model, optimiser, work[0], device, how)]  # allocates, and is not timed
            began = now()
            losses += [step(model, optimiser, batch, device, how) for batch in work]
            seconds = now() - began
    except torch.OutOfMemoryError as error:
        return found | {"failed": str(error).splitlines()[0]}
    finally:
        optimiser.zero_grad()
        model.unload()
    useful = sum(
        (batch.get("attention_mask", torch.ones_like(batch["input_ids"]))).sum().item()
        for batch in work
    )
    done = sum(batch["input_ids"].numel() for batch in work)
    # a frozen weight costs 2 FLOP a token forward, 2 for the activation's gradient, and 2 to
    # compute it again
    flop = (6 if checkpointing else 4) * given.weights * done
    return found | {
        "peak_gib": round(peak.most, 2),
        "useful_tokens_per_second": round(useful / seconds, 1),
        "share_of_matrix_rate": round(flop / seconds / given.rate, 4),
        "tokens": useful,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def step(model, optimiser, batch, device: str, how: dict) -> float:
    """One forward, backward and optimiser step; the loss."""
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        loss = model(
            **{name: value.to(device) for name, value in batch.items()}, use_cache=False, **how
        ).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return loss.item()


def run(given) -> None:
    """Measures every setting in turn; the file is written after each, so that a kill loses one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    began, config = time.monotonic(), LlamaConfig(**SHAPES[given.shape])
    base = quantised(config, device)
    given.weights = sum(
        layer.in_features * layer.out_features
        for layer in base.modules()
        if isinstance(layer, torch.nn.Linear)
    )
    now()
    built = {"base_gib": round(memory_gib(), 2), "base_seconds": round(time.monotonic() - began, 1)}
    given.rate = matrix_rate(device, 8192 if device == "cuda" else 512)
    results = finished(given)
    done = [[row[name] for name in SETTING] for row in results]
    for setting in settings(given.lengths):
        if [setting[0].__name__, *setting[1:]] in done:
            continue
        results.append(measure(base, *setting, device, given))
        print(json.dumps(results[-1]), flush=True)
        whole = compared(results) | built | about(given, results)
        whole["seconds"] = round(time.monotonic() - began, 1)
        given.out.write_text(json.dumps([whole], indent=1) + "\n")  # a list, as every benchmark's
    print(f"ours over the tutorial, by length: {compared(results)['ratios']}")


def finished(given) -> list[dict]:
    """What a run that was stopped has left, if the card and the packages are the same."""
    if not given.out.exists():
        return []
    [before] = json.loads(given.out.read_text())
    now_here = about(given, before["results"])
    same = all(before[name] == now_here[name] for name in ("hardware", "versions"))
    return before["results"] if same else []


def about(given, results: list[dict]) -> dict:
    """What was measured, on what, with which versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "name": f"gpu_{given.shape}",
        "shape": given.shape,
        "weights": given.weights,
        "matrix_flop_per_second": given.rate,
        "goals": GOALS,
        "results": results,
        "hardware": {"gpu": gpu, "machine": platform.platform()},
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def compared(results: list[dict]) -> dict:
    """Our best setting against the tutorial's at 2,048 tokens (else the longest measured), and by
    length.
    """
    best: dict = {}
    for row in results:
        if "failed" not in row:
            speeds = best.setdefault(row["length"], {})
            speeds[row["recipe"]] = max(
                speeds.get(row["recipe"], 0), row["useful_tokens_per_second"]
            )
    both = {
        length: (speeds["ours"], speeds["tutorial"])
        for length, speeds in best.items()
        if {"ours", "tutorial"} <= speeds.keys()
    }
    ratios = {length: round(one / other, 2) for length, (one, other) in both.items()}
    length = 2048 if 2048 in both else max(both, default=None)
    one, other = both.get(length, (None, None))
    return {
        "work": f"QLoRA on Meadow-shaped rows, {length} tokens, "
        "against the recipe of most tutorials",
        "ours": one,
        "theirs": other,
        "unit": "useful tokens per second",
        "ratio": ratios.get(length),
        "ratios": ratios,
        "spread": [min(ratios.values()), max(ratios.values())] if ratios else None,
        "goal": GOALS["ratio"],
        "n": 1,
    }


def commit() -> str | None:
    """The commit that this file is of; None outside a repository."""
    said = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    return said.stdout.strip() or None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="70b")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 4096])
    parser.add_argument("--rows", type=int, default=16, help="rows a setting trains on")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--commit", help="this file's commit, where it lies outside its repository")
    parser.add_argument(
        "--out", type=Path, help="file for the result: outputs/reference/benchmarks/gpu_SHAPE.json"
    )
    given = parser.parse_args()
    if given.shape != "tiny" and not torch.cuda.is_available():
        name = given.shape.upper()
        print(f"a {name} needs a GPU, and there is none here (--shape tiny runs anywhere)")
        sys.exit(0)
    reference = Path(__file__).resolve().parents[2] / "outputs/reference/benchmarks"
    given.out = given.out or reference / f"gpu_{given.shape}.json"
    given.out.parent.mkdir(parents=True, exist_ok=True)
    run(given)
