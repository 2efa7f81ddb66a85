"""A run's prompts in batches, which depend on the prompts alone.

Prompts become tokens a few hundred at a time, so that memory does not grow with the number of
items. What prompts have in common is computed once. Each answer comes back as the line that the
prediction file holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os.path import commonprefix

from sm70lib.asking.fitting import usable
from sm70lib.asking.prompts import Prompt, Prompts
from sm70lib.asking.runs import Run
from sm70lib.evaluation.lines import record, reply_record
from sm70lib.models.backend import Backend
from sm70lib.models.request import Request
from sm70lib.protocols.protocol import Protocol

SHARED = 32  # tokens that prompts must have in common for their keys and values to be kept


def limit(backend: Backend, run: Run) -> int:
    """The number of tokens that protocol and model allow for a prompt with its answer."""
    return min(run.protocol.max_context, backend.max_tokens)


@dataclass(frozen=True)
class Batch:
    """Prompts that go through the model together.

    `common` holds the tokens that all of them begin with, and `asked` each prompt with its
    requests.
    """

    common: tuple[int, ...]
    asked: list[tuple[Prompt, list[Request]]]

    def score(self, backend: Backend, run: Run) -> list[dict]:
        """Scores the batch.

        Args:
            backend: who answers.
            run: what the prompts belong to.

        Returns:
            The line of every prompt.
        """
        if run.protocol.reads:
            return self._written(backend, run)
        return self._scored(backend, run)

    def _written(self, backend: Backend, run: Run) -> list[dict]:
        """Lets the model write, and reads its choices from the texts."""
        contexts = [requests[0].conversation or requests[0].context for _, requests in self.asked]
        first_prompt, _ = self.asked[0]
        seed = int(first_prompt.digest, 16) % 2**31
        protocol = run.protocol
        texts = backend.written(contexts, protocol.max_new_tokens, protocol.samples, seed)
        return [
            reply_record(prompt, run, replies) for (prompt, _), replies in zip(self.asked, texts)
        ]

    def _scored(self, backend: Backend, run: Run) -> list[dict]:
        """Reads the choices from the likelihoods of the options."""
        after_common = [
            Request(request.context[len(self.common) :], request.options)
            for _, requests in self.asked
            for request in requests
        ]
        scores = iter(backend.loglikelihoods(after_common, self.common))
        lines = []
        for prompt, requests in self.asked:
            sums = [next(scores) for _ in requests]
            line = record(prompt, run, of_item(requests, sums, run.protocol))
            if run.protocol.counts_tokens:
                line["tokens"] = [len(option) for each in requests for option in each.options]
            lines.append(line)
        return lines


def of_item(requests: list[Request], sums: list[list[float]], protocol: Protocol) -> list[float]:
    """The scores of an item's options (nats): summed, or per token if the protocol says so."""
    scores = []
    for request, values in zip(requests, sums):
        for option, value in zip(request.options, values):
            scores.append(value / len(option) if protocol.per_token else value)
    return scores


def batched(
    prompts: Prompts,
    tokenizer,
    limit: int,
    batch_tokens: int,
    listed: dict,
    rows: int | None = None,
) -> Iterator[Batch]:
    """Cuts the prompts of a run into batches.

    The batches depend on the prompts alone, not on what has been scored already.

    Args:
        prompts: the prompts of the run.
        tokenizer: the model's tokenizer.
        limit: tokens that a prompt may have with its answer.
        batch_tokens: tokens that a batch may have; a longer prompt is a batch of its own.
        listed: receives the items that are left out (`skipped`) and the ids of those that are cut
            (`cut`).
        rows: rows of the model's input embeddings; None if only its server knows them.

    Yields:
        One batch after the other.
    """
    protocol = prompts.run.protocol
    for same_head, chunk in prompts.chunks():
        asked = []
        for prompt in chunk:
            requests = usable(prompt, protocol, tokenizer, limit, listed, rows)
            if requests:
                asked.append((prompt, requests))
        common = _common(asked) if same_head and not protocol.reads else ()
        yield from _filled(asked, protocol, common, batch_tokens)


def _common(asked: list[tuple[Prompt, list[Request]]]) -> tuple[int, ...]:
    """The tokens that all contexts begin with; () for fewer than SHARED.

    The last token of a context is never among them, as the model still has to read it.
    """
    contexts = [request.context for _, requests in asked for request in requests]
    common = tuple(commonprefix([context[:-1] for context in contexts]))
    return common if len(common) >= SHARED else ()


def _filled(
    asked: list[tuple[Prompt, list[Request]]],
    protocol: Protocol,
    common: tuple[int, ...],
    batch_tokens: int,
) -> Iterator[Batch]:
    """Fills one batch after the other with as many prompts as `batch_tokens` allow."""
    together: list[tuple[Prompt, list[Request]]] = []
    tokens = 0
    for prompt, requests in asked:
        own = _tokens(requests, protocol, len(common))
        if together and tokens + own > batch_tokens:
            yield Batch(common, together)
            together, tokens = [], 0
        together.append((prompt, requests))
        tokens += own
    if together:
        yield Batch(common, together)


def _tokens(requests: list[Request], protocol: Protocol, common: int) -> int:
    """Tokens that an item has in memory at one time.

    They are the tokens of its requests after the `common` ones. If the model writes, they are all
    that it reads and writes. Those of a conversation are estimated, at four characters a token.
    """
    if protocol.reads:
        read = len(requests[0].context) or len(requests[0].conversation) // 4
        return protocol.samples * (read + protocol.max_new_tokens)
    return sum(request.length - common for request in requests)
