"""What the notebooks 00 to 04 found: one sentence for each section, from its table."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sm70lib.presentation import names

CHANCE = 25  # percent: every fact is asked with four values
FEW = 3  # names in a sentence


def world(table: pd.DataFrame) -> str:
    """How many facts the world has, and how many of them tuning will be asked (`tiny.overview`)."""
    if table.empty:
        return "This study reads real files, so there is no invented world."
    kinds = table.select_dtypes("number").sum()
    counts = names.listed([f"{kind} ({count})" for kind, count in kinds.items()])
    return f"The world has {kinds.sum():,} facts in {len(table)} relations, by kind: {counts}."


def learned(metrics: pd.DataFrame) -> str:
    """How far pretraining lowered the loss."""
    if metrics.empty or "loss" not in metrics:
        return "Nothing was trained here: the base comes from elsewhere."
    loss = metrics["loss"].dropna()
    steps = metrics["step"].max()
    return (
        f"By step {steps:,} the loss had fallen from {loss.iloc[0]:.2f} to {loss.iloc[-1]:.2f} "
        "nats per token."
    )


def known(table: pd.DataFrame) -> str:
    """How many facts the base completes (`pretrain.knowledge`)."""
    if table.empty:
        return "There is no world whose facts could be asked."
    right = (table["facts"] * table["right_pct"]).sum() / table["facts"].sum()
    worst = table.loc[table["right_pct"].idxmin()]
    return (
        f"The base completes {right:.1f} % of {table['facts'].sum():,} facts, where chance is "
        f"{CHANCE} %; fewest of {worst['relation']} ({worst['right_pct']:.1f} %)."
    )


def sources(table: pd.DataFrame) -> str:
    """How many rows the sources have as published, where that is stated."""
    rows = pd.to_numeric(table["rows"], errors="coerce").dropna()
    stated = f"{rows.sum():,.0f} rows as published" if len(rows) else "no stated number of rows"
    return f"{len(table)} sources, with {stated}; {len(table) - len(rows)} state no number."


def guessers(table: pd.DataFrame) -> str:
    """Which benchmark is easiest for a guesser that reads nothing; accuracies in percent."""
    if table.empty:
        return "No benchmark of this study has an accuracy."
    always = table["position_pct"] == 100  # the file's layout, such as TruthfulQA's
    position = table["position_pct"].mask(always)
    best = table["text_pct"].where(position.isna() | (position < table["text_pct"]), position)
    best = best.sort_values()
    least, most = (names.benchmark(str(best.index[place])) for place in (0, -1))
    return (
        f"{table['items'].sum():,} items. A guesser that reads no question gets from "
        f"{best.iloc[0]:.1f} % ({least}) to {best.iloc[-1]:.1f} % ({most})."
    )


def doubts(table: pd.DataFrame) -> str:
    """How many items were left out, and how many were only noted."""
    if table.empty:
        return "Every item can be scored, and none is doubtful."
    dropped = table["items"][table["dropped"]].sum()
    return f"{dropped:,} items are left out; {table['items'].sum() - dropped:,} are noted and stay."


def kept(funnel: pd.DataFrame, checks: list[str]) -> str:
    """How many rows the audit kept, and which check dropped most (`Audit.funnel`)."""
    dropped = funnel[checks].sum()
    words = f"{funnel['kept'].sum():,} of {funnel['rows'].sum():,} rows are kept"
    if not dropped.sum():
        return f"{words}: no check dropped any."
    return f"{words}; the check that dropped most is {dropped.idxmax()} ({dropped.max():,} rows)."


def labels(verdict: Mapping) -> str:
    """Whether the labels of pubmed_causal are right (`Audit.label_verdict`)."""
    if not verdict["checked"]:
        return f"No label of pubmed_causal was checked: {verdict['verdict']}."
    return (
        f"The labels of pubmed_causal are {verdict['verdict']}: {100 * verdict['agree']:.0f} % of "
        f"{verdict['checked']:,} agree with the annotation as they are, and "
        f"{100 * verdict['agree_renamed']:.0f} % once they are renamed."
    )


def leaks(contamination: pd.DataFrame) -> str:
    """Which source gives away the largest share of a benchmark (`Audit.contamination`)."""
    there = contamination[contamination["any"] > 0]
    if there.empty:
        return "No item of any benchmark stands in a source."
    share = there["any"] / there["items"]
    worst = there.loc[share.idxmax()]
    leaking, asked = there["benchmark"].nunique(), contamination["benchmark"].nunique()
    benchmark, source = names.benchmark(worst["benchmark"]), names.source(worst["source"])
    return (
        f"{leaking} of {asked} benchmarks leak; most of all {benchmark}, of which {worst['any']:,} "
        f"of {worst['items']:,} items ({100 * share.max():.1f} %) stand in {source}."
    )


def cut(table: pd.DataFrame) -> str:
    """How many rows lost the end of their input to the limit."""
    most = table["rows_cut"].idxmax() if table["rows_cut"].any() else None
    if most is None:
        return (
            f"No row was longer than the limit; the longest has {table['longest'].max():,} tokens."
        )
    return (
        f"{table['rows_cut'].sum():,} of {table['rows'].sum():,} rows lost the end of their input, "
        f"most of them in {names.source(str(most))} ({table['rows_cut'].max():,})."
    )


def ruling(shares: pd.DataFrame) -> str:
    """Which source has the largest share of the tokens that carry loss; shares of 1."""
    name = shares["targets"].idxmax()
    most = shares.loc[name]
    return (
        f"Largest share of the loss: {names.source(str(name))}, with "
        f"{100 * most['targets']:.0f} % of the target tokens and {100 * most['kept']:.0f} % of the "
        "rows."
    )


def memory(table: pd.DataFrame) -> str:
    """How far the plan is from the measurement; columns planned_mb and measured_mb."""
    both = table.dropna(subset="measured_mb")
    if both.empty:
        return "Nothing was measured: the quantised base does not fit here."
    gap = (both["planned_mb"] - both["measured_mb"]).abs()
    return (
        f"The parts that can be measured take {both['measured_mb'].sum():,.1f} MB, and plan and "
        f"measurement differ by {gap.max():,.2f} MB at most ({both.loc[gap.idxmax(), 'part']})."
    )


def four_bits(error: pd.Series) -> str:
    """What four bits change in the answers (`measured.quantisation_error`)."""
    if error.isna().any():
        return "What four bits cost is not known here: one of the two models does not fit."
    return (
        f"Four bits move the next-token distribution by {error['kl_nats']:.3f} nats, and leave the "
        f"likeliest token as it was at {error['agreement_pct']:.1f} % of the places."
    )


def first_step(about: Mapping) -> str:
    """Whether one step changed the model, and what was saved is what was trained.

    Args:
        about: What `first-step.json` holds. Empty where a stage left none: those that trained an
            adapter by FSDP once did not.
    """
    if not about:
        return (
            "What the first step changed was not recorded, and nothing was saved and compared then."
        )
    if "weights_moved" in about:
        change = (
            f"One step moved {about['weights_moved']:,} of {about['weights']:,} weight matrices"
        )
        gap = about.get("max_weight_difference")
        if gap is None:
            return (
                f"{change}, by the pieces of them that the first process holds; processes share "
                "the model, so nothing was saved and compared."
            )
        return f"{change}; the saved ones differ from them by {gap:.2g} at most."
    change, difference = about["max_logit_change"], about["max_logit_difference"]
    return (
        f"One step changed the logits by up to {change:.2g}, and the saved adapter gives those of "
        f"the trained one (largest difference {difference:.2g})."
    )


def trained(courses: Mapping[str, pd.DataFrame]) -> str:
    """How far every stage lowered its loss, on held-out rows where they were measured."""
    words = []
    for name, course in courses.items():
        held = "eval_loss" in course and course["eval_loss"].notna().sum() > 1
        loss = course["eval_loss" if held else "loss"].dropna()
        rows = "held-out rows" if held else "its training rows"
        words.append(f"{name}: from {loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f} on {rows}")
    return f"Loss, {'; '.join(words)}."


def scored(table: pd.DataFrame, start: str, end: str) -> str:
    """On how many runs the tuned model is above its start (`first_look.accuracies`)."""
    if not {start, end} <= set(table.columns):
        return f"{len(table)} runs are scored; {start} and {end} are not both among the models."
    gain = (table[end] - table[start]).dropna()
    if gain.empty:
        return f"No run has an accuracy of both {start} and {end}."
    best = dict(zip(table.index.names, gain.idxmax()))
    return (
        f"{names.model(end)} is above {names.model(start)} in {(gain > 0).sum()} of {len(gain)} "
        f"runs, most on {names.benchmark(best['benchmark'])} under {best['protocol']} "
        f"({gain.max():+.1f} points); 06 says which of these differences can be told from chance."
    )


def moved(table: pd.DataFrame) -> str:
    """On which benchmark the protocol alone moves the score most (`first_look.by_protocol`)."""
    several = table[table["range_pts"] > 0]
    if several.empty:
        return "No benchmark was asked in several ways."
    most = several["range_pts"].idxmax()
    return (
        f"The protocol alone moves the score by up to {several['range_pts'].max():.1f} points, on "
        f"{names.benchmark(str(most))}."
    )
