"""Scores items under a protocol and keeps one JSON line per item, so that every number leads back to items.

Lines are appended and flushed as batches end; a killed run goes on where it stopped, and because batches
depend on the item list alone, it ends with the very numbers of an undisturbed run. Prompts become tokens a
few hundred at a time, so that memory does not grow with the number of items.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os.path import commonprefix
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import benchmarks, model, protocols
from sm70lib.benchmarks import Item, items_digest
from sm70lib.model import Request
from sm70lib.params import StudyError
from sm70lib.protocols import Protocol
from sm70lib.steps import digest, progress, write_json

CHUNK = 256  # prompts that are tokens at one time
SHARED = 32  # tokens that prompts must have in common for their keys and values to be kept
ROW = 512  # tokens that keep two cores busy; a longer row of prompts that share a prefix is mostly masked attention
WIDTH = 0.9  # of a batch's longest row: where a shorter one would be padded, the next batch begins


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

    @property
    def seeds(self) -> tuple[int, ...]:
        """The protocol's seeds where they change something: shots, or TruthfulQA's order of options."""
        return self.protocol.seeds if self.shots or self.benchmark == "truthfulqa" else self.protocol.seeds[:1]


def runs(p, folder: Path) -> list[Run]:
    """Everything the study asks: each benchmark (read from `folder`) under each protocol that covers it.

    Raises StudyError for a benchmark that none of the protocols covers.
    """
    found = []
    for benchmark in p.eval_benchmarks:
        items = benchmarks.load(folder, benchmark)[:p.eval_limit]
        asked = [_run(benchmark, protocol, shots, items, folder)
                 for protocol in map(protocols.named, p.eval_protocols) for shots in p.eval_shots
                 if protocol.covers(benchmark, shots)]
        if not asked:
            raise StudyError(f"eval_benchmarks: none of {', '.join(p.eval_protocols)} covers {benchmark} with "
                             f"{p.eval_shots} shots; add a protocol that does to eval_protocols, or take it out")
        found += asked
    return found


def _run(benchmark: str, protocol: Protocol, shots: int, items: list[Item], folder: Path) -> Run:
    """One run; a benchmark without a pool gives its first items as shots, and these are not scored."""
    items, source = list(filter(protocol.keep, items)), protocol.pools.get(benchmark, benchmark)
    pool = benchmarks.load_pool(folder, source) if shots and source else []
    if shots and not pool and not protocol.shots_from_test:
        pool, items = items[:shots], items[shots:]
    return Run(benchmark, protocol, shots, items, pool)


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
    left = [run for run in asked if not _finished(paths[run], identity)]
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
        rows.append((*lines.loc[0, ["benchmark", "protocol", "shots"]], lines["item_id"].nunique(), path.parent.name,
                     100 * lines["correct"].mean()))
    frame = pd.DataFrame(rows, columns=["benchmark", "protocol", "shots", "n", "model", "acc_pct"])
    return frame.pivot(index=["benchmark", "protocol", "shots", "n"], columns="model", values="acc_pct").round(1)


def example(folder: Path) -> dict:
    """The first line of the first prediction file of the tuned model."""
    with open(min((folder / "tuned").glob("*.jsonl"))) as file:
        return json.loads(file.readline())


# ---- prompts, made when they are needed -------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """What one line answers: the item as it is asked, the seed of its shots, the text and its part before the question."""

    item: Item
    seed: int
    head: str
    text: str

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Prompts:
    """The prompts of a run, every item once per seed, each made anew when it is asked for."""

    def __init__(self, run: Run):
        self.run = run
        self.keys = [(place, seed) for seed in run.seeds for place in range(len(run.items))]
        self.shots = {seed: run.protocol.draw(run.items, run.shots, run.pool, seed) for seed in run.seeds}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Prompt:
        place, seed = self.keys[number]
        item, shots = self.run.items[place], self.shots[seed][self.run.items[place].id]
        asked = self.run.protocol.view(item, seed)
        return Prompt(asked, seed, self.run.protocol.head(asked, shots), self.run.protocol.prompt(asked, shots))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all texts."""
        found = hashlib.sha256()
        for prompt in self:
            found.update(prompt.digest.encode())
        return found.hexdigest()

    def chunks(self) -> Iterator[tuple[bool, list[Prompt]]]:
        """At most CHUNK prompts of about equal length, and whether they all begin with the same head."""
        sizes = [(hashlib.sha256(prompt.head.encode()).digest(), len(prompt.text)) for prompt in self]
        often = Counter(head for head, _ in sizes)
        groups: dict[bytes, list[int]] = {}
        for number in sorted(range(len(self)), key=lambda number: (-sizes[number][1], number)):
            head = sizes[number][0]
            groups.setdefault(head if often[head] > 1 else b"", []).append(number)
        for head, numbers in groups.items():
            for start in range(0, len(numbers), CHUNK):
                yield head != b"", [self[number] for number in numbers[start:start + CHUNK]]


# ---- scoring ----------------------------------------------------------------------------------------


def evaluate(loaded, tokenizer, run: Run, path: Path, *, model_digest: str, batch_tokens: int = 8192) -> None:
    """Scores the items of `run` and writes `path` (JSON Lines, one per item and seed) with its `.meta.json`.

    Goes on where an earlier run stopped. Raises StudyError when `path` holds predictions of another model,
    protocol version, item list or prompt, or when shots would have to come from the test where the protocol
    does not allow that.
    """
    if run.shots and not run.pool and not run.protocol.shots_from_test:
        raise StudyError(f"{run.protocol.name} has no items to draw {run.shots} shots from for {run.benchmark}: "
                         "set eval_shots to [0] or add the benchmark's own train or dev file")
    prompts = Prompts(run)
    about = {"model_digest": model_digest, "protocol": run.protocol.name, "protocol_version": run.protocol.version,
             "shots": run.shots, "items_digest": items_digest(run.items), "n_items": len(run.items),
             "prompts_digest": prompts.digest}
    done = _resume(path, about)
    limit = min(run.protocol.max_context, loaded.config.max_position_embeddings)
    listed: dict[str, list] = {"skipped": [], "cut": []}
    remember = lru_cache(maxsize=1)(lambda common: model.remember(loaded, common))
    with open(path, "a") as file, progress(len(prompts), "item", f"{path.parent.name} {run.name}") as bar:
        bar.update(len(done))
        for batch in _batches(prompts, tokenizer, limit, batch_tokens, listed):
            fresh = [number for number, (prompt, _) in enumerate(batch.asked)
                     if (prompt.item.id, prompt.seed) not in done]
            if fresh:
                _write(file, run, batch, fresh, lambda: batch.loglikelihoods(loaded, tokenizer.pad_token_id, remember))
                bar.update(len(fresh))
    write_json(path.with_suffix(".meta.json"), about | listed | {"n_scored": len(prompts) - len(listed["skipped"])})


def _write(file, run: Run, batch: Batch, fresh: list[int], score: Callable) -> None:
    """Scores a batch and appends the lines of its fresh items."""
    start = time.perf_counter()
    scores = score()
    seconds = (time.perf_counter() - start) / len(batch.asked)
    lines = [record(batch.asked[number][0], run, scores[number], seconds) for number in fresh]
    file.write("".join(json.dumps(line) + "\n" for line in lines))
    file.flush()


@dataclass(frozen=True)
class Batch:
    """Prompts that go through the model together, each with its requests, and the tokens that all begin with."""

    common: tuple[int, ...]
    asked: list[tuple[Prompt, list[Request]]]

    def loglikelihoods(self, loaded, pad_id: int, remember: Callable) -> list[list[float]]:
        """Of every prompt, the log-likelihoods (nats) of its options."""
        rows = [[Request(request.context[len(self.common):], request.options)]
                for _, requests in self.asked for request in requests]
        rows = [[request for row in rows for request in row]] if self.common else rows
        found = iter(model.loglikelihoods(loaded, rows, pad_id, remember(self.common)))
        return [[value for _ in requests for value in next(found)] for _, requests in self.asked]


def _batches(prompts: Prompts, tokenizer, limit: int, batch_tokens: int, listed: dict) -> Iterator[Batch]:
    """Batches of a run, which depend on its prompts alone; ids of cut and of unusable items go to `listed`."""
    for same_head, chunk in prompts.chunks():
        asked = [(prompt, requests) for prompt in chunk
                 if (requests := _usable(prompt, prompts.run.protocol, tokenizer, limit, listed))]
        contexts = [request.context for _, requests in asked for request in requests]
        common = tuple(commonprefix([context[:-1] for context in contexts])) if same_head else ()
        common = common if len(common) >= SHARED else ()
        together: list = []
        for one in sorted(asked, key=lambda one: -max(request.length for request in one[1])):
            if together and _full(together, one, len(common), batch_tokens):
                yield Batch(common, together)
                together = []
            together.append(one)
        if together:
            yield Batch(common, together)


def _full(together: list, one: tuple, common: int, batch_tokens: int) -> bool:
    """Whether a prompt has to start a new batch: no room, or padding that a batch of a fair size need not bear."""
    lengths, own = ([request.length - common for _, requests in some for request in requests]
                    for some in (together, [one]))
    if common:
        return sum(lengths + own) > ROW
    width = max(lengths)
    return len(lengths + own) * width > batch_tokens or len(lengths) * width > ROW and max(own) < WIDTH * width


def _usable(prompt: Prompt, protocol: Protocol, tokenizer, limit: int, listed: dict) -> list[Request]:
    """An item's requests, cut on the left to the context of `limit` tokens; [] where it cannot be scored.

    Options share one context unless the tokenizer merges across the boundary, or they are cut by an amount that
    depends on the option; then each is a request of its own.
    """
    answers, item = protocol.answers(prompt.item), prompt.item
    pairs = _tokenised(prompt.text, answers, tokenizer, protocol.bos)
    rooms = [limit + 1 - len(option) for _, option in pairs]  # the last token is predicted and never read
    reason = ("an option is empty" if not all(answer.strip() for answer in answers) else
              "no right option" if item.answer not in range(len(answers)) else
              f"an option fills the context of {limit} tokens" if min(rooms) < 1 else None)
    if reason:
        listed["skipped"].append({"item_id": item.id, "seed": prompt.seed, "reason": reason})
        return []
    if any(len(context) > room for (context, _), room in zip(pairs, rooms)):
        listed["cut"].append(item.id)
    contexts = [context[-room:] for (context, _), room in zip(pairs, rooms)]
    if all(context == contexts[0] for context in contexts):
        return [Request(contexts[0], [option for _, option in pairs])]
    return [Request(context, [option]) for context, (_, option) in zip(contexts, pairs)]


def _tokenised(text: str, answers: list[str], tokenizer, bos: bool) -> list[tuple[list[int], list[int]]]:
    """Prompt and each answer as tokens: made together and split by count, as the harness does.

    As there, white space at the end of a prompt belongs to the answer.
    """
    start = text.rstrip()
    first, *whole = tokenizer([start, *(text + answer for answer in answers)], add_special_tokens=False)["input_ids"]
    front = [tokenizer.bos_token_id] if bos else []
    return [(front + ids[:len(first)], ids[len(first):]) for ids in whole]


def record(prompt: Prompt, run: Run, loglikelihoods: list[float], seconds: float) -> dict:
    """One item's prediction; `choice` by summed log-likelihood (acc), `choice_norm` per character (acc_norm).

    `mass` is the share of the options' probability that the true ones have, where several are true.
    """
    item, several = prompt.item, run.protocol.right
    right = several(item) if several else [item.answer]
    lengths = [max(1, len(answer.removeprefix(" "))) for answer in run.protocol.answers(item)]
    choice, norm = int(np.argmax(loglikelihoods)), int(np.argmax(np.array(loglikelihoods) / lengths))
    share = np.exp(np.array(loglikelihoods) - max(loglikelihoods))
    return {"item_id": item.id, "benchmark": item.benchmark, "protocol": run.protocol.name, "shots": run.shots,
            "seed": prompt.seed, "sample": 0, "prompt_digest": prompt.digest,
            "loglikelihoods": [round(value, 6) for value in loglikelihoods], "choice": choice, "choice_norm": norm,
            "gold": item.answer, "correct": choice in right, "correct_norm": norm in right,
            "parsed": None, "seconds": round(seconds, 6),
            **({"mass": round(share[right].sum() / share.sum(), 6)} if several else {})}


def _finished(path: Path, model_digest: str) -> bool:
    meta = path.with_suffix(".meta.json")
    about = json.loads(meta.read_text()) if path.exists() and meta.exists() else {}
    return about.get("model_digest") == model_digest and path.read_bytes().count(b"\n") == about.get("n_scored")


def _resume(path: Path, about: dict) -> set[tuple[str, int]]:
    """Ids and seeds already scored; cuts a last line that a kill left half-written."""
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
    lines = map(json.loads, whole.splitlines())
    return {(line["item_id"], line["seed"]) for line in lines}
