"""A connection to a model on an OpenAI-compatible server: its requests, and its errors in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from sm70lib.serving import keys
from sm70lib.study.others import Server
from sm70lib.study.params import StudyError

RETRIES = 6  # with growing pauses between them, by the client
SECONDS = 600.0  # that one answer may take
SHOWN = 200  # characters of the server's own words
KEY_ERRORS = (openai.AuthenticationError, openai.PermissionDeniedError)


class Connection:
    """The requests that one model of a server is sent.

    Args:
        name: the model's name in the study, for messages.
        server: the server.
        parameter: the one that names the model, for messages.
    """

    def __init__(self, name: str, server: Server, parameter: str = "eval_models"):
        self.parameter = parameter
        self.name = name
        self.server = server
        self._key = os.environ.get(server.key, "")
        self.client = openai.OpenAI(
            base_url=os.environ.get(keys.REHEARSAL, server.url),
            api_key=self._key or "none",  # the client wants one, and a server of one's own has none
            max_retries=RETRIES,
            timeout=SECONDS,
        )

    def require_key(self) -> None:
        """Raises StudyError if the line names a variable for the key that is not set."""
        keys.require(self.server, f"{self.parameter}: {self.name}")

    @contextmanager
    def as_study_error(self) -> Iterator[None]:
        """Turns an error of the server or the network into a StudyError of one sentence."""
        try:
            yield
        except openai.APIConnectionError:
            raise self.error(f"does not answer; start it, or take {self.name} out") from None
        except openai.APIStatusError as error:
            words = " ".join(error.message.split())
            if self._key:
                words = words.replace(self._key, "...")
            hint = f" (the key is read from {self.server.key})"
            asked = hint if isinstance(error, KEY_ERRORS) else ""
            raise self.error(f"answered {error.status_code}: {words[:SHOWN]}{asked}") from None

    def error(self, what: str) -> StudyError:
        """A StudyError that names the model and the server, and says what is kept."""
        return StudyError(
            f"{self.parameter}: {self.name}: the server at {self.server.url} {what}. All that has "
            "been scored is kept; run 04 again to go on"
        )

    def prompt_logprobs(self, prompt: str | list[int]) -> list[dict[str, Any] | None] | None:
        """The log-probability of each token of a prompt, given the tokens before it.

        OpenAI's interface has no such request; vLLM adds it as `prompt_logprobs`.

        Args:
            prompt: text, or token ids.

        Returns:
            For each token a dictionary with one entry, whose key is the token's id as text and
            whose value has `logprob` (nats); None for the first token, which nothing precedes.
            None as a whole if the server does not give them.
        """
        answer = self.client.completions.create(
            model=self.server.model,
            prompt=prompt,
            max_tokens=1,
            temperature=0,
            extra_body={"prompt_logprobs": 0},
        )
        return getattr(answer.choices[0], "prompt_logprobs", None)

    def continued(self, prompt: list[int], **how: Any) -> str:
        """The text that the model writes after token ids."""
        answer = self.client.completions.create(model=self.server.model, prompt=prompt, **how)
        return answer.choices[0].text

    def replied(self, messages: list[dict[str, str]], **how: Any) -> tuple[str, str]:
        """The model's reply to a conversation, and the exact id of the model that replied."""
        answer = self.client.chat.completions.create(
            model=self.server.model, messages=messages, **how
        )
        return answer.choices[0].message.content or "", answer.model
