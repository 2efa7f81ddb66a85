"""What a model is asked for: how likely each option is behind a prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """Token ids of a prompt, and of each option that could follow it (at least one token each).

    If only a server has the tokenizer, there are no token ids. `conversation` then holds the
    messages as JSON text.
    """

    context: list[int]
    options: list[list[int]]
    conversation: str = ""

    @property
    def length(self) -> int:
        """Tokens that go through the model; an option's last token is only predicted."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)
