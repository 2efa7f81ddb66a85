"""The card of a training set."""

from __future__ import annotations

from typing import Any

import pandas as pd
from huggingface_hub import DatasetCard, DatasetCardData

from sm70lib import sources
from sm70lib.corpus import chat, templates
from sm70lib.parameters import own
from sm70lib.study import params
from sm70lib.study.used import loss_of
from sm70lib.untrusted.escaping import markdown_table

RESEARCH_ONLY = "Research only: not a medical device, not for clinical use."
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)  # the hub's classes of rows
WORDS = ("1K", "10K", "100K", "1M", "10M")


def card(
    p: Any,
    funnel: pd.DataFrame,
    contamination: pd.DataFrame,
    digest: str,
    tokenizer: Any,
) -> str:
    """The card of a study's training set.

    Args:
        p: the parameters of the study.
        funnel: rows by source, from `Audit.funnel`.
        contamination: benchmark items by source, from `Audit.contamination`.
        digest: sha256 (hex) of the folder `train`.
        tokenizer: the base's, which may bring the prompt template.

    Returns:
        Markdown with the hub's front matter.
    """
    title = f"Training set of study {p.study}"
    data = DatasetCardData(
        language="en",
        license="other",
        task_categories=["question-answering", "text-generation"],
        size_categories=size(int(funnel["kept"].sum())),
        pretty_name=title,
        tags=["medical", "research-only"],
    )
    parts = _parts(p, funnel, contamination, digest, _template_digest(p, tokenizer))
    body = "\n\n".join(part for part in (f"# {title}", *parts) if part)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _template_digest(p: Any, tokenizer: Any) -> str:
    chat_template = chat.text_of(tokenizer) if p.data_template == templates.CHAT else None
    return templates.digest(p.data_template, chat_template)


def _parts(
    p: Any, funnel: pd.DataFrame, contamination: pd.DataFrame, digest: str, template: str
) -> list[str]:
    """The paragraphs of a card below its title; "" for one that this study does not need."""
    leaks = contamination[contamination["any"] > 0]
    return [
        params.rehearsal(p.study),
        f"{RESEARCH_ONLY} Medical text from public sources, tokenised; each source keeps its own "
        "licence. The tokens are those of the study's base, and of no other model.",
        f"- sha256 of `train`: `{digest}`\n"
        f"- prompt template {p.data_template}, sha256 `{template}`\n"
        f"- at most {p.data_max_length} tokens a row, loss on {loss_of(p)}",
        "## Sources",
        _licences(p),
        "## Rows: read, dropped by each check, kept",
        markdown_table(funnel),
        "## Benchmark items that stand in a source",
        markdown_table(leaks, index=False) if len(leaks) else "None was found.",
        f"`audit_leak: {p.audit_leak}` says what became of the rows that hold them.",
        "## Limits",
        "The text was written by others and was checked by rules alone: empty, doubled, personal, "
        "mislabelled and leaked rows are looked for, and whether an answer is right is not.",
    ]


def size(rows: int) -> str:
    """The hub's class of so many rows, such as `1K<n<10K`."""
    place = sum(rows >= bound for bound in SIZES)
    if place == 0:
        return f"n<{WORDS[0]}"
    return f"{WORDS[place - 1]}<n<{WORDS[place]}" if place < len(WORDS) else f"n>{WORDS[-1]}"


def _licences(p: Any) -> str:
    abouts = [sources.about(name) for name in p.data_sources]
    rows = [[own.title(about.name), about.what, about.licence, about.hub] for about in abouts]
    table = pd.DataFrame(rows, columns=["source", "what", "licence", "hub"])
    return markdown_table(table, index=False)
