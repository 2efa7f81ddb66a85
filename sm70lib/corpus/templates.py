"""Templates: the one place where a row becomes a prompt and a response."""

import hashlib
import json
import re
from pathlib import Path

from sm70lib.study.files import write_json
from sm70lib.study.params import StudyError
from sm70lib.untrusted.time_limit import SECONDS, time_limit

CHAT = "chat"  # the base's own chat template (see chat.py), which has no text here
DIGEST = "template.json"  # in an adapter's folder: the template that it was trained in
REMEDY = "set data_template to what it was trained in, or train again (--fresh 03)"
# Some chat templates write today's date. The same study must give the same rows tomorrow, and a
# finished prediction must answer the same prompt.
DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
OPENED = re.compile(r"<(think|thought)>\s*\Z")  # reasoning that a prompt begins and does not end
ASSISTANT, FINAL = "<|start|>assistant", "<|channel|>final<|message|>"  # gpt-oss's
# `prompt` is what the model reads, `response` is what it is trained to write.
# medalpaca: MedAlpaca's own (github:kbressem/medAlpaca, prompt_templates/medalpaca.json). Both
# headers stay when a field is empty.
# sm70: the wrapper in the task files of the SM70 authors' fork
# (github:SpassMed/lm-evaluation-harness; that they trained on it is inferred), without BOS and EOS,
# which `encode_batch` adds. The space before the answer belongs to the response. If it ended the
# prompt, the tokenizer could not merge it with the next word.
# meditron: how Meditron's models that were tuned on one benchmark are asked
# (github:epfLLM/meditron, evaluation/inference.py, format_prompt), with its blanks. Its tokenizer
# was given <|im_start|> and <|im_end|> as tokens; Llama 2's own spells them out.
TEMPLATES = {
    "medalpaca": {
        "prompt": "Below is an instruction that describes a task, paired with an input that "
        "provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
        "response": "{output}",
    },
    "sm70": {
        "prompt": "[INST] Context: {input}. Question: {instruction}.[/INST]\nAnswer:",
        "response": " {output}",
    },
    "meditron": {
        "prompt": "<|im_start|> system\n<|im_end|>\n <|im_start|> question\n{instruction}\n{input}"
        "<|im_end|>\n <|im_start|> answer\n",
        "response": "{output}",
    },
}


def render(template: str, instruction: str, input: str) -> str:
    """The prompt of one row, without BOS.

    Args:
        template: its name in TEMPLATES.
        instruction: what is asked.
        input: what it is asked about. A row with neither is running text and has no prompt: "".

    Raises:
        StudyError: the template is unknown.
    """
    if not instruction and not input:
        return ""
    before, after = _around(template, instruction)
    return before + input + after


def span(template: str, instruction: str, input: str) -> tuple[int, int]:
    """Where the input is in `render(...)`: its first character, and the one after its last.

    This is the text that a row may lose if it is too long.
    """
    start = len(_around(template, instruction)[0])
    return start, start + len(input)


def response(template: str, output: str) -> str:
    """The text that the model learns to write after `render(...)`, without EOS."""
    return _template(template)["response"].replace("{output}", output)


def unfit(kind: str, template: str, fields: dict) -> str:
    """Why a row cannot be used; "" if it can.

    Args:
        kind: train, text or preferences: what it is read for.
        template: the study's template.
        fields: of the row, as its layout gives them.
    """
    pair = bool(fields.get("rejected"))
    if kind == "preferences" and not pair:
        return "no better and worse answer (chosen, rejected)"
    if fields.get("turns") and not pair and template != CHAT:
        return (
            "a system line or earlier turns, for which only data_template chat has a place, and "
            f"not {template}"
        )
    return ""


def digest(template: str, chat_template: str | None = None) -> str:
    """sha256 (hex) of a template's text.

    It is saved with an adapter and checked before scoring.

    Args:
        template: the template.
        chat_template: the text of the base's own; for the template chat alone.
    """
    about = {"chat": chat_template} if template == CHAT else _template(template)
    text = json.dumps(about, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def leave_digest(adapter: Path, template: str, chat_template: str | None = None) -> None:
    """Writes name and sha256 of the template that an adapter was trained in into its folder."""
    about = {"name": template, "sha256": digest(template, chat_template)}
    write_json(adapter / DIGEST, about)


def trained_in(
    adapter: Path, template: str, chat_template: str | None = None, remedy: str = REMEDY
) -> str | None:
    """Checks that an adapter was trained in a template.

    Args:
        adapter: the folder of the adapter.
        template: the template in which the study would ask the adapter.
        chat_template: the text of the base's own; for the template chat alone.
        remedy: what to do about another template, for the error's sentence.

    Returns:
        The name of the template, or None if the folder does not name any.

    Raises:
        StudyError: the folder names a template with another text, or its file cannot be read.
    """
    path = adapter / DIGEST
    now = digest(template, chat_template)
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        name, then = saved["name"], saved["sha256"]
    except (ValueError, KeyError, TypeError):
        raise StudyError(
            f"{path} does not hold name and sha256 of a template: copy the adapter again from "
            "where it was trained, or take the file away to ask in the study's template"
        ) from None
    if then != now:
        raise StudyError(
            f"{adapter} was trained in the template {name} ({then:.12}) and would be asked in "
            f"{template} ({now:.12}): {remedy}"
        )
    return name


def _template(name: str) -> dict[str, str]:
    if name not in TEMPLATES:
        raise StudyError(
            f"data_template: there is no template {name!r}; choose from "
            f"{', '.join(TEMPLATES)}, {CHAT}."
        )
    return TEMPLATES[name]


def _around(template: str, instruction: str) -> tuple[str, str]:
    """The prompt before and after its input."""
    before, after = _template(template)["prompt"].split("{input}")
    # `replace` and not `format`, because a data field may hold braces.
    return before.replace("{instruction}", instruction), after.replace("{instruction}", instruction)


def chat_template_of(tokenizer) -> str | None:
    """The text of a tokenizer's chat template; None if it has none.

    Of several templates with names, as Command-R and Hermes have them, it is the default, as
    `tokenizer.get_chat_template` says. Without a default there is no template.
    """
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def in_chat(
    tokenizer,
    messages: list[dict[str, str]],
    reply_follows: bool = False,
    **variables: bool,
) -> str:
    """Messages as a chat template writes them, which is a program that came with the model.

    A template that asks for today's date gets DATE's.

    Args:
        tokenizer: The tokenizer that has the template.
        messages: The role and the content of each.
        reply_follows: Whether to write up to where a reply begins.
        variables: What else the template is given.

    Raises:
        StudyError: It does not end.
        jinja2.TemplateError: It refuses the messages.
    """
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = DATE + template
    try:
        with time_limit(SECONDS):
            return tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=reply_follows,
                **variables,
            )
    except TimeoutError:
        raise StudyError(
            f"the chat template of {tokenizer.name_or_path} was stopped after {SECONDS:.0f} "
            "seconds on one conversation; take another tokenizer, or mend its chat_template"
        ) from None


def asked_in_chat(tokenizer, messages: list[dict[str, str]]) -> str:
    """Messages as a model is asked them: up to where its answer begins, which is not reasoning.

    An option that follows an open `<think>` would be scored as a thought, and a short reply would
    end before its thoughts do. Some templates write an empty thought if they are told to (Qwen3's);
    one that others leave open (DeepSeek-R1's) is ended here. gpt-oss, which names a channel first,
    is asked for the final one. No other prompt changes.

    Args:
        tokenizer: The tokenizer that has the template.
        messages: The role and the content of each.

    Raises:
        StudyError: The template does not end.
        jinja2.TemplateError: It refuses the messages.
    """
    text = in_chat(tokenizer, messages, reply_follows=True, enable_thinking=False)
    template = tokenizer.get_chat_template()
    if FINAL in template and text.endswith(ASSISTANT):
        return text + FINAL
    opened = OPENED.search(text)
    if opened and f"<{opened[1]}>" in template:  # and not in the question alone
        return f"{text[: opened.end(1)]}>\n\n</{opened[1]}>\n\n"
    return text
