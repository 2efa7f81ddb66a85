"""Scoring on a GPU against lm-evaluation-harness: same model, items and card; seconds and choices.

    python -m tests.benchmarks.gpu_scoring --data FOLDER               # Llama-2-7B's shape in bf16
    python -m tests.benchmarks.gpu_scoring --data FOLDER --shape tiny  # the same on any machine

The weights are random, so nothing is downloaded. The harness gets the best of several batch sizes,
and this workspace the best of several sizes of a batch in tokens. In bf16 the two round
differently: the file says how many choices are equal and how far apart the log-likelihoods are.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sm70lib.asking import runs
from sm70lib.study.params import ROOT
from sm70lib.study.provenance import circumstances
from tests.benchmarks.evaluation import ours, run_of, theirs
from tests.benchmarks.gpu_70b import SHAPES
from tests.parity import items as parity

CASES = (  # name, benchmark, shots, read by, items
    ("option text, 0-shot", "medqa_4", 0, "texts", 128),
    ("option text, 5 shots drawn per item", "medqa_4", 5, "texts", 48),
    ("letters, 5 fixed shots (MMLU)", "mmlu_medical", 5, "letters", 128),
)
BATCHES = (8, 32)  # of the harness, in requests
BATCH_TOKENS = (2048, 8192, 32768)  # of this workspace


def random_llama(shape: str, vocabulary: int) -> LlamaForCausalLM:
    """A Llama of that shape with random weights: bf16 on a GPU, float32 on a CPU."""
    gpu = torch.cuda.is_available()
    config = LlamaConfig(**SHAPES[shape] | {"vocab_size": vocabulary}, initializer_range=0.03)
    config.update({"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2})
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if gpu else torch.float32)
    with torch.device("cuda" if gpu else "cpu"):
        made = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    return made.eval()


def measure(case: tuple, loaded, tokenizer, given, folder: Path) -> dict:
    """One case: items a second of both, and how far their answers are apart."""
    name, benchmark, shots, read_by, count = case
    count = min(count, given.items)
    run = run_of(benchmark, shots, read_by, count, given.data, folder)
    path = folder / "scored.jsonl"
    few = runs.Run(run.benchmark, run.protocol, run.shots, run.items[:16], run.pool)
    ours(loaded, tokenizer, few, path)  # warms up, and is not timed
    mine = {size: ours(loaded, tokenizer, run, path, size) for size in BATCH_TOKENS}
    other = {size: theirs(loaded, tokenizer, run, size) for size in BATCHES}
    best, fastest = min(mine, key=lambda n: mine[n][0]), min(other, key=lambda n: other[n][0])
    values, wanted = mine[best][1], other[fastest][1]
    gaps = [abs(a - b) for one, two in zip(values, wanted) for a, b in zip(one, two, strict=True)]
    return {
        "name": f"gpu scoring: {name}",
        "work": f"{len(values)} items of {benchmark}, {given.shape}, {loaded.dtype}",
        "ours": round(len(values) / mine[best][0], 2),
        "theirs": round(len(values) / other[fastest][0], 2),
        "unit": "items/s",
        "ratio": round(other[fastest][0] / mine[best][0], 2),
        "batch_tokens": best,
        "harness_batch": fastest,
        "ours_by_batch_tokens": {n: round(len(values) / mine[n][0], 2) for n in mine},
        "theirs_by_batch": {n: round(len(values) / other[n][0], 2) for n in other},
        "equal_choices": sum(
            one.index(max(one)) == two.index(max(two)) for one, two in zip(values, wanted)
        ),
        "largest_gap_nats": max(gaps),
        "mean_gap_nats": sum(gaps) / len(gaps),
        "n": len(values),
    }


def main() -> None:
    """Measures all cases; the file is written after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared/data", help="real benchmark files"
    )
    parser.add_argument("--items", type=int, default=128, help="items a case at most")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "outputs/reference/benchmarks/gpu_scoring.json"
    )
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    tokenizer = parity.tokenizer(given.data, size=16_384)
    loaded = random_llama(given.shape, len(tokenizer))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            row = measure(case, loaded, tokenizer, given, Path(folder)) | {"gpu": gpu}
            made.append(row | circumstances())
            given.out.write_text(json.dumps(made, indent=1) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
