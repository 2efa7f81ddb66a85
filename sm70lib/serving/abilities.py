"""What a server can do, found by a few small requests and not by its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import openai

from sm70lib.serving.connection import Connection

# Digits, capitals, a line break, two blanks and a sign outside ASCII tell tokenizers apart
PROBE = "The patient, aged 67,\nhas  fever (39.4 °C). Diagnosis:"
GREETING = [{"role": "user", "content": "Hello"}]
# The argument that limits a reply in a chat; newer hosted models refuse the older name.
LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Abilities:
    """What a server has and can do.

    Attributes:
        model: the exact id of the model.
        server: name and version of the server, as far as it tells them.
        max_tokens: tokens of the longest sequence; None if the server does not say.
        scores: whether it gives the log-probabilities of a prompt's tokens.
        limit: the argument that limits a reply in a chat.
    """

    model: str
    server: str
    max_tokens: int | None = None
    scores: bool = False
    limit: str = LIMITS[0]


def probe(connection: Connection, tokenizer: Any) -> Abilities:
    """Finds out what a server can do with a model.

    Args:
        connection: the connection to it.
        tokenizer: the model's tokenizer; None if only the server has it.

    Raises:
        StudyError: the server does not answer, does not have the model, or has another tokenizer;
            or its key is not there.
    """
    connection.require_key()
    with connection.as_study_error():
        listed = _listed(connection)
        if tokenizer is None:
            return _by_chat(connection, listed)
        return replace(listed, scores=_scores(connection, tokenizer))


def _listed(connection: Connection) -> Abilities:
    """What the server's list of models says; a server without a list is asked all the same."""
    wanted = connection.server.model
    try:
        cards = {card.id: card for card in connection.client.models.list()}
    except openai.NotFoundError:
        return Abilities(wanted, "a server")
    if wanted not in cards:
        offered = ", ".join(sorted(cards)[:20]) or "none"
        raise connection.error(f"has no model {wanted}; its models are {offered}")
    card = cards[wanted]
    version = _version(connection)
    return Abilities(
        wanted,
        f"{card.owned_by} {version}".strip(),
        getattr(card, "max_model_len", None),
    )


def _version(connection: Connection) -> str:
    """The server's version, where it tells it as vLLM does, beside /v1; else ""."""
    root = str(connection.client.base_url).rstrip("/").removesuffix("/v1")
    client = connection.client.with_options(base_url=root, max_retries=0)
    try:
        return str(client.get("/version", cast_to=dict[str, Any])["version"])
    except (openai.OpenAIError, KeyError, TypeError, ValueError):
        return ""


def _by_chat(connection: Connection, listed: Abilities) -> Abilities:
    """What a reply to a greeting shows: the exact id, and which argument limits a reply."""
    for limit in LIMITS:
        try:
            _, exact = connection.replied(GREETING, **{limit: 16})
            return replace(listed, model=exact or listed.model, limit=limit)
        except openai.BadRequestError as error:
            if limit == LIMITS[-1] or LIMITS[-1] not in error.message:
                raise
    raise AssertionError("the last attempt returns or raises")


def _scores(connection: Connection, tokenizer: Any) -> bool:
    """Whether the server gives log-probabilities of a prompt, and reads it as this tokenizer does.

    The server makes tokens of a text by itself; the answer names each by its id.
    """
    places = connection.prompt_logprobs(PROBE)
    if not places:
        return False
    theirs = [int(token) for place in places[1:] if place for token in place]
    ours = tokenizer(PROBE)["input_ids"][1:]
    if theirs != ours:
        raise connection.error(
            f"splits a text into other tokens ({theirs[:4]}...) than tokenizer="
            f"{tokenizer.name_or_path} does ({ours[:4]}...); name the tokenizer of the model that "
            "it serves"
        )
    return True
