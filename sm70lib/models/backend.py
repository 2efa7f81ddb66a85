"""Who answers what scoring asks, such as a model on this machine.

A backend answers two questions, the log-likelihoods of options and text. `Local` asks a model of
transformers: packed if that was proved right (`proof`), else plainly. `serving.served.Served` asks
a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol

from sm70lib.models import local, packed, plain, writing
from sm70lib.models.proof import PLAIN, Proof, prove
from sm70lib.models.request import Request

UNSTATED = 4096  # tokens of a model whose configuration states no limit


class Backend(Protocol):
    """What scoring asks of a model, wherever it runs."""

    tokenizer: Any  # of the model; None if only a server has it

    @property
    def max_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""

    @property
    def rows(self) -> int | None:
        """Rows of the input embeddings; None if only a server knows them."""

    @property
    def way(self) -> str:
        """How the model is asked, which the predictions' `.meta.json` keeps unless it is PACKED."""

    @property
    def remark(self) -> str:
        """How options are scored, for the record of items scored again; "" if PACKED."""

    def loglikelihoods(
        self, asked: Sequence[Request], common: Sequence[int] = ()
    ) -> list[list[float]]:
        """Summed log-likelihoods (nats) of every option; `common` comes before every context."""

    def plainly(self, asked: Sequence[Request]) -> list[list[float]]:
        """The same in the slowest and surest way, as a check."""

    def written(
        self, prompts: Sequence[Any], max_new_tokens: int, samples: int = 1, seed: int = 0
    ) -> list[list[str]]:
        """The texts that follow each prompt: token ids, or a conversation (see `Request`)."""


class Local:
    """A model on this machine.

    Args:
        model: The model, with its adapter if it has one.
        tokenizer: Its tokenizer.
        longest: Tokens of the longest prompt that will be asked, with its answer.
    """

    def __init__(self, model, tokenizer, longest: int = 4096):
        self.model = model
        self.tokenizer = tokenizer
        self._longest = min(longest, self.max_tokens)
        self._remembered = lru_cache(maxsize=1)(lambda common: local.remember(model, common))

    @property
    def max_tokens(self) -> int:
        """Tokens that the model can read; UNSTATED where its configuration does not say."""
        config = self.model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or UNSTATED

    @property
    def rows(self) -> int:
        """Rows of the input embeddings: the model reads no token id from there on."""
        return self.model.get_input_embeddings().weight.shape[0]

    @cached_property
    def proof(self) -> Proof:
        """How this model is scored, found by scoring random prompts both ways."""
        return prove(self.model, self._longest)

    @property
    def way(self) -> str:
        """PACKED or PLAIN."""
        return self.proof.way

    @property
    def remark(self) -> str:
        """Why the model is scored plainly; "" if it is scored packed."""
        return f"plainly, as {self.proof.reason}" if self.way == PLAIN else ""

    def loglikelihoods(
        self, asked: Sequence[Request], common: Sequence[int] = ()
    ) -> list[list[float]]:
        """Scores every option of every request.

        Args:
            asked: The requests.
            common: Token ids that every context begins with, and that the requests leave out.

        Returns:
            Summed log-likelihoods (nats): one list per request, with one number per option.
        """
        if self.way == PLAIN:
            return plain.loglikelihoods(self.model, asked, common)
        return local.loglikelihoods(self.model, asked, self._remembered(tuple(common)))

    def plainly(self, asked: Sequence[Request]) -> list[list[float]]:
        """Scores every option by a forward pass of its own."""
        return plain.loglikelihoods(self.model, asked)

    def written(
        self, prompts: Sequence[list[int]], max_new_tokens: int, samples: int = 1, seed: int = 0
    ) -> list[list[str]]:
        """The texts that the model writes after each prompt (see `writing.written`)."""
        packed.leave(self.model)
        return writing.written(self.model, self.tokenizer, prompts, max_new_tokens, samples, seed)
