"""Whether a model's tokenizer fits it, and what begins and ends its texts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers import GenerationConfig, PretrainedConfig

from sm70lib.corpus.templates import asked_in_chat, chat_template_of
from sm70lib.models import loading, writing
from sm70lib.study.params import StudyError

QUESTION = "What is two and two?"


def check(name: str, rows: int | None, key: str, chat: bool):
    """Looks at a tokenizer.

    Args:
        name: Folder or hub name of the tokenizer.
        rows: Rows of the model's input embeddings; None where only its server knows them.
        key: The parameter that names it.
        chat: Whether the model is asked in its chat template.

    Returns:
        The tokenizer.

    Raises:
        StudyError: If it cannot be read, has tokens that the model does not know, or its chat
            template does not render a question.
    """
    try:
        tokenizer = loading.load_tokenizer(name)
    # What is wrong in these files shows itself as any kind of error, Rust's among them.
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise StudyError(
            f"{key}: the tokenizer of {name} cannot be read ({first}); its files belong into the "
            "folder, as save_pretrained writes them"
        ) from None
    if rows is not None:
        _require_known(tokenizer, name, rows, key)
    if chat and chat_template_of(tokenizer) and QUESTION not in _rendered(tokenizer, name, key):
        raise StudyError(
            f"{key}: chat=yes, but the chat template of {name} leaves the question out"
        )
    return tokenizer


def _require_known(tokenizer, name: str, rows: int, key: str) -> None:
    """Raises StudyError if a tokenizer has tokens that the model does not know."""
    unknown = _unknown(tokenizer, rows)
    if unknown:
        raise StudyError(
            f"{key}: the tokenizer of {name} has {len(unknown)} tokens for which the model has no "
            f"embedding ({rows:,} rows), such as {min(unknown)!r}; give the tokenizer of the model"
        )


def _unknown(tokenizer, rows: int) -> list[str]:
    """The tokens of texts for which a model has no embedding.

    A special token that nothing writes is none of them, as the one that stands for an image. An
    item that spells it out is left out (`asking.fitting`), and in rows it is text or a defect.
    """
    beyond = {text: number for text, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return []
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}
    special.add(tokenizer.pad_token_id)  # it is masked, wherever it stands
    return [text for text, number in beyond.items() if number not in special - _written(tokenizer)]


def _written(tokenizer) -> set[int | None]:
    """The ids that stand around texts: at both ends, and what the chat template writes."""
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    text = QUESTION
    if chat_template_of(tokenizer):
        talk = [{"role": "user", "content": QUESTION}]
        with suppress(TemplateError, TypeError, ValueError):  # `_rendered` refuses it, if it counts
            text = asked_in_chat(tokenizer, talk)
    return {*ends, *tokenizer(text)["input_ids"]}


def _rendered(tokenizer, name: str, key: str) -> str:
    talk = [{"role": "user", "content": QUESTION}]
    try:
        return asked_in_chat(tokenizer, talk)
    except (TemplateError, TypeError, ValueError) as error:
        raise StudyError(
            f"{key}: chat=yes, but the chat template of {name} renders no question "
            f"({str(error).strip().splitlines()[0][:150]})"
        ) from None


def words(tokenizer, folder: Path, config: PretrainedConfig, chat: bool) -> list[str]:
    """What begins and ends a text of the model, in a few words each."""
    if (folder / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(str(folder))
    else:
        generation = GenerationConfig.from_model_config(config)
    ends = writing.end_tokens(generation, tokenizer)
    begin = f"begins with {tokenizer.bos_token}" if tokenizer.bos_token else "has no BOS"
    parts = [begin, f"ends at {' or '.join(map(str, tokenizer.convert_ids_to_tokens(ends)))}"]
    if chat:
        own = (
            "its chat template" if chat_template_of(tokenizer) else "Med42's words, as it has none"
        )
        parts.append(f"asked in {own}")
    return parts
