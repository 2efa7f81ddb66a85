"""Scores items under a protocol and keeps one JSON line per item, so that every number leads back to items.

Lines are appended and flushed as batches end; a killed run goes on where it stopped, and because batches
depend on the item list alone, it ends with the very numbers of an undisturbed run. Prompts become tokens a
few hundred at a time, so that memory does not grow with the number of items.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os.path import commonprefix
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from sm70lib import benchmarks, model, protocols, replies
from sm70lib.benchmarks import Item, items_digest
from sm70lib.model import Request
from sm70lib.params import ROOT, StudyError
from sm70lib.protocols import Protocol
from sm70lib.steps import digest, progress, write_json
from sm70lib.train import launcher

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
        asked = [run for run in asked if run.items]  # meditron's part of TruthfulQA may not be there
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


@dataclass(frozen=True)
class Model:
    """What is scored: its name in tables, weights (folder or hub name), how they are loaded, adapter, prompt."""

    name: str
    source: str
    quantised: bool = False
    adapter: Path | None = None
    chat: bool = False

    def identity(self) -> str:
        """sha256 (hex) of the weights (or the hub name), the adapter's, and the way they are loaded and asked."""
        weights = _digest(Path(self.source)) if Path(self.source).is_dir() else self.source
        text = f"{self.quantised} {self.chat} {weights} {self.adapter and digest(self.adapter)}"
        return hashlib.sha256(text.encode()).hexdigest()


_digest = lru_cache(digest)  # three models share a base of up to 140 GB


def models(p, folder: Path) -> list[Model]:
    """The study's own models (base, in NF4, earlier stages, tuned), and those of `eval_models`.

    Raises StudyError where one of these cannot be read, or its line is not understood.
    """
    base, four = model.located(folder), p.quant_type != "none"
    own = [Model("base", base), *([Model("base-nf4", base, True)] if four else [])]
    earlier = sorted(folder.glob("stages/*/adapter"))[:-1]
    own += [Model(f"tuned-{path.parent.name}", base, four, path) for path in earlier]
    return [*own, Model("tuned", base, four, folder / "adapter"), *(_other(*pair) for pair in p.eval_models.items())]


def _other(name: str, line: str) -> Model:
    source, *words = line.split()
    given = dict(word.partition("=")[::2] for word in words)
    allowed = {"quant": ("nf4", "none"), "chat": ("yes", "no"), "adapter": (given.get("adapter"),)}
    for key, value in given.items():
        if value not in allowed.get(key, ()):
            raise StudyError(f"eval_models: {name}: {key}={value} is not understood; allowed are quant=nf4 or none, "
                             "adapter=FOLDER, chat=yes or no")
    model.require(source, f"eval_models: {name}")
    return Model(name, source, given.get("quant") == "nf4", given.get("adapter") and Path(given["adapter"]),
                 given.get("chat") == "yes")


def score_all(p, asked: list[Run], folder: Path) -> None:
    """Scores every run under every model; all are looked for first, before any time is spent on one."""
    for which in models(p, folder):
        score_model(which, p, asked, folder)


def score_model(which: Model, p, asked: list[Run], folder: Path, identity: str | None = None) -> None:
    """Scores every run under one model, here or in the processes that `eval_launcher` starts.

    The model is loaded only where something is left to score; 64 items are then scored again, one at a time.
    """
    places = {run: folder / "predictions" / which.name / f"{run.name}.jsonl" for run in asked}
    identity, tokenizer = identity or which.identity(), model.load_tokenizer(which.source)
    left = [run for run in asked if not _finished(places[run], Prompts(run, tokenizer, which.chat), identity)]
    again = folder / "predictions" / which.name / "batch_1.json"
    if not left and again.exists():
        return
    if p.eval_launcher != "python" and "RANK" not in os.environ:
        return _launch(which, p, asked, folder, identity)
    loaded = model.load(which.source, p if which.quantised else None, which.adapter)
    for run in left:
        evaluate(loaded, tokenizer, run, places[run], model_digest=identity, batch_tokens=p.eval_batch_tokens,
                 chat=which.chat)
    if os.environ.get("RANK", "0") == "0":
        write_json(again, rescore(loaded, tokenizer, asked, places, which.chat))


def _launch(which: Model, p, asked: list[Run], folder: Path, identity: str) -> None:
    """Starts `eval_launcher` with this module, once the places of its lines are known to be right."""
    task = folder / "predictions" / which.name / "task.json"
    write_json(task, {"name": which.name, "folder": str(folder), "params": p.model_dump(), "identity": identity})
    done = subprocess.run([*launcher(p.eval_launcher), "-m", "sm70lib.evaluate", str(task)], cwd=ROOT, text=True,
                          stderr=subprocess.PIPE)
    task.unlink()
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise StudyError(f"eval_launcher: scoring stopped with exit code {done.returncode}: {last[0]}; what is "
                         "finished is kept, run 04 again")
    for run in asked:
        _gather(task.with_name(f"{run.name}.jsonl"))


def main(task: Path) -> None:
    """One of several processes: scores its share of the batches that `task` describes."""
    about = json.loads(task.read_text())
    p, folder = SimpleNamespace(**about["params"]), Path(about["folder"])
    which, = [one for one in models(p, folder) if one.name == about["name"]]
    score_model(which, p, runs(p, folder / "data/benchmarks"), folder, about["identity"])


def _share(path: Path) -> tuple[Path, int, int]:
    """Where this process writes, its number, and how many there are (as torchrun and accelerate say)."""
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    return (path if world == 1 else path.with_suffix(f".{rank}.part")), rank, world


def _gather(path: Path) -> None:
    """Moves whole lines that several processes left beside `path` into it."""
    if "RANK" in os.environ:
        return
    for part in sorted(path.parent.glob(f"{path.stem}.*.part")):
        have = set(path.read_text().splitlines()) if _whole(path) else set()
        with open(path, "a") as file:
            file.writelines(line for line in part.read_text().splitlines(True)
                            if line.endswith("\n") and line[:-1] not in have)
        part.unlink()


def rescore(loaded, tokenizer, asked: list[Run], places: dict[Run, Path], chat: bool = False, count: int = 64) -> dict:
    """Scores `count` items spread over the runs alone, option by option: largest difference (nats), flipped choices."""
    runs_ = [run for run in asked if not run.protocol.reads]
    worst, flips, n = 0.0, 0, 0
    for number, run in enumerate(runs_):
        written = [path for path in sorted({places[run], _share(places[run])[0]}) if path.exists()]
        lines = [json.loads(line) for path in written for line in path.open()]
        prompts = Prompts(run, tokenizer, chat)
        numbers = {(run.items[place].id, seed): at for at, (place, seed) in enumerate(prompts.keys)}
        share = count // len(runs_) + (number < count % len(runs_))
        for line in lines[::max(1, len(lines) // max(1, share))][:share]:
            prompt = prompts[numbers[line["item_id"], line["seed"]]]
            requests = _usable(prompt, run.protocol, tokenizer, _limit(loaded, run), None)
            alone = [model.loglikelihoods(loaded, [[Request(request.context, [option])]], tokenizer.pad_token_id)[0][0]
                     for request in requests for option in request.options]
            worst = max(worst, *(abs(a - b) for a, b in zip(alone, line["loglikelihoods"])))
            flips, n = flips + (int(np.argmax(alone)) != line["choice"]), n + 1
    return {"items": n, "largest_difference_nats": worst, "flips": flips}


def rescored(folder: Path) -> dict:
    """By model: what scoring items alone changed."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/batch_1.json"))}


def accuracies(folder: Path) -> pd.DataFrame:
    """Accuracy in percent of all prediction files below `folder`: one row per run, one column per model.

    Beside it, over all models: items left out, prompts cut to the context, and replies that could not be read.
    """
    rows = []
    for path in sorted(folder.glob("*/*.jsonl")):
        if not path.stat().st_size:
            continue  # not an item that could be scored
        lines, about = pd.read_json(path, lines=True), json.loads(path.with_suffix(".meta.json").read_text())
        rows.append((*lines.loc[0, ["benchmark", "protocol", "shots"]], lines["item_id"].nunique(),
                     len(about.get("skipped", [])), len(about.get("cut", [])), int(lines["choice"].isna().sum()),
                     path.parent.name, 100 * lines["correct"].mean()))
    names = ["benchmark", "protocol", "shots", "n", "left out", "cut", "unread"]
    frame = pd.DataFrame(rows, columns=[*names, "model", "acc_pct"])
    worst = frame.groupby(names[:4])[names[4:]].max()
    return frame.pivot(index=names[:4], columns="model", values="acc_pct").round(1).join(worst)


def by_protocol(folder: Path, name: str = "tuned") -> pd.DataFrame:
    """How far the protocol alone moves a model's score: accuracy (percent) by benchmark, and the range in points."""
    frame = accuracies(folder)[name].reset_index()
    frame["way"] = frame["protocol"] + ", " + frame["shots"].astype(str) + "-shot"
    table = frame.pivot(index="benchmark", columns="way", values=name)
    return table.assign(range_pts=table.max(axis=1) - table.min(axis=1)).round(1)


def example(folder: Path) -> dict:
    """The first line of the first prediction file of the tuned model."""
    with open(min((folder / "tuned").glob("*.jsonl"))) as file:
        return json.loads(file.readline())


# ---- prompts, made when they are needed -------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """What one line answers: the item as it is asked, seed of its shots, its text, the part before the question."""

    item: Item
    seed: int
    head: str
    text: str

    @property
    def key(self) -> tuple[str, int]:
        """What tells a line from all others of its file."""
        return self.item.id, self.seed

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Prompts:
    """The prompts of a run, every item once per seed, each made anew when it is asked for.

    With `chat`, or where the protocol says so, they stand in the tokenizer's chat template, or in Med42's own
    words where it has none.
    """

    def __init__(self, run: Run, tokenizer, chat: bool = False):
        self.run, self.tokenizer = run, tokenizer if chat or run.protocol.chat else None
        self.keys = [(place, seed) for seed in run.seeds for place in range(len(run.items))]
        self.shots = {seed: run.protocol.draw(run.items, run.shots, run.pool, seed) for seed in run.seeds}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Prompt:
        place, seed = self.keys[number]
        item, shots = self.run.items[place], self.shots[seed][self.run.items[place].id]
        asked = self.run.protocol.view(item, seed)
        head, text = self.run.protocol.head(asked, shots), self.run.protocol.prompt(asked, shots)
        return Prompt(asked, seed, head, _as_chat(self.tokenizer, text) if self.tokenizer else text)

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


def _as_chat(tokenizer, text: str) -> str:
    if tokenizer.chat_template:
        said = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    # github:m42-health/med42, model card of Med42-v1 (arXiv 2404.14779)
    return ("<|system|>: You are a helpful medical assistant created by M42 Health in the UAE.\n"
            f"<|prompter|>:{text}\n<|assistant|>:")


# ---- scoring ----------------------------------------------------------------------------------------


def evaluate(loaded, tokenizer, run: Run, path: Path, *, model_digest: str, batch_tokens: int = 8192,
             chat: bool = False) -> None:
    """Scores the items of `run` and writes `path` (JSON Lines, one per item and seed) with its `.meta.json`.

    Goes on where an earlier run stopped. Raises StudyError when `path` holds predictions of another model,
    protocol version, item list or prompt, or when shots would have to come from the test where the protocol
    does not allow that.
    """
    if run.shots and not run.pool and not run.protocol.shots_from_test:
        raise StudyError(f"{run.protocol.name} has no items to draw {run.shots} shots from for {run.benchmark}: "
                         "set eval_shots to [0] or add the benchmark's own train or dev file")
    prompts = Prompts(run, tokenizer, chat)
    about = _about(prompts, model_digest)
    mine, rank, world = _share(path)
    done = _resume(path, about) | (_whole(mine) if world > 1 else set())
    listed: dict[str, list] = {"skipped": [], "cut": []}
    remember = lru_cache(maxsize=1)(lambda common: model.remember(loaded, common))
    with open(mine, "a") as file, progress(len(prompts), "item", f"{path.parent.name} {run.name}") as bar:
        bar.update(len(done))
        for number, batch in enumerate(_batches(prompts, tokenizer, _limit(loaded, run), batch_tokens, listed)):
            fresh = [prompt.key not in done for prompt, _ in batch.asked]
            if any(fresh) and number % world == rank:
                start, found = time.perf_counter(), batch.score(loaded, tokenizer, run, remember)
                seconds = round((time.perf_counter() - start) / len(found), 6)
                lines = [json.dumps(line | {"seconds": seconds}) for line, new in zip(found, fresh) if new]
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                bar.update(sum(fresh))
    if rank == 0:
        write_json(path.with_suffix(".meta.json"), about | listed | {"n_scored": len(prompts) - len(listed["skipped"])})


def _limit(loaded, run: Run) -> int:
    return min(run.protocol.max_context, loaded.config.max_position_embeddings)


@dataclass(frozen=True)
class Batch:
    """Prompts that go through the model together, each with its requests, and the tokens that all begin with."""

    common: tuple[int, ...]
    asked: list[tuple[Prompt, list[Request]]]

    def score(self, loaded, tokenizer, run: Run, remember: Callable) -> list[dict]:
        """The line of every prompt."""
        if run.protocol.reads:
            contexts = [requests[0].context for _, requests in self.asked]
            texts = model.written(loaded, tokenizer, contexts, run.protocol.max_new_tokens, run.protocol.samples,
                                  int(self.asked[0][0].digest, 16) % 2**31)
            return [reply_record(prompt, run, some) for (prompt, _), some in zip(self.asked, texts)]
        rows = [[Request(request.context[len(self.common):], request.options)]
                for _, requests in self.asked for request in requests]
        rows = [[request for row in rows for request in row]] if self.common else rows
        found = iter(model.loglikelihoods(loaded, rows, tokenizer.pad_token_id, remember(self.common)))
        return [record(prompt, run, [value for _ in requests for value in next(found)])
                for prompt, requests in self.asked]


def _batches(prompts: Prompts, tokenizer, limit: int, batch_tokens: int, listed: dict) -> Iterator[Batch]:
    """Batches of a run, which depend on its prompts alone; ids of cut and of unusable items go to `listed`."""
    for same_head, chunk in prompts.chunks():
        asked = [(prompt, requests) for prompt in chunk
                 if (requests := _usable(prompt, prompts.run.protocol, tokenizer, limit, listed))]
        contexts = [request.context for _, requests in asked for request in requests]
        shared = same_head and not prompts.run.protocol.reads
        common = tuple(commonprefix([context[:-1] for context in contexts])) if shared else ()
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


def _usable(prompt: Prompt, protocol: Protocol, tokenizer, limit: int, listed: dict | None) -> list[Request]:
    """An item's requests, cut on the left to the context of `limit` tokens; [] where it cannot be scored.

    Options share one context unless the tokenizer merges across the boundary, or they are cut by an amount that
    depends on the option; then each is a request of its own.
    """
    answers, item = protocol.answers(prompt.item), prompt.item
    room_for = protocol.max_new_tokens  # of a reply, where one is written
    pairs = _tokenised(prompt.text, answers, tokenizer, protocol.bos)
    rooms = [limit + 1 - max(len(option), room_for) for _, option in pairs]  # the last token is never read
    reason = ("an option is empty" if not all(answer.strip() for answer in answers) else
              "no right option" if item.answer not in range(len(answers)) else
              f"an option fills the context of {limit} tokens" if min(rooms) < 1 else None)
    too_long = any(len(context) > room for (context, _), room in zip(pairs, rooms))
    if too_long and protocol.reads:
        reason = reason or f"prompt and reply are longer than the context of {limit} tokens"
    if reason and listed is not None:
        listed["skipped"].append({"item_id": item.id, "seed": prompt.seed, "reason": reason})
    if reason:
        return []
    if too_long and listed is not None:
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
    bos = bos and not text.startswith(tokenizer.bos_token)  # chat templates have one
    front = [tokenizer.bos_token_id] if bos else []
    return [(front + ids[:len(first)], ids[len(first):]) for ids in whole]


def record(prompt: Prompt, run: Run, loglikelihoods: list[float]) -> dict:
    """One item's prediction; `choice` by summed log-likelihood (acc), `choice_norm` per character (acc_norm).

    `mass` is the share of the options' probability that the true ones have, where several are true.
    """
    item, several = prompt.item, run.protocol.right
    right = several(item) if several else [item.answer]
    lengths = [max(1, len(answer.removeprefix(" "))) for answer in run.protocol.answers(item)]
    choice, norm = int(np.argmax(loglikelihoods)), int(np.argmax(np.array(loglikelihoods) / lengths))
    share = np.exp(np.array(loglikelihoods) - max(loglikelihoods))
    return _line(prompt, run) | {
        "loglikelihoods": [round(value, 6) for value in loglikelihoods], "choice": choice, "choice_norm": norm,
        "gold": item.answer, "correct": choice in right, "correct_norm": norm in right, "parsed": None,
        **({"mass": round(share[right].sum() / share.sum(), 6)} if several else {})}


def reply_record(prompt: Prompt, run: Run, texts: list[str]) -> dict:
    """One item's prediction read out of what the model wrote; what cannot be read is wrong, and has no choice."""
    choice = replies.vote([run.protocol.reads(text, prompt.item.options) for text in texts])
    right = choice == prompt.item.answer
    return _line(prompt, run) | {
        "loglikelihoods": None, "choice": choice, "choice_norm": choice, "gold": prompt.item.answer, "correct": right,
        "correct_norm": right, "parsed": texts}


def _line(prompt: Prompt, run: Run) -> dict:
    return {"item_id": prompt.item.id, "benchmark": run.benchmark, "protocol": run.protocol.name, "shots": run.shots,
            "seed": prompt.seed, "sample": 0, "prompt_digest": prompt.digest}


def _about(prompts: Prompts, model_digest: str) -> dict:
    run = prompts.run
    return {"model_digest": model_digest, "protocol": run.protocol.name, "protocol_version": run.protocol.version,
            "shots": run.shots, "items_digest": items_digest(run.items), "n_items": len(run.items),
            "prompts_digest": prompts.digest}


def _finished(path: Path, prompts: Prompts, model_digest: str) -> bool:
    """Whether all lines are there; refuses those of something else."""
    _gather(path)
    if not path.exists():
        return False
    scored = _same(path, _about(prompts, model_digest)).get("n_scored")
    return path.read_bytes().count(b"\n") == scored


def _same(path: Path, about: dict) -> dict:
    """What stands beside `path` ({} if nothing); raises StudyError where it tells of something else."""
    meta = path.with_suffix(".meta.json")
    was = json.loads(meta.read_text()) if meta.exists() else {}
    for name in ("model_digest", "protocol_version", "items_digest", "prompts_digest"):
        if was and was[name] != about[name]:
            raise StudyError(f"{path} was made with another {name.replace('_', ' ')} ({was[name]!s:.12} there, "
                             f"{about[name]!s:.12} now): score again with --fresh 04, or use another study name")
    return was


def _resume(path: Path, about: dict) -> set[tuple[str, int]]:
    """Ids and seeds already scored; cuts a last line that a kill left half-written."""
    if not _same(path, about):
        write_json(path.with_suffix(".meta.json"), about)
        path.unlink(missing_ok=True)
    return _whole(path)


def _whole(path: Path) -> set[tuple[str, int]]:
    if not path.exists():
        return set()
    text = path.read_text()
    whole = text[:text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    lines = map(json.loads, whole.splitlines())
    return {(line["item_id"], line["seed"]) for line in lines}


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except StudyError as error:
        sys.exit(f"error: {error}")
