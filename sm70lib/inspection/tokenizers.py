"""Whether a model's tokenizer fits it, and what begins and ends its texts."""

from __future__ import annotations

from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers import GenerationConfig, PretrainedConfig

from sm70lib.corpus.templates import asked_in_chat
from sm70lib.models import loading, writing
from sm70lib.study.params import StudyError

QUESTION = "What is two and two?"


def check(name: str, rows: int, key: str, chat: bool):
    """Looks at a tokenizer.

    Args:
        name: Folder or hub name of the tokenizer.
        rows: Rows of the model's input embeddings.
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
    unknown = {text: number for text, number in tokenizer.get_vocab().items() if number >= rows}
    unknown.pop(tokenizer.pad_token, None)  # it is masked, wherever it stands
    if unknown:
        raise StudyError(
            f"{key}: the tokenizer of {name} has {len(unknown)} tokens for which the model has no "
            f"embedding ({rows:,} rows), such as {min(unknown)!r}; give the tokenizer of the model"
        )
    if chat and tokenizer.chat_template and QUESTION not in _rendered(tokenizer, name, key):
        raise StudyError(
            f"{key}: chat=yes, but the chat template of {name} leaves the question out"
        )
    return tokenizer


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
        own = "its chat template" if tokenizer.chat_template else "Med42's words, as it has none"
        parts.append(f"asked in {own}")
    return parts
