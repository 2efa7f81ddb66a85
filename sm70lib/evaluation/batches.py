"""What a model is asked: a run's prompts, made when they are needed, in batches that depend on the prompts alone.

Prompts become tokens a few hundred at a time, so that memory does not grow with the number of items; what prompts
have in common is computed once, and each answer comes back as the line that the prediction file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os.path import commonprefix

from sm70lib.corpus.tokens import beginning, chat_ids, prompt_ids, response_ids
from sm70lib.evaluation.asking import Prompt, Prompts
from sm70lib.evaluation.lines import record, reply_record
from sm70lib.evaluation.runs import Run
from sm70lib.models import local
from sm70lib.models.local import Request
from sm70lib.protocols.protocol import Protocol

SHARED = 32  # tokens that prompts must have in common for their keys and values to be kept


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
            texts = local.written(
                loaded,
                tokenizer,
                contexts,
                run.protocol.max_new_tokens,
                run.protocol.samples,
                int(self.asked[0][0].digest, 16) % 2**31,
            )
            return [reply_record(prompt, run, some) for (prompt, _), some in zip(self.asked, texts)]
        rest = [
            Request(request.context[len(self.common) :], request.options)
            for _, requests in self.asked
            for request in requests
        ]
        found = iter(local.loglikelihoods(loaded, rest, remember(self.common)))
        return [
            record(prompt, run, [value for _ in requests for value in next(found)])
            for prompt, requests in self.asked
        ]


def batched(
    prompts: Prompts, tokenizer, limit: int, batch_tokens: int, listed: dict
) -> Iterator[Batch]:
    """Batches of a run, which depend on its prompts alone; ids of cut and of unusable items go to `listed`."""
    for same_head, chunk in prompts.chunks():
        asked = [
            (prompt, requests)
            for prompt in chunk
            if (requests := usable(prompt, prompts.run.protocol, tokenizer, limit, listed))
        ]
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


def usable(
    prompt: Prompt, protocol: Protocol, tokenizer, limit: int, listed: dict | None
) -> list[Request]:
    """An item's requests, cut on the left to the context of `limit` tokens; [] where it cannot be scored.

    Options share one context unless they are cut by an amount that depends on the option; then
    each is a request of its own. The cut takes the BOS first, as in the harness. Where the model
    writes, nothing is cut and the one request has no options.
    """
    answers, item = prompt.answers, prompt.item
    room_for = protocol.max_new_tokens  # of a reply, where one is written
    pairs = (
        [(_read(prompt, tokenizer), [])]
        if protocol.reads
        else _as_in_training(prompt, tokenizer)
        if protocol.in_template
        else _tokenised(prompt.text, answers, tokenizer, protocol.bos)
    )
    rooms = [
        limit + 1 - max(len(option), room_for) for _, option in pairs
    ]  # the last token is never read
    too_long = any(len(context) > room for (context, _), room in zip(pairs, rooms))
    reason = (
        "an option is empty"
        if not all(answer.strip() for answer in answers)
        else "no right option"
        if item.answer not in range(len(answers))
        else f"prompt and reply are longer than the context of {limit} tokens"
        if protocol.reads and too_long
        else f"an option fills the context of {limit} tokens"
        if min(rooms) < 1
        else "an option merges with the prompt into one token"
        if not protocol.reads and not all(option for _, option in pairs)
        else None
    )
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


def _tokenised(
    text: str, answers: list[str], tokenizer, bos: str
) -> list[tuple[list[int], list[int]]]:
    """Prompt and each answer as tokens, to score: made together, split by count, as in the harness.

    As there, white space at the end of a prompt belongs to the answer, and what stands before the
    answer are the tokens of the prompt alone, even where the tokenizer would merge the two. `bos`
    is the protocol's.
    """
    start = text.rstrip()
    first, *whole = tokenizer(
        [start, *(text + answer for answer in answers)], add_special_tokens=False
    )["input_ids"]
    context = [*beginning(start, tokenizer, bos), *first]
    return [(context, ids[len(first) :]) for ids in whole]
