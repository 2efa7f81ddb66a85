"""Scores items under a protocol and keeps one JSON line per item, so that every number leads back to items.

Lines are appended and flushed as batches end; a killed run goes on where it stopped, and because batches
depend on the item list alone, it ends with the very numbers of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import benchmarks, model, protocols, score
from sm70lib.benchmarks import Item, items_digest
from sm70lib.params import StudyError
from sm70lib.protocols import Protocol, draw_shots
from sm70lib.score import Request
from sm70lib.steps import digest, progress, write_json

SHOTS_SEED = 42  # the 2023 harness's own


@dataclass(frozen=True, eq=False)
class Run:
    """One thing to score: a benchmark under a protocol with a number of shots, and where shots may come from."""

    benchmark: str
    protocol: Protocol
    shots: int
    items: list[Item]
    pool: list[Item]

    @property
    def name(self) -> str:
        """The stem of its prediction files."""
        return f"{self.benchmark}-{self.protocol.name}-{self.shots}"


def runs(p, folder: Path) -> list[Run]:
    """Everything the study asks: each benchmark (read from `folder`) under each protocol that covers it.

    Raises StudyError for a benchmark that none of the protocols covers.
    """
    found = []
    for benchmark in p.eval_benchmarks:
        items, pool = benchmarks.load(folder, benchmark)[:p.eval_limit], benchmarks.load_pool(folder, benchmark)
        asked = [Run(benchmark, protocol, shots, [item for item in items if protocol.keep(item)], pool)
                 for protocol in map(protocols.named, p.eval_protocols) for shots in p.eval_shots
                 if protocol.covers(benchmark, shots)]
        if not asked:
            raise StudyError(f"eval_benchmarks: none of {', '.join(p.eval_protocols)} covers {benchmark} with "
                             f"{p.eval_shots} shots; add a protocol that does to eval_protocols, or take it out")
        found += asked
    return found


def overview(asked: list[Run]) -> pd.DataFrame:
    """One row per run: benchmark, protocol, shots, n, and the pool that shots come from."""
    rows = [(run.benchmark, run.protocol.name, run.shots, len(run.items),
             "-" if not run.shots else f"{len(run.pool)} other items" if run.pool else "the test items (flagged)")
            for run in asked]
    return pd.DataFrame(rows, columns=["benchmark", "protocol", "shots", "n", "shots from"])


def first_of_each_protocol(asked: list[Run]) -> list[Run]:
    """The first run of every protocol, for a look at its prompt."""
    return list({run.protocol.name: run for run in reversed(asked)}.values())[::-1]


def score_model(name: str, p, asked: list[Run], folder: Path) -> None:
    """Scores every run under the model `base`, `base-nf4` or `tuned` of the study in `folder`.

    The model is loaded only where something is left to score.
    """
    base, adapter = model.located(folder), folder / "adapter" if name == "tuned" else None
    paths = {run: folder / "predictions" / name / f"{run.name}.jsonl" for run in asked}
    identity = _identity(name, folder, adapter)
    left = [run for run in asked if not _finished(paths[run], run, identity)]
    if not left:
        return
    loaded = model.load(base, None if name == "base" else p, adapter)
    for run in left:
        evaluate(loaded, model.load_tokenizer(base), run, paths[run], model_digest=identity,
                 batch_tokens=p.eval_batch_tokens)


def _identity(name: str, folder: Path, adapter: Path | None) -> str:
    """sha256 (hex) of what was scored: the way it was loaded, the base's weights (or its hub name), the adapter's."""
    weights = folder / "base/model" if (folder / "base/model").exists() else folder / "base/base.json"
    return hashlib.sha256(f"{name} {digest(weights)} {adapter and digest(adapter)}".encode()).hexdigest()


def accuracies(folder: Path) -> pd.DataFrame:
    """Accuracy in percent of all prediction files below `folder`: one row per run, one column per model."""
    rows = []
    for path in sorted(folder.glob("*/*.jsonl")):
        lines = pd.read_json(path, lines=True)
        rows.append((*lines.loc[0, ["benchmark", "protocol", "shots"]], len(lines), path.parent.name,
                     100 * lines["correct"].mean()))
    frame = pd.DataFrame(rows, columns=["benchmark", "protocol", "shots", "n", "model", "acc_pct"])
    return frame.pivot(index=["benchmark", "protocol", "shots", "n"], columns="model", values="acc_pct").round(1)


def example(folder: Path) -> dict:
    """The first line of the first prediction file of the tuned model."""
    with open(min((folder / "tuned").glob("*.jsonl"))) as file:
        return json.loads(file.readline())


@dataclass(frozen=True)
class Prompt:
    """What was asked of an item: the digest of its text, and one request per distinct token prefix."""

    item: Item
    digest: str
    requests: tuple[Request, ...]


def evaluate(loaded, tokenizer, run: Run, path: Path, *, model_digest: str, batch_tokens: int = 8192) -> None:
    """Scores the items of `run` and writes `path` (JSON Lines, one per item) with its `.meta.json`.

    Goes on where an earlier run stopped. Raises StudyError when `path` holds predictions of another model,
    protocol version, item list or prompt, or when shots would have to come from the test where the protocol
    does not allow that.
    """
    if run.shots and not run.pool and not run.protocol.shots_from_test:
        raise StudyError(f"{run.protocol.name} has no items to draw {run.shots} shots from for {run.benchmark}: "
                         "set eval_shots to [0] or add the benchmark's own train or dev file")
    prompts = ask(run, tokenizer)
    about = {"model_digest": model_digest, "protocol": run.protocol.name, "protocol_version": run.protocol.version,
             "shots": run.shots, "items_digest": items_digest(run.items), "n_items": len(run.items),
             "n_scored": len(prompts), "skipped": [],
             "prompts_digest": hashlib.sha256("".join(prompt.digest for prompt in prompts).encode()).hexdigest()}
    done = _resume(path, about)
    _score_rest(loaded, tokenizer, prompts, run, path, done, batch_tokens)


def ask(run: Run, tokenizer) -> list[Prompt]:
    """Prompts and continuations of a run's items as token ids, in the order of the items."""
    drawn = draw_shots(run.items, run.shots, run.pool, SHOTS_SEED)
    texts = [run.protocol.prompt(item, drawn[item.id]) for item in run.items]
    return [Prompt(item, hashlib.sha256(text.encode()).hexdigest()[:16],
                   tuple(_requests(text, run.protocol.answers(item), tokenizer, run.protocol)))
            for item, text in zip(run.items, texts)]


def _requests(prompt: str, answers: list[str], tokenizer, protocol: Protocol) -> list[Request]:
    """Prompt and answers are tokenised together and split by count, as the harness does.

    Options share one prefix unless the tokenizer merges across the boundary or a long prompt is cut on the
    left, by an amount that depends on the option; then each is a request of its own.
    """
    bos = [tokenizer.bos_token_id] if protocol.bos else []
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    whole = tokenizer([prompt + answer for answer in answers], add_special_tokens=False)["input_ids"]
    pairs = [((bos + ids[:start])[-(protocol.max_context + 1 - len(ids[start:])):], ids[start:]) for ids in whole]
    if all(context == pairs[0][0] for context, _ in pairs):
        return [Request(pairs[0][0], [option for _, option in pairs])]
    return [Request(context, [option]) for context, option in pairs]


def _score_rest(loaded, tokenizer, prompts: list[Prompt], run: Run, path: Path, done: set[str],
                batch_tokens: int) -> None:
    """Scores the batches that hold an unfinished item, and appends the lines of such items."""
    with open(path, "a") as file, progress(len(prompts), "item", f"{path.parent.name} {run.name}") as bar:
        bar.update(len(done))
        for batch in score.batches([prompt.requests for prompt in prompts], batch_tokens):
            fresh = [index for index in batch if prompts[index].item.id not in done]
            if not fresh:
                continue
            start = time.perf_counter()
            scores = _loglikelihoods(loaded, [prompts[index] for index in batch], tokenizer.pad_token_id)
            seconds = (time.perf_counter() - start) / len(batch)
            file.writelines(json.dumps(record(prompts[index], run, values, seconds)) + "\n"
                            for index, values in zip(batch, scores) if index in fresh)
            file.flush()
            bar.update(len(fresh))


def _loglikelihoods(loaded, prompts: list[Prompt], pad_id: int) -> list[list[float]]:
    """Per prompt the log-likelihoods of its options, from one forward pass."""
    found = iter(score.loglikelihoods(loaded, [request for prompt in prompts for request in prompt.requests], pad_id))
    return [[value for _ in prompt.requests for value in next(found)] for prompt in prompts]


def record(prompt: Prompt, run: Run, loglikelihoods: list[float], seconds: float) -> dict:
    """One item's prediction; `choice` by summed log-likelihood (acc), `choice_norm` per character (acc_norm)."""
    item = prompt.item
    lengths = [max(1, len(answer.removeprefix(" "))) for answer in run.protocol.answers(item)]
    choice, norm = int(np.argmax(loglikelihoods)), int(np.argmax(np.array(loglikelihoods) / lengths))
    return {"item_id": item.id, "benchmark": item.benchmark, "protocol": run.protocol.name, "shots": run.shots,
            "seed": SHOTS_SEED, "sample": 0, "prompt_digest": prompt.digest,
            "loglikelihoods": [round(value, 6) for value in loglikelihoods], "choice": choice, "choice_norm": norm,
            "gold": item.answer, "correct": choice == item.answer, "correct_norm": norm == item.answer,
            "parsed": None, "seconds": round(seconds, 6)}


def _finished(path: Path, run: Run, model_digest: str) -> bool:
    meta = path.with_suffix(".meta.json")
    if not path.exists() or not meta.exists() or json.loads(meta.read_text())["model_digest"] != model_digest:
        return False
    return path.read_bytes().count(b"\n") == len(run.items)


def _resume(path: Path, about: dict) -> set[str]:
    """Ids already scored; cuts a last line that a kill left half-written."""
    meta = path.with_suffix(".meta.json")
    if not meta.exists():
        write_json(meta, about)
        path.unlink(missing_ok=True)
    was = json.loads(meta.read_text())
    for name in ("model_digest", "protocol_version", "items_digest", "prompts_digest"):
        if was[name] != about[name]:
            raise StudyError(f"{path} was made with another {name.replace('_', ' ')} ({was[name]!s:.12} there, "
                             f"{about[name]!s:.12} now): score again with --fresh 04, or use another study name")
    if not path.exists():
        return set()
    text = path.read_text()
    whole = text[:text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return {json.loads(line)["item_id"] for line in whole.splitlines()}
