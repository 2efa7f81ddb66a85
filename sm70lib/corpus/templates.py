"""Prompts, tokens and labels: the one place where text becomes what a model reads and what it trains on."""

import ast
import hashlib
import json
import re
from pathlib import Path

from sm70lib.study.files import write_json
from sm70lib.study.params import StudyError

DIGEST = "template.json"  # in an adapter's folder: the template that it was trained in
# `prompt` is what the model reads, `response` what it is trained to write.
# medalpaca: MedAlpaca's own (github:kbressem/medAlpaca, prompt_templates/medalpaca.json); both headers stay when
# a field is empty.
# sm70: the wrapper in the task files of the SM70 authors' fork (github:SpassMed/lm-evaluation-harness; that they
# trained on it is inferred), without BOS and EOS, which `encode_batch` adds. The blank before the answer belongs to the
# response, so that a prompt never ends in a space that the tokenizer would have merged with the next word.
TEMPLATES = {
    "medalpaca": {
        "prompt": "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
        "response": "{output}",
    },
    "sm70": {
        "prompt": "[INST] Context: {input}. Question: {instruction}.[/INST]\nAnswer:",
        "response": " {output}",
    },
}


def render(template: str, instruction: str, input: str) -> str:
    """The prompt of one row, without BOS; a row with neither instruction nor input (plain text) has none: "".

    Raises StudyError for an unknown template.
    """
    if not instruction and not input:
        return ""
    before, after = _around(template, instruction)
    return before + input + after


def span(template: str, instruction: str, input: str) -> tuple[int, int]:
    """Where the input stands in `render(...)` (characters, from and to): what an over-long row may lose."""
    start = len(_around(template, instruction)[0])
    return start, start + len(input)


def response(template: str, output: str) -> str:
    """The text that the model learns to write after `render(...)`, without EOS."""
    return _template(template)["response"].replace("{output}", output)


def digest(template: str) -> str:
    """sha256 of a template's text (hex): it travels with the adapter and is compared before scoring."""
    return hashlib.sha256(json.dumps(_template(template), sort_keys=True).encode()).hexdigest()


def leave_digest(adapter: Path, template: str) -> None:
    """Writes into an adapter's folder in which template it was trained (name and sha256)."""
    write_json(adapter / DIGEST, {"name": template, "sha256": digest(template)})


def trained_in(adapter: Path, template: str) -> str | None:
    """The template that an adapter was trained in: `template`, or None if its folder does not say.

    Raises StudyError where its folder names another one, or `template` with another text.
    """
    path, now = adapter / DIGEST, digest(template)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        name, then = found["name"], found["sha256"]
    except (ValueError, KeyError, TypeError):
        raise StudyError(
            f"{path} does not hold name and sha256 of a template: copy the adapter again from "
            "where it was trained, or take the file away to ask in the study's template"
        ) from None
    if then != now:
        raise StudyError(
            f"{adapter} was trained in the template {name} ({then:.12}) and would be asked in "
            f"{template} ({now:.12}): set data_template to what it was trained in, or train again "
            "(--fresh 03)"
        )
    return name


def _template(name: str) -> dict[str, str]:
    if name not in TEMPLATES:
        raise StudyError(
            f"data_template: there is no template {name!r}; choose from {', '.join(TEMPLATES)}."
        )
    return TEMPLATES[name]


def _around(template: str, instruction: str) -> tuple[str, str]:
    before, after = _template(template)["prompt"].split("{input}")
    # replace, not format: a data field may hold braces
    return before.replace("{instruction}", instruction), after.replace("{instruction}", instruction)


def unwrap(input: str) -> tuple[str, dict[str, str]]:
    """Stem and options by letter out of Meadow's `Q:<stem>? \\n<options>`; else the input and no options."""
    match = re.fullmatch(r"Q:(.*?)\? ?\n(A:.*|\{.*\},?)\s*", input, re.S)
    stem, options = match.groups() if match else (input, "")
    if not options.startswith("{"):
        return stem, dict(re.findall(r"([A-J]):(.*?)(?=;[B-J]:|\Z)", options, re.S))
    try:  # medqa has the text of a Python dict there
        return stem, {
            str(key): str(text) for key, text in ast.literal_eval(options.rstrip(", \n")).items()
        }
    except (ValueError, SyntaxError, AttributeError, RecursionError, MemoryError):
        return input, {}
