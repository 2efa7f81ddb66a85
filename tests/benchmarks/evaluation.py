"""Items per second against lm-evaluation-harness's HF backend: same model, same items, same
answers, same run.

Both get the prompts as text; theirs is timed at the best of several batch sizes, and without the
time that it takes to build its tasks. The distance to the limit is what must be computed at least
once (every prompt and option token once, a shared prefix once, logits where an option is read) at
the speed of a plain batched pass over prompts of the same length, over what was spent.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import torch  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

from sm70lib.asking import prompts, runs  # noqa: E402
from sm70lib.evaluation import batches, one_run  # noqa: E402
from sm70lib.models.backend import Local  # noqa: E402
from sm70lib.protocols import layouts  # noqa: E402
from sm70lib.steps.steps import write_json  # noqa: E402
from sm70lib.study.params import ROOT  # noqa: E402
from sm70lib.study.provenance import circumstances  # noqa: E402
from tests.parity import items as parity  # noqa: E402

SUBJECT = "clinical_knowledge"
BATCHES = (1, 4, 16)
CASES = (  # name, benchmark, shots, read by, items, goal
    ("letters, 0-shot", "medqa_4", 0, "letters", 32, 1.5),
    ("option text, 0-shot", "medqa_4", 0, "texts", 16, 4.0),
    ("option text, 5 shots drawn per item", "medqa_4", 5, "texts", 8, 3.5),
    ("letters, 5 fixed shots (MMLU)", "mmlu_medical", 5, "letters", 96, 6.0),
    ("option text, 5 fixed shots (MMLU)", "mmlu_medical", 5, "texts", 32, 15.0),
)
LIMIT_GOAL = 0.7
VOCABULARY = 32_000  # as Llama-2


def run_of(
    benchmark: str, shots: int, read_by: str, count: int, data: Path, folder: Path
) -> runs.Run:
    """The harness protocol's run, read by letters or by option texts; of MMLU one subject."""
    run = parity.our_run("harness", benchmark, shots, data, None, folder)
    items = [item for item in run.items if item.details.subject == SUBJECT] or run.items
    answers = layouts.option_letters if read_by == "letters" else layouts.option_texts
    return runs.Run(
        benchmark, replace(run.protocol, answers=answers), shots, items[:count], run.pool
    )


def ours(
    loaded, tokenizer, run: runs.Run, path: Path, batch_tokens: int = 2048
) -> tuple[float, list[list[float]]]:
    """Seconds from prompts to written lines, and the log-likelihoods in the items' order."""
    for old in path.parent.glob(f"{path.stem}*"):
        old.unlink()
    backend = Local(loaded, tokenizer)
    assert backend.way == "packed", backend.proof  # proved before the clock starts
    start = time.perf_counter()
    one_run.evaluate(backend, run, path, model_digest="bench", batch_tokens=batch_tokens)
    seconds = time.perf_counter() - start
    lines = {line["item_id"]: line["loglikelihoods"] for line in map(json.loads, path.open())}
    return seconds, [lines[item.id] for item in run.items]


def theirs(loaded, tokenizer, run: runs.Run, batch: int) -> tuple[float, list[list[float]]]:
    """Seconds that the harness takes for the same texts, and its log-likelihoods."""
    lm = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch, max_length=4096)
    asked = [
        [(prompt.text, answer) for answer in run.protocol.answers(prompt.item)]
        for prompt in prompts.Prompts(run, tokenizer)
    ]
    requests = [
        Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(sum(asked, []))
    ]
    start = time.perf_counter()
    found = iter(lm.loglikelihood(requests, disable_tqdm=True))
    return time.perf_counter() - start, [[next(found)[0] for _ in pairs] for pairs in asked]


def must(run: runs.Run, tokenizer) -> tuple[int, int, int]:
    """Tokens that have to be computed once, places whose logits have to be, and the mean length of
    a prompt.
    """
    made = list(
        batches.batched(
            prompts.Prompts(run, tokenizer), tokenizer, 4096, 2048, {"skipped": [], "cut": []}
        )
    )
    requests = [request for batch in made for _, asked in batch.asked for request in asked]
    own = sum(
        request.length - len(batch.common)
        for batch in made
        for _, asked in batch.asked
        for request in asked
    )
    reads = sum(1 + sum(len(option) - 1 for option in request.options) for request in requests)
    prefixes = sum(map(len, {batch.common for batch in made}))
    return own + prefixes, reads, sum(len(request.context) for request in requests) // len(requests)


@torch.inference_mode()
def plain(loaded, tokens: int, reads: int, length: int, total: int = 4096) -> float:
    """Seconds for so many tokens and logits at the speed of a plain batched pass over rows of
    `length`.
    """
    ids, seconds = torch.randint(3, loaded.config.vocab_size, (max(1, total // length), length)), []
    for _ in range(3):
        start = time.perf_counter()
        hidden = loaded.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state.flatten(
            0, 1
        )
        loaded.get_output_embeddings()(hidden[: len(hidden) * reads // tokens])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * tokens / ids.numel()


def measure(
    case: tuple, loaded, tokenizer, data: Path, folder: Path, repeats: int, scale: float
) -> list[dict]:
    """Two entries: the ratio to the harness, and the distance to the limit."""
    name, benchmark, shots, read_by, count, goal = case
    begin, run = (
        time.perf_counter(),
        run_of(benchmark, shots, read_by, max(4, int(count * scale)), data, folder),
    )
    few = runs.Run(run.benchmark, run.protocol, run.shots, run.items[:4], run.pool)
    best = min(BATCHES, key=lambda batch: theirs(loaded, tokenizer, few, batch)[0])
    tokens, reads, length = must(run, tokenizer)
    pairs, limits = [], []
    for _ in range(repeats):
        mine, values = ours(loaded, tokenizer, run, folder / "bench.jsonl")
        other, wanted = theirs(loaded, tokenizer, run, best)
        check(values, wanted)
        limits.append(plain(loaded, tokens, reads, length) / mine)
        pairs.append((mine, other))
    n, about = (
        len(run.items),
        {"n": len(run.items), "seconds": round(time.perf_counter() - begin, 1), **circumstances()},
    )
    ratios = [other / mine for mine, other in pairs]
    size = sum(weight.numel() for weight in loaded.parameters()) / 1e6
    what = f"{benchmark} {SUBJECT}" if benchmark == "mmlu_medical" else benchmark
    work = f"{n} items of {what}, {size:.0f} million parameters, harness batch {best}"
    speed, other = (n / statistics.median(seconds) for seconds in zip(*pairs))
    return [
        entry(f"evaluation: {name}", work, speed, other, ratios, goal, about),
        entry(
            f"evaluation: {name}, share of the limit",
            f"{tokens} tokens and {reads} logits computed at least once; {work}",
            speed,
            speed / statistics.median(limits),
            limits,
            LIMIT_GOAL,
            about,
        ),
    ]


def check(ours: list[list[float]], theirs: list[list[float]]) -> None:
    """Stops the measurement where the answers are not the same."""
    worst = max(
        abs(a - b)
        for mine, other in zip(ours, theirs, strict=True)
        for a, b in zip(mine, other, strict=True)
    )
    same = sum(
        mine.index(max(mine)) == other.index(max(other)) for mine, other in zip(ours, theirs)
    )
    assert worst < 1e-3 and same == len(ours), (
        f"not the same answers: {worst:.1e} nats, {same} of {len(ours)} choices"
    )


def entry(
    name: str, work: str, ours: float, theirs: float, ratios: list[float], goal: float, about: dict
) -> dict:
    """One measurement in the words that all benchmarks share."""
    return {
        "name": name,
        "work": work,
        "ours": round(ours, 2),
        "theirs": round(theirs, 2),
        "unit": "items/s",
        "ratio": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "goal": goal,
        **about,
    }


def main() -> None:
    """Measures all cases and writes outputs/reference/benchmarks/evaluation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared/data",
        help="folder of real benchmark files",
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the items of each case")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "outputs/reference/benchmarks/evaluation.json"
    )
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"no real files in {given.data}: give --data (params/data.md)")
    logging.disable(logging.WARNING)
    tokenizer, entries = parity.tokenizer(given.data, size=VOCABULARY), []
    loaded = parity.llama(len(tokenizer), hidden=512, layers=8, spread=0.03)
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            entries += measure(
                case, loaded, tokenizer, given.data, Path(folder), given.repeats, given.scale
            )
            print(
                *(
                    f"{made['name']}: {made['ours']} against {made['theirs']} {made['unit']}, "
                    f"ratio {made['ratio']} (goal {made['goal']})"
                    for made in entries[-2:]
                ),
                sep="\n",
                flush=True,
            )
    write_json(given.out, entries)


if __name__ == "__main__":
    main()
