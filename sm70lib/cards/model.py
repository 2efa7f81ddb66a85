"""The cards of what a study has trained: its adapters, whole models and merged models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sm70lib import sources
from sm70lib.analysis.roles import TUNED
from sm70lib.cards.data import RESEARCH_ONLY
from sm70lib.corpus.templates import DIGEST, TEMPLATES
from sm70lib.presentation import forms, names
from sm70lib.presentation.styled import styled
from sm70lib.reporting import about, reading, result
from sm70lib.reporting.made import Made
from sm70lib.steps.keys import read
from sm70lib.steps.steps import write_text
from sm70lib.steps.trained import of_other_seed, of_stages
from sm70lib.steps.weights import is_public
from sm70lib.study import params
from sm70lib.study.files import CONFIGURATION

SHOWN = ["model", "benchmark", "protocol", "shots", "n", "acc_pct", "low_pct", "high_pct"]
GUESSER = "best_constant_pct"


def write(folder: Path, values: dict[str, Any] | None = None) -> list[Path]:
    """Writes a README.md into the folder of each adapter and model that a study has trained.

    A card decides nothing: no digest counts it, so that it can be written again with the results.

    Args:
        folder: outputs/<study>.
        values: parameters that the manifest does not have yet.

    Returns:
        The cards.
    """
    made = Made(folder)
    given = made.parameters | (values or {})
    cards = []
    for place, model in _trained(folder):
        path = place / "README.md"
        write_text(path, card(made, given, place, model))
        cards.append(path)
    return cards


def _trained(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each folder that can be published, and what tables call the model in it."""
    if (folder / "adapter").is_dir():
        yield folder / "adapter", TUNED
    for kind in ("adapter", "model"):
        stages = of_stages(folder, kind)
        last = [path for path in stages if not of_other_seed(path)][-1:]
        for path in stages:
            yield path, TUNED if [path] == last else f"{TUNED}-{path.parent.name}"
    for path in sorted(folder.glob("merged/*")):
        yield path, f"merged-{path.name}"


def card(made: Made, given: dict[str, Any], place: Path, model: str) -> str:
    """The card of one adapter or model, with the results that the study has so far.

    Args:
        made: the study.
        given: its parameters.
        place: the folder of the adapter or model.
        model: what the study's tables call it.

    Returns:
        Markdown with the hub's front matter.
    """
    scored = _scored(made, model)
    title = f"{names.model(model)} of study {made.name}"
    data = _front_matter(made, given, place, title, scored)
    parts = [
        f"# {title[:1].upper()}{title[1:]}",
        params.rehearsal(made.name),
        f"**{RESEARCH_ONLY}** An exam score is no evidence of safety or use in care.",
        about.sentence(made),
        _origins(made, place),
        *_asking(given),
        "## Results",
        _table(scored, given.get("stats_level", 0.95)),
        "## Limits",
        dict(reading.sentences(made, result.lines(made)))["What this does not show"],
        "The licence is that of the base, and of each source of the training data.",
    ]
    body = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _front_matter(
    made: Made, given: dict[str, Any], place: Path, title: str, scored: pd.DataFrame
) -> ModelCardData:
    """What programs read of a card."""
    whole = not (place / CONFIGURATION).exists()
    # Programs do not read the warning of a rehearsal, so they get no numbers of one.
    results = [] if params.rehearsal(made.name) else _results(made, scored)
    return ModelCardData(
        base_model=public_base(made),
        library_name="transformers" if whole else "peft",
        pipeline_tag="text-generation",
        language="en",
        license="other",
        datasets=_datasets(given) or None,
        tags=["medical", "research-only", *([] if whole else ["lora"])],
        model_name=title if results else None,
        eval_results=results or None,
    )


def public_base(made: Made) -> str | None:
    """The base's name on the hub; None if it was trained here or is a folder of the user's."""
    name = made.base.get("model", "")
    return name if is_public(name) else None


def _datasets(given: dict[str, Any]) -> list[str]:
    """The sources that the hub has; the invented ones of a world only share their names."""
    if given.get("data_root") == "world":
        return []
    abouts = [sources.about(name) for name in given.get("data_sources", ())]
    return list(dict.fromkeys(each.hub for each in abouts if each.hub))


def _scored(made: Made, model: str) -> pd.DataFrame:
    """The accuracies of a model on all items; empty before the study has its tables."""
    found = made.table("results")
    if found.empty:
        return found
    mine = (found["model"] == model) & (found["study"] == made.name) & (found["subset"] == "all")
    return found[mine & found["acc_pct"].notna()]


def _results(made: Made, scored: pd.DataFrame) -> list[EvalResult]:
    """The accuracies as the hub's model-index has them, each with its protocol and interval."""
    twin = "invented twin of " if made.invented else ""
    return [
        EvalResult(
            task_type="question-answering",
            dataset_type=row.benchmark,
            dataset_name=f"{twin}{names.benchmark(row.benchmark)}",
            metric_type="accuracy",
            metric_name=f"accuracy (%), {row.protocol}, {row.shots}-shot",
            metric_value=float(row.acc_pct),
            metric_args={"low": row.low_pct, "high": row.high_pct, "n": row.n},
        )
        for row in scored.itertuples()
    ]


def _table(scored: pd.DataFrame, level: float) -> str:
    if scored.empty:
        return "Not scored yet."
    seen = styled(scored[[*SHOWN, GUESSER]], f"Accuracy with {level:.0%} intervals.")
    return f"{seen.caption}\n\n{forms.markdown(seen)}".rstrip()


def _origins(made: Made, place: Path) -> str:
    """Digests of what the model was made from."""
    lines = [f"- base: {public_base(made) or made.base_in_words().rstrip(',')}"]
    steps = made.manifest.get("steps", {})
    train = steps.get("01_data", {}).get("outputs", {}).get("data/train")
    if train:
        lines.append(f"- training data: sha256 `{train['sha256']}`")
    template = read(place / DIGEST)
    if template:
        lines.append(f"- prompt template: {template['name']}, sha256 `{template['sha256']}`")
    if made.manifest.get("commit"):
        lines.append(f"- code: commit {made.manifest['commit']}")
    note = made.base.get("made_from", {}).get("note")
    if note:
        lines.append(f"- the base was {note}")
    return "\n".join(lines)


def _asking(given: dict[str, Any]) -> list[str]:
    """The prompt that the model was trained in; with another one, it is another model."""
    template = given.get("data_template", "")
    prompt = TEMPLATES.get(template, {}).get("prompt")
    if prompt is None:
        return ["## How to ask", "In the chat template of the base, which its tokenizer has."]
    return [
        "## How to ask",
        f"With one beginning-of-sequence token and this prompt ({template}):",
        f"```\n{prompt}\n```",
    ]
