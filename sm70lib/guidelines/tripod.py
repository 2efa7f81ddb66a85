"""TRIPOD-LLM: the reporting guideline for studies of large language models, as far as it is known.

Gallifant et al., Nature Medicine 2025. Its sections are those of the guideline; what each asks for
is said in words of our own. What a study recorded is filled in. What only its authors can say stays
empty, and is named.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sm70lib.parameters import aggregates
from sm70lib.presentation import names
from sm70lib.protocols import PROTOCOLS
from sm70lib.reporting import about, reading, result, runcard
from sm70lib.reporting.made import Made

NOT_DONE = "Not done in this study."


class Item(NamedTuple):
    """One section of the guideline.

    Attributes:
        section: its name.
        filled: what the study recorded about it; "" if nothing.
        human: what its authors have to write; "" if nothing is left.
    """

    section: str
    filled: str
    human: str


def items(made: Made) -> list[Item]:
    """The sections in their order; empty without a manifest."""
    p = made.parameters
    if not p:
        return []
    lines = result.lines(made)
    return [
        Item("Title", "", "a title that names the language model, the task and the outcome"),
        Item("Abstract", "", "an abstract, structured as the guideline asks"),
        Item("Background", "", "the healthcare context, and why a language model is studied"),
        Item("Objectives", about.sentence(made), "who is to use the model, and for what"),
        Item("Data", _data(made), "whether the sources may be used for this purpose"),
        Item("Analytical methods", _methods(made, lines), ""),
        Item("LLM output", _output(made), ""),
        Item("Annotation", "The right answers are those of the benchmarks.", "any own annotation"),
        Item("Prompting", _prompting(made), ""),
        Item("Summarization", NOT_DONE, ""),
        Item("Instruction tuning", _tuning(made), ""),
        Item("Compute", _compute(made), ""),
        Item("Ethical approval", "", "approval, or why none was needed"),
        Item("Open science", _open(made), "funding, conflicts of interest, registration"),
        Item("Public involvement", "", "how patients and the public took part, if they did"),
        Item("Results", _results(lines), ""),
        Item(
            "Discussion",
            dict(reading.sentences(made, lines))["What this does not show"],
            "interpretation, fairness across groups, and what use would need",
        ),
    ]


def _data(made: Made) -> str:
    table = about.sources(made)
    if table.empty:
        return ""
    train = _digest(made, "01_data", "data/train")
    return (
        f"{len(table)} sources, {table['rows'].sum():,} rows read, {table['kept'].sum():,} kept "
        f"after the audit; sha256 of the training set {train[:12]}. The card in data/ lists "
        "sources, licences, what was dropped and why, and the overlap with every benchmark."
    )


def _digest(made: Made, step: str, path: str) -> str:
    outputs = made.manifest["steps"].get(step, {}).get("outputs", {})
    return outputs.get(path, {}).get("sha256", "")


def _methods(made: Made, lines: list[result.Line]) -> str:
    p = made.parameters
    level = p.get("stats_level", 0.95)
    return (
        f"{len(lines)} comparisons were declared before the run. Accuracies have {100 * level:g} % "
        "intervals. The intervals allow for questions that share a cluster. Comparisons are paired "
        "over the same questions, and Holm's procedure sets the level of each in a declared family."
    )


def _output(made: Made) -> str:
    found = made.table("results")
    if found.empty or "unparsed" not in found:
        return ""
    once = aggregates.names(found["benchmark"], ())  # an aggregate has no answers of its own
    mine = found[found["study"].eq(made.name) & found["subset"].eq("all")]
    mine = mine[mine["benchmark"].isin(once)]
    written = mine["protocol"].isin([each.name for each in PROTOCOLS if each.reads])
    seeds = mine["seeds"].fillna(1) if "seeds" in mine else 1  # n counts items
    answers = mine["n"] * seeds
    said = [f"Asked under {names.listed(sorted(mine['protocol'].unique()))}, over all models"]
    if not written.all():
        said.append(
            f"{answers[~written].sum():,.0f} answers are the option that a model finds likeliest"
        )
    if written.any():
        said.append(
            f"of {answers[written].sum():,.0f} replies that were written, "
            f"{mine.loc[written, 'unparsed'].sum():,.0f} could not be read and count as wrong"
        )
    return f"{'; '.join(said)}."


def _prompting(made: Made) -> str:
    p = made.parameters
    shots = names.listed([f"{number}-shot" for number in p.get("eval_shots", ())])
    return (
        f"Prompts are fixed by {names.listed(list(p.get('eval_protocols', ())))}, {shots}; the "
        f"template of training is {p.get('data_template')}. The .meta.json beside each prediction "
        "file has the digest of its prompts."
    )


def _tuning(made: Made) -> str:
    p = made.parameters
    stages = p.get("train_stages", ())
    if not stages:
        return NOT_DONE
    told = []
    for kind in dict.fromkeys(stages):
        values = (f"{name} {p.get(f'{kind}_{name}')}" for name in ("steps", "batch_size", "lr"))
        told.append(f"{kind} ({', '.join(values)})".replace("batch_size", "batch size"))
    way = "all weights" if p.get("train_parameters") == "full" else f"LoRA, rank {p.get('lora_r')}"
    return f"Stages {names.listed(told)}; {way}. Training seeds: {len(p.get('train_seeds', ()))}."


def _compute(made: Made) -> str:
    wanted = ("Machine", "Took", "Peak memory", "Energy")
    return "; ".join(f"{head}: {words}" for head, words in runcard.runcard(made) if head in wanted)


def _open(made: Made) -> str:
    manifest: dict[str, Any] = made.manifest
    return (
        f"Code: commit {manifest.get('commit') or 'unknown'}, MIT licence. manifest.json has the "
        "parameters, versions, and digests of all inputs and outputs."
    )


def _results(lines: list[result.Line]) -> str:
    told = [f"{line.title}: {line.gap or '–'} ({line.verdict})" for line in lines]
    return "; ".join(told)
