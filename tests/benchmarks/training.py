"""Speed of tuning on a CPU: useful (not padding) tokens a second, ours against what one would write
instead.

Ways to train the same NF4 model on the same rows at the same limit, interleaved: ours (rows packed,
attention row by row, nothing recomputed, targets alone through the head), TRL's SFTConfig as it
comes (eight rows padded to the longest of them, gradient checkpointing), and rows padded to the
limit, as most tutorials write it. All share learning rate, adapter, loss and precision, see every
row once and must end at the same held-out loss. Precision is TRL's default, bf16, on a processor
that multiplies in it; on one that has to emulate it all have 32 bits. Row lengths are drawn as
those of Medical Meadow: each set's share of rows, its mean characters (Data Provenance Collection,
"Medical Meadow"), four characters a token and 50 tokens of template; once whole, as SM70 implies
(nine rows in ten are abstracts of like length, which leaves little to pack), and once with CORD-19
capped at 50,000 rows, as MedAlpaca trained. How widely lengths vary is the spread of log length in
real text of the same kind: PubMedQA's abstracts 0.28 and long answers 0.44, MedQA's questions 0.41,
MMLU's 0.58, MedQuAD's answers 1.03. Writes outputs/reference/benchmarks/training.json.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from datasets import Dataset

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from peft import LoraConfig  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402
from trl.kernels import chunked_logprob  # noqa: E402
from trl.trainer import utils  # noqa: E402

from sm70lib.models import loading  # noqa: E402
from sm70lib.study import files, provenance  # noqa: E402
from sm70lib.training import trainers  # noqa: E402
from tests import small  # noqa: E402

LIMIT = 1024  # tokens
BF16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
# rows, mean characters of input with instruction, of output, and the spread of their logarithms
MIXES = {"Meadow whole": 821_007, "CORD-19 capped": 50_000}  # rows of CORD-19
MEADOW = {
    "cord19": (0, 1507.6, 104.0, 0.28),
    "flashcards": (33_955, 123.4, 349.1, 0.44),
    "medqa": (10_178, 960.3, 30.3, 0.41),
    "wikidoc": (10_000, 95.8, 912.8, 1.03),
    "health_advice": (8_676, 222.4, 18.2, 0.44),
    "patient_information": (5_942, 80.7, 456.1, 1.03),
    "mmmlu": (3_787, 322.0, 30.3, 0.58),
    "pubmed_causal": (2_446, 294.4, 39.7, 0.44),
    "mediqa": (2_208, 6510.0, 581.0, 1.03),
}
GOALS = {
    "training": ("TRL's defaults", 2.5),
    "training-padded": ("rows padded to the limit", 3.0),
}
TOLERANCE = 0.02  # of the held-out loss


def rows(count: int, vocabulary: int, seed: int, mix: str) -> Dataset:
    """Rows of Meadow's lengths, some tokens far more frequent than others, so that there is
    something to learn.
    """
    draw, made = np.random.default_rng(seed), []
    shares = np.array([n or MIXES[mix] for n, *_ in MEADOW.values()], float)
    for _ in range(count):
        _, before, after, spread = list(MEADOW.values())[
            draw.choice(len(MEADOW), p=shares / shares.sum())
        ]
        asked, answered = (
            max(4, int(chars / 4 * draw.lognormal(-(spread**2) / 2, spread)))
            for chars in (before, after)
        )
        answered = min(answered, LIMIT // 2)
        asked = min(50 + asked, LIMIT - answered)
        ids = (3 + draw.zipf(1.5, asked + answered) % (vocabulary - 3)).tolist()
        made.append({"input_ids": ids, "labels": [-100] * asked + ids[asked:]})
    return Dataset.from_list(made)


def ours(p, base: str, data, held_out, folder: Path):
    """The study's own trainer; a step takes as many packed sequences as hold about eight rows."""
    trainer = trainers.build(
        p, base, data, held_out.select([]), folder, SimpleNamespace(kind="sft", seed=0, start=None)
    )
    trainer.eval_dataset = held_out  # evaluated at the end only, as theirs
    return trainer


def theirs(p, base: str, data, held_out, folder: Path, **changes):
    """SFTTrainer with its own defaults, but for learning rate, limit, length of training, and
    precision without bf16.
    """
    utils._use_triton = (
        chunked_logprob._use_triton
    )  # ours puts targets alone through the head; TRL on a CPU everything
    lora = LoraConfig(
        r=p.lora_r, lora_alpha=p.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    config = SFTConfig(
        output_dir=str(folder),
        max_length=LIMIT,
        learning_rate=p.sft_lr,
        num_train_epochs=1,
        bf16=BF16,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=0,
        **changes,
    )
    trainer = SFTTrainer(
        model=loading.load(base, p),
        args=config,
        peft_config=lora,
        train_dataset=data,
        eval_dataset=held_out,
        processing_class=loading.load_tokenizer(base),
    )
    for weight in trainer.model.parameters():  # TRL made the adapter bf16
        weight.data = weight.data.float() if weight.requires_grad and not BF16 else weight.data
    return trainer


def measure(make, *given) -> tuple[float, float]:
    """Useful tokens a second of one training, and the held-out loss at its end."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(*given, Path(folder))
        seconds = trainer.train().metrics["train_runtime"]
        return sum(map(len, given[2]["input_ids"])) / seconds, trainer.evaluate()["eval_loss"]


def run(count: int, repeats: int, width: int, folder: Path, mix: str) -> list[dict]:
    """All comparisons as records of the benchmark files.

    Raises SystemExit where the losses differ.
    """
    began = time.monotonic()
    p = small.base(
        folder,
        base_vocab_size=2048,
        base_hidden_size=width,
        base_intermediate_size=3 * width,
        base_layers=4,
        base_heads=4,
        base_kv_heads=2,
        base_context=LIMIT,
        data_max_length=LIMIT,
        lora_r=16,
        lora_alpha=32,
        sft_lr=5e-3,
        sft_packing=True,
        train_micro_batch_size=1,
        sft_steps=1,
        sft_batch_size=1,
        train_save_steps=10_000,
        quant_compute_dtype="bfloat16" if BF16 else "float32",
    )
    base = loading.located(folder)
    vocabulary = loading.load(base).config.vocab_size
    data, held_out = rows(count, vocabulary, 0, mix), rows(16, vocabulary, 1, mix)
    sequences = len(ours(p, base, data, held_out, folder / "count").train_dataset)
    steps = max(1, count // 8)
    batch = max(1, round(sequences / steps))
    values = p.model_dump() | {
        "sft_steps": steps,
        "sft_batch_size": batch,
        "train_micro_batch_size": batch,
    }
    own = SimpleNamespace(**values)
    ways = {
        "ours": lambda *given: ours(own, *given[1:]),
        "training": theirs,
        "training-padded": lambda *given: theirs(*given, pad_to_multiple_of=LIMIT),
    }
    found = {name: [] for name in ways}
    for _ in range(repeats):
        for name, make in ways.items():
            found[name].append(measure(make, p, base, data, held_out))
    return [record(name, found, count, data, began, mix) for name in GOALS]


def record(name: str, found: dict, count: int, data, began: float, mix: str) -> dict:
    """One entry of the benchmark's file.

    Refuses a comparison in which the two do not learn the same.
    """
    pairs = [(one[0], other[0]) for one, other in zip(found["ours"], found[name])]
    losses = {way: found[way][-1][1] for way in ("ours", name)}
    if losses["ours"] > losses[name] * (1 + TOLERANCE):
        sys.exit(
            f"error: held-out losses differ: {losses}; speeds of trainings that learn unequally "
            "compare nothing"
        )
    ratios = [one / other for one, other in pairs]
    about = provenance.circumstances()
    ours, others = (round(statistics.median(side)) for side in zip(*pairs))
    tokens = sum(map(len, data["input_ids"]))
    return {
        "name": f"training over {GOALS[name][0]}, {mix}",
        "work": f"{count} rows, {tokens:,} tokens, limit {LIMIT}, {'bf16' if BF16 else 'fp32'}",
        "ours": ours,
        "theirs": others,
        "unit": "useful tokens per second",
        "ratio": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "goal": GOALS[name][1],
        "n": len(pairs),
        "losses": losses,
        "seconds": round(time.monotonic() - began, 1),
        **{key: about[key] for key in ("commit", "versions", "hardware")},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=256, help="of the model")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/reference/benchmarks")
    given = parser.parse_args()
    results = []
    for mix in MIXES:
        with tempfile.TemporaryDirectory() as scratch:
            results += run(given.rows, given.repeats, given.width, Path(scratch), mix)
        for result in results[-len(GOALS) :]:
            print(
                f"{result['name']}: {result['ratio']} times (goal {result['goal']}), "
                f"losses {result['losses']}"
            )
    files.write_json(given.out / "training.json", results)
