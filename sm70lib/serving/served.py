"""Asks a model on a server: a backend beside `models.backend.Local`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

from sm70lib.models.request import Request
from sm70lib.models.writing import TEMPERATURE
from sm70lib.serving.abilities import Abilities, probe
from sm70lib.serving.connection import Connection
from sm70lib.study.others import Server

FLOOR = -9999.0  # what vLLM writes where a log-probability is minus infinity, as JSON has none
UNBOUNDED = 2**31  # tokens, where the server does not say how many it reads

Case = TypeVar("Case")
Answer = TypeVar("Answer")


class Served:
    """A model on an OpenAI-compatible server.

    Args:
        name: the model's name in the study, for messages.
        server: where it runs.
        tokenizer: its tokenizer. None if only the server has it: then prompts are conversations,
            and options cannot be scored.
        parameter: the one that names the model, for messages.
    """

    def __init__(
        self, name: str, server: Server, tokenizer: Any = None, parameter: str = "eval_models"
    ):
        self.tokenizer = tokenizer
        self.at_once = server.at_once
        self._connection = Connection(name, server, parameter)

    @cached_property
    def abilities(self) -> Abilities:
        """What the server can do.

        Raises:
            StudyError: it does not answer, does not have the model, or has another tokenizer.
        """
        return probe(self._connection, self.tokenizer)

    @property
    def way(self) -> str:
        """The exact model and the server, which the predictions' `.meta.json` keeps."""
        return f"{self.abilities.model} on {self.abilities.server}"

    @property
    def remark(self) -> str:
        """How options are scored."""
        return f"by a server, {self.way}"

    @property
    def max_tokens(self) -> int:
        """Tokens of a prompt with its answer.

        The server reads an answer's last token too, and writes one more, since it writes at least
        one.
        """
        length = self.abilities.max_tokens
        return length - 2 if length else UNBOUNDED

    @property
    def rows(self) -> None:
        """Rows of the input embeddings, which no server tells; it refuses what it cannot read."""

    def require_scores(self, protocols: list[str]) -> None:
        """Checks that these protocols can be asked, which need the log-likelihoods of options.

        Raises:
            StudyError: as `abilities`, which are found out even if there is no such protocol; or
                they need log-probabilities, which the server does not give.
        """
        scores = self.abilities.scores
        if protocols and not scores:
            raise self._connection.error(
                "gives no log-probabilities of a prompt's tokens (prompt_logprobs, as vLLM does), "
                f"which {', '.join(protocols)} need; without tokenizer= it is asked only under "
                "protocols that read written answers"
            )

    def loglikelihoods(
        self, asked: Sequence[Request], common: Sequence[int] = ()
    ) -> list[list[float]]:
        """Scores every option of every request, each with a request of its own to the server.

        The server has to run without a prefix cache: with one, vLLM's values depend on the order of
        the requests (vllm-project/vllm, issue 42019).

        Args:
            asked: the requests.
            common: token ids that every context begins with, and that the requests leave out.

        Returns:
            Summed log-likelihoods (nats): one list per request, with one number per option.

        Raises:
            StudyError: the server stops answering, or gives no finite number.
        """
        cases = [
            ([*common, *request.context], option) for request in asked for option in request.options
        ]
        values = iter(self._all(self._sum, cases))
        return [[next(values) for _ in request.options] for request in asked]

    def plainly(self, asked: Sequence[Request]) -> list[list[float]]:
        """The same, one request after the other: no other one shares the server's batch."""
        with self._connection.as_study_error():
            return [
                [self._sum((request.context, option)) for option in request.options]
                for request in asked
            ]

    def written(
        self,
        prompts: Sequence[list[int] | str],
        max_new_tokens: int,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[str]]:
        """The texts that the model writes after each prompt.

        Args:
            prompts: token ids; or a conversation, as JSON text of its messages.
            max_new_tokens: most tokens of a text.
            samples: 1 for greedy text; more for as many draws.
            seed: seed of the first draw; the next ones have the seeds that follow.

        Returns:
            For each prompt its `samples` texts.

        Raises:
            StudyError: the server stops answering.
        """
        temperature = TEMPERATURE if samples > 1 else 0.0
        cases = [
            (prompt, {"temperature": temperature, "seed": seed + draw}, max_new_tokens)
            for prompt in prompts
            for draw in range(samples)
        ]
        texts = self._all(self._text, cases)
        return [texts[start : start + samples] for start in range(0, len(texts), samples)]

    def _all(self, ask: Callable[[Case], Answer], cases: list[Case]) -> list[Answer]:
        """Asks all cases, some at the same time, and returns the answers in the cases' order."""
        with self._connection.as_study_error(), ThreadPoolExecutor(self.at_once) as pool:
            waiting = [pool.submit(ask, case) for case in cases]
            try:
                return [each.result() for each in waiting]
            except BaseException:
                pool.shutdown(cancel_futures=True)  # or the rest would still be sent
                raise

    def _sum(self, case: tuple[list[int], list[int]]) -> float:
        """The summed log-likelihood (nats) of an option after a context."""
        context, option = case
        places = self._connection.prompt_logprobs([*context, *option]) or []
        of_option = places[len(context) :]
        try:
            values = [
                (place or {})[str(token)]["logprob"]
                for place, token in zip(of_option, option, strict=True)
            ]
        except (KeyError, ValueError):
            raise self._connection.error(
                "left out log-probabilities of tokens that it was asked for"
            ) from None
        if not all(math.isfinite(value) and value > FLOOR for value in values):
            raise self._connection.error(
                f"gave {min(values)} for a log-probability, which stands for minus infinity; serve "
                "the model in another type (--dtype float32 or bfloat16)"
            )
        return math.fsum(values)

    def _text(self, case: tuple[list[int] | str, dict[str, Any], int]) -> str:
        """The text that follows a prompt."""
        prompt, how, max_new_tokens = case
        if isinstance(prompt, str):
            how = how | {self.abilities.limit: max_new_tokens}
            text, _ = self._connection.replied(json.loads(prompt), **how)
        else:
            text = self._connection.continued(prompt, max_tokens=max_new_tokens, **how)
        return text.strip()
