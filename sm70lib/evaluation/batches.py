"""What a model is asked: a run's prompts, made when they are needed, in batches that depend on the prompts alone.

Prompts become tokens a few hundred at a time, so that memory does not grow with the number of items; what prompts
have in common is computed once, and each answer comes back as the line that the prediction file holds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix

import numpy as np
from jinja2.exceptions import TemplateError

from sm70lib.benchmarks import Item
from sm70lib.corpus.prompts import beginning, chat_ids, prompt_ids, response_ids
from sm70lib.models import loading
from sm70lib.models.loading import Request
from sm70lib.protocols import replies
from sm70lib.protocols.protocol import Protocol

CHUNK = 256  # prompts that are tokens at one time
SHARED = 32  # tokens that prompts must have in common for their keys and values to be kept


@dataclass(frozen=True, eq=False)
class Run:
    """One thing to score: a benchmark under a protocol with some shots, and where these come from.

    `template` is the study's (`data_template`): protocols that let the model write ask in it.
    """

    benchmark: str
    protocol: Protocol
    shots: int
    items: list[Item]
    pool: list[Item]
    template: str = ""

    @property
    def name(self) -> str:
        """The stem of its prediction files."""
        return f"{self.benchmark}-{self.protocol.name}-{self.shots}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The protocol's seeds where they change something: shots, or TruthfulQA's order of options."""
        return self.protocol.seeds if self.shots or self.benchmark == "truthfulqa" else self.protocol.seeds[:1]


@dataclass(frozen=True)
class Prompt:
    """What one line answers: the item as it is asked, seed of its shots, its text and its head.

    `head` is the part before the question, `answers` are what may follow the text, and `chat` says
    that the text stands in a chat template.
    """

    item: Item
    seed: int
    head: str
    text: str
    answers: list[str]
    chat: bool = False

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
    words where it has none, and not in the study's template.
    """

    def __init__(self, run: Run, tokenizer, chat: bool = False):
        self.run, self.tokenizer = run, tokenizer if chat or run.protocol.chat else None
        self.keys = [(place, seed) for seed in run.seeds for place in range(len(run.items))]
        self.shots = {seed: run.protocol.drawn(run.items, run.shots, run.pool, seed) for seed in run.seeds}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Prompt:
        place, seed = self.keys[number]
        item, protocol = self.run.items[place], self.run.protocol
        shots = [protocol.view(shot, seed) for shot in self.shots[seed][item.id]]
        asked, chat = protocol.view(item, seed), self.tokenizer is not None
        if chat:
            text = _as_chat(self.tokenizer, protocol.said(asked, shots), protocol.prompt(asked, shots))
        else:
            text = protocol.prompt(asked, shots, self.run.template)
        answers = protocol.continuations(asked, shots, chat, None if chat else self.run.template)
        return Prompt(asked, seed, protocol.head(asked, shots), text, answers, chat)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all texts."""
        return hashlib.sha256("".join(prompt.digest for prompt in self).encode()).hexdigest()

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


def _as_chat(tokenizer, said: list[dict[str, str]], text: str) -> str:
    """The messages in the tokenizer's template; `text`, which says the same, where it has none."""
    if tokenizer.chat_template:
        try:
            return _templated(tokenizer, said)
        except TemplateError:  # some refuse a system message, and the harness then leaves it out
            return _templated(tokenizer, [one for one in said if one["role"] != "system"])
    # github:m42-health/med42, model card of Med42-v1 (arXiv 2404.14779)
    return ("<|system|>: You are a helpful medical assistant created by M42 Health in the UAE.\n"
            f"<|prompter|>:{text}\n<|assistant|>:")


def _templated(tokenizer, said: list[dict[str, str]]) -> str:
    return tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)


# ---- batches and lines ------------------------------------------------------------------------------


def limit(loaded, run: Run) -> int:
    """Tokens of a prompt with its answer that protocol and model allow."""
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
            texts = loading.written(loaded, tokenizer, contexts, run.protocol.max_new_tokens, run.protocol.samples,
                                  int(self.asked[0][0].digest, 16) % 2**31)
            return [reply_record(prompt, run, some) for (prompt, _), some in zip(self.asked, texts)]
        rest = [Request(request.context[len(self.common):], request.options)
                for _, requests in self.asked for request in requests]
        found = iter(loading.loglikelihoods(loaded, rest, remember(self.common)))
        return [record(prompt, run, [value for _ in requests for value in next(found)])
                for prompt, requests in self.asked]


def batched(prompts: Prompts, tokenizer, limit: int, batch_tokens: int, listed: dict) -> Iterator[Batch]:
    """Batches of a run, which depend on its prompts alone; ids of cut and of unusable items go to `listed`."""
    for same_head, chunk in prompts.chunks():
        asked = [(prompt, requests) for prompt in chunk
                 if (requests := usable(prompt, prompts.run.protocol, tokenizer, limit, listed))]
        contexts = [request.context for _, requests in asked for request in requests]
        shared = same_head and not prompts.run.protocol.reads
        common = tuple(commonprefix([context[:-1] for context in contexts])) if shared else ()
        common = common if len(common) >= SHARED else ()
        together, tokens = [], 0
        for one in asked:
            own = _tokens(one[1], prompts.run.protocol, len(common))
            if together and tokens + own > batch_tokens:
                yield Batch(common, together)
                together, tokens = [], 0
            together, tokens = [*together, one], tokens + own
        if together:
            yield Batch(common, together)


def _tokens(requests: list[Request], protocol: Protocol, common: int) -> int:
    """Tokens of an item in memory at one time: of its requests, or of all that is read and written."""
    if protocol.reads:
        return protocol.samples * (len(requests[0].context) + protocol.max_new_tokens)
    return sum(request.length - common for request in requests)


def usable(prompt: Prompt, protocol: Protocol, tokenizer, limit: int, listed: dict | None) -> list[Request]:
    """An item's requests, cut on the left to the context of `limit` tokens; [] where it cannot be scored.

    Options share one context unless they are cut by an amount that depends on the option; then
    each is a request of its own. The cut takes the BOS first, as in the harness. Where the model
    writes, nothing is cut and the one request has no options.
    """
    answers, item = prompt.answers, prompt.item
    room_for = protocol.max_new_tokens  # of a reply, where one is written
    pairs = ([(_read(prompt, tokenizer), [])] if protocol.reads else
             _as_in_training(prompt, tokenizer) if protocol.in_template else
             _tokenised(prompt.text, answers, tokenizer, protocol.bos))
    rooms = [limit + 1 - max(len(option), room_for) for _, option in pairs]  # the last token is never read
    too_long = any(len(context) > room for (context, _), room in zip(pairs, rooms))
    reason = ("an option is empty" if not all(answer.strip() for answer in answers) else
              "no right option" if item.answer not in range(len(answers)) else
              f"prompt and reply are longer than the context of {limit} tokens"
              if protocol.reads and too_long else
              f"an option fills the context of {limit} tokens" if min(rooms) < 1 else
              "an option merges with the prompt into one token"
              if not protocol.reads and not all(option for _, option in pairs) else None)
    if reason and listed is not None:
        listed["skipped"].append({"item_id": item.id, "seed": prompt.seed, "reason": reason})
    if reason:
        return []
    if too_long and listed is not None:
        listed["cut"].append(item.id)
    if protocol.reads:
        return [Request(pairs[0][0], [])]
    contexts = [context[-room:] for (context, _), room in zip(pairs, rooms)]
    if all(context == contexts[0] for context in contexts):
        return [Request(contexts[0], [option for _, option in pairs])]
    return [Request(context, [option]) for context, (_, option) in zip(contexts, pairs)]


def _read(prompt: Prompt, tokenizer) -> list[int]:
    """The tokens after which a model writes: those of a training row's prompt, or of a chat."""
    if prompt.chat:
        return chat_ids(prompt.text, tokenizer)
    return prompt_ids([prompt.text], tokenizer)[0]


def _as_in_training(prompt: Prompt, tokenizer) -> list[tuple[list[int], list[int]]]:
    """Prompt and each answer as tokens, made apart, as those of a training row are."""
    context = _read(prompt, tokenizer)
    return [(context, ids) for ids in response_ids(prompt.answers, tokenizer)]


def _tokenised(text: str, answers: list[str], tokenizer, bos: str) -> list[tuple[list[int], list[int]]]:
    """Prompt and each answer as tokens, to score: made together, split by count, as in the harness.

    As there, white space at the end of a prompt belongs to the answer, and what stands before the
    answer are the tokens of the prompt alone, even where the tokenizer would merge the two. `bos`
    is the protocol's.
    """
    start = text.rstrip()
    first, *whole = tokenizer([start, *(text + answer for answer in answers)], add_special_tokens=False)["input_ids"]
    context = [*beginning(start, tokenizer, bos), *first]
    return [(context, ids[len(first):]) for ids in whole]


def record(prompt: Prompt, run: Run, loglikelihoods: list[float]) -> dict:
    """One item's prediction; `choice` by summed log-likelihood (acc), `choice_norm` per character (acc_norm).

    `mass` is the share of the options' probability that the true ones have, where several are true.
    """
    item, several = prompt.item, run.protocol.right
    right = several(item) if several else [item.answer]
    lengths = [max(1, len(answer.removeprefix(" "))) for answer in prompt.answers]
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
