"""Does the tiny study agree with itself on another processor? (python -m tests.results.arithmetic)

It runs the study once more, with the arithmetic of a machine without AVX-512 and on one thread.
First it shows that this changes the bits: it takes a training step both ways and compares the
gradients. Then it compares the study's accuracies with the spread that `make evidence` measured.
It writes arithmetic.csv and arithmetic.md in outputs/reference/evidence. A run takes about a
quarter of an hour, and continues an earlier one that stopped.

Every comparison holds in 95 of 100 runs, so one in twenty lies outside by chance alone. The
arithmetics disagree if as many lie outside as `agreement.too_many` says.
"""

from __future__ import annotations

import os
import subprocess
import sys

from sm70lib.analysis import accuracies, frames
from sm70lib.claims import agreement
from sm70lib.statistics import stats
from sm70lib.steps.steps import outputs, write_text
from sm70lib.study.params import ROOT, load

STUDY = "tiny-second-arithmetic"
SECOND = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
# One step of a small Llama; prints what PyTorch computes with, and a digest of all gradients.
STEP = """
import hashlib, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
llama = LlamaForCausalLM(LlamaConfig(vocab_size=500, hidden_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, intermediate_size=384))
ids = torch.randint(0, 500, (8, 128))
llama(input_ids=ids, labels=ids).loss.backward()
bits = b"".join(weight.grad.numpy().tobytes() for weight in llama.parameters())
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),
      hashlib.sha256(bits).hexdigest()[:16])
"""


def step(second: bool) -> tuple[str, str]:
    """Takes one training step in a process of its own.

    Returns:
        The arithmetic (CPU capability and threads), and the digest of the gradients' bits.
    """
    environment = os.environ | (SECOND if second else {})
    done = subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True
    )
    *arithmetic, digest = done.stdout.split()
    return " ".join(arithmetic), digest


def main() -> None:
    """Shows that the bits differ, runs the study with the other arithmetic, and compares."""
    first, bits = step(False)
    second, others = step(True)
    print(f"first arithmetic ({first} threads): {bits}; second ({second} threads): {others}")
    if bits == others:
        sys.exit("the bits are the same, so this machine has no second arithmetic to show")
    words = ["run", "params/tiny.yml", "-p", "study", STUDY, "--until", "04"]
    command = [sys.executable, "-m", "sm70lib", *words]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | SECOND)
    study = load("params/tiny.yml", overrides={"study": STUDY})
    how = stats.How(study.stats_level, study.stats_resamples, study.seed)
    found = accuracies.results(frames.load(outputs(), [STUDY]), how)
    agreed = agreement.table(found, outputs() / STUDY)
    outside = (agreed["agrees"] == "no").sum()
    limit = agreement.too_many(len(agreed))
    text = (
        f"One training step with the first arithmetic ({first} threads) and with the second "
        f"({second} threads) gives gradients with the digests {bits} and {others}. The whole study "
        f"was then made with the second. {agreement.sentence(agreed)}\n"
    )
    write_text(agreement.EVIDENCE / "arithmetic.csv", agreed.to_csv(index=False))
    table = agreed.to_markdown(index=False)
    write_text(agreement.EVIDENCE / "arithmetic.md", f"{text}\n{table}\n")
    print(text)
    if outside >= limit:
        sys.exit("the arithmetics disagree")


if __name__ == "__main__":
    main()
