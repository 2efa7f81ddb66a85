"""The tables of a study, all from per-item predictions: results, the paper's, comparisons."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis import errors, quoted, stats, verdicts
from sm70lib.analysis.errors import RUN, SET, paired
from sm70lib.study import memory
from sm70lib.study.keys import read as read_json
from sm70lib.study.params import rehearsal
from sm70lib.study.steps import LEFT_OUT, write_text

AFTER = "tuned"
P_VALUES = ("p", "p_holm")
CLEANED = f"{AFTER}, without leaked items"
GUESSER = "best constant guesser"
# How many items each USMLE step has, and whose set it is
USMLE_SETS = {
    (94, 109, 122): "the 325 items of Clinical Camel's task files and of SM70's fork",
    (92, 110, 122): "the 324 items of medical_meadow_usmle_self_assessment",
}


def load(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """The answers of several studies (`errors.frame`), the USMLE steps once more as one: micro and macro."""
    answers = pd.concat([errors.frame(outputs / study) for study in studies], ignore_index=True)
    steps = answers[answers["benchmark"].str.startswith("usmle_step")]
    steps = steps.assign(step=steps["benchmark"])
    pooled = [steps.assign(benchmark=name) for name in ("usmle", "usmle_macro") if len(steps)]
    return pd.concat([answers, *pooled], ignore_index=True)


def fictional(answers: pd.DataFrame) -> bool:
    """Whether the questions are about the generated world, whose items alone carry a `kind`."""
    return bool(answers["kind"].notna().any())


def trained_here(weights: float | None) -> str:
    """What to call a base that was trained here; empty where it was not."""
    return "" if pd.isna(weights) else f"has {weights / 1e6:.1f} million weights and was trained here from scratch"


def before(answers: pd.DataFrame) -> str:
    """The model that tuning started from: the base in NF4, or the base where nothing was quantised."""
    return "base-nf4" if "base-nf4" in set(answers["model"]) else "base"


def caption(text: str, answers: pd.DataFrame) -> str:
    """The text with study, protocols, shots and number of questions, and what a small study can show at most."""
    study, protocol, shots = (", ".join(map(str, sorted(answers[name].unique())))
                              for name in ("study", "protocol", "shots"))
    n = len(answers[["study", "item_id"]].drop_duplicates())
    note, small = "", trained_here(answers["weights"].min())
    if fictional(answers):
        note = " Invented world: shows the method, not medicine."
    elif small:
        note = f" The base {small}: expect chance of it, and no evidence about SM70."
    return f"{text} Study {study}; protocol {protocol}; {shots}-shot; {n:,} questions.{note}"


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> pd.DataFrame:
    """Writes `<name>.csv`, `.md` and `.tex`, returns the table; rows of quoted systems (†) are in italics.

    `folder` is outputs/<study>/tables; a rehearsed study's captions say that it is one. All three,
    and what is returned, hold `printed` p-values.
    """
    caption, table = f"{rehearsal(folder.parent.name)} {caption}".lstrip(), printed(table)
    text = table.astype(object).where(table.notna(), "").astype(str)
    cited = [i for i, row in text.iterrows() if row.str.endswith("†").any()]
    marked = text.replace({r"\|": r"\\|", r"\s*\n\s*": " "}, regex=True)
    marked.loc[cited] = marked.loc[cited].map(lambda cell: cell and f"*{cell}*")
    grid = [list(marked), ["---"] * len(marked.columns), *marked.to_numpy().tolist()]
    lines = "".join(f"| {' | '.join(line)} |\n" for line in grid)
    styled = text.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    styled = styled.map(lambda _: "textit:--rwrap;", subset=pd.IndexSlice[cited, :])
    write_text(folder / f"{name}.csv", table.to_csv(index=False))
    write_text(folder / f"{name}.md", f"{caption}\n\n{lines}")
    write_text(folder / f"{name}.tex", styled.to_latex(
        hrules=True, label=f"tab:{name}", environment="longtable" if len(table) > 40 else "table",
        caption=re.sub(r"([%&_#])", r"\\\1", caption)).replace("& < 0.", "& $<$ 0."))
    return table


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its p-values (P_VALUES) as text: no p is 0, the smallest are "< 0.001"."""
    names = [name for name in P_VALUES if name in table]
    return table.assign(**{name: table[name].map(stats.p_text) for name in names})


def results(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """One row per run and subset (all, clean, each kind): accuracy, interval, constant guesser.

    n counts items, also where several seeds were asked; `spread_pts` is the SD of the seeds, which
    is no interval. `low_pct` and `high_pct` are for display, `bound_low_pct` and `bound_high_pct`
    may each be used alone. `commonest_pct` is the share of the commonest choice (from 95 on a model
    is constant), `right_rank` the mean rank of the right option (1 is the likeliest). Where most
    replies are unread there is no accuracy, and `interval` says why.
    """
    rows = []
    for keys, run in answers.groupby(RUN):
        run_of, macro = dict(zip(RUN, keys)), keys[2] == "usmle_macro"
        whole, leaks = _accuracy(run, macro, how), run["flagged"].any()
        rows.append(run_of | {"subset": "all"} | whole)
        if not leaks:
            rows.append(run_of | {"subset": "clean"} | whole)
        parts = {"clean": run[~run["flagged"]]} if leaks else {}
        for name, part in (parts | dict(iter(run.groupby("kind")))).items():
            if len(part):
                rows.append(run_of | {"subset": name} | _accuracy(part, macro, how))
    return pd.DataFrame(rows)


def _accuracy(part: pd.DataFrame, macro: bool, how: stats.How) -> dict:
    """The cells of `results` beside the run: the accuracy, its bounds, habits, seeds, mass."""
    found = errors.accuracy(part, how, macro)
    unscored, nan = pd.isna(found["acc_pct"]), float("nan")
    norm = round(100 * part["correct_norm"].astype(float).mean(), 1)
    seeds = part.groupby("seed")["correct"].mean()
    correct, cluster, weight = errors.scored(part, macro)
    bounds = verdicts.accuracy(correct, cluster, how.level, weight).row()
    read = part["choice"].dropna()
    return {"n": found.pop("n"), "correct": round(float(correct.sum()))} | found | {
        "bound_low_pct": nan if unscored else bounds["low_pct"],
        "bound_high_pct": nan if unscored else bounds["high_pct"],
        "acc_norm_pct": nan if unscored else norm,
        "best_constant_pct": round(100 * benchmarks.best_constant_accuracy(list(part["item"])), 1),
        "commonest_pct": round(100 * read.value_counts(normalize=True).max(), 1),
        "right_rank": round(verdicts.mean_rank(part["loglikelihoods"], part["gold"]), 2),
        "unparsed": int(part["choice"].isna().sum())} | (
            {"seeds": len(seeds), "spread_pts": round(100 * seeds.std(), 1)} if len(seeds) > 1 else {}) | (
            {"mass_pct": round(100 * part["mass"].mean(), 1)} if "mass" in part and part["mass"].notna().all() else {})


def left_out(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """Models that 04 had no memory for: study, model, cell (`not scored here: 138 GB`)."""
    rows = []
    for study in studies:
        lacking = read_json(outputs / study / "predictions" / LEFT_OUT)
        rows += [(study, name, f"not scored here: {memory.words(lack['needed_gb'])}")
                 for name, lack in lacking.items()]
    return pd.DataFrame(rows, columns=["study", "model", "cell"])


def wide(
    found: pd.DataFrame,
    names: list[str],
    others: pd.DataFrame,
    lacking: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Models by benchmarks, as papers print it; a row is one model under one protocol and shots.

    Args:
        found: `results`.
        names: the benchmarks to show.
        others: quoted rows, of which those are shown (with †) that have, or may have, our shots.
        lacking: `left_out`, the models that could not be scored, or not on all benchmarks.

    Returns:
        Ours, tuned once more without leaked items, the best constant guesser, then the others.
    """
    own = found[found["benchmark"].isin(names) & found["subset"].isin(["all", "clean"])]
    own = own.assign(source="study " + own["study"], shots=own["shots"].astype(str), cell=[
        errors.shown(row, f" n={row.n}") for row in own.itertuples()])
    whole = own[own["subset"] == "all"]
    guess = whole.drop_duplicates(["study", "benchmark"])
    guess = guess.assign(
        model=GUESSER, protocol="", shots="", cell=guess["best_constant_pct"].astype(str)
    )
    unscored = _unscored(whole, lacking) if lacking is not None else own[:0]
    theirs = _cited(others[others["benchmark"].isin(names)], found["shots"].unique())
    cells = pd.concat([whole, _cleaned(own), guess, theirs, unscored])
    keys = ["source", "model", "protocol", "shots"]
    table = cells.pivot(index=keys, columns="benchmark", values="cell").fillna("").reset_index()
    rank = {AFTER: "~1", CLEANED: "~2", GUESSER: "~3"}  # "~" sorts after the other models' names
    order = [
        (not row.source.startswith("study "), row.source, rank.get(row.model, row.model))
        for row in table.itertuples()
    ]
    table = table.iloc[sorted(range(len(table)), key=order.__getitem__)].reset_index(drop=True)
    shown = [*keys[1:], *(name for name in names if name in table), "source"]
    return table[shown].rename_axis(columns=None)


def _cleaned(own: pd.DataFrame) -> pd.DataFrame:
    """Tuned without the leaked items, where a benchmark has such."""
    tuned = own[own["model"] == AFTER]
    whole, clean = tuned[tuned["subset"] == "all"], tuned[tuned["subset"] == "clean"]
    sizes = whole[[*RUN, "n"]].assign(shots=whole["shots"])
    both = clean.merge(sizes, on=RUN, suffixes=("", "_all"))
    return both[both["n"] < both["n_all"]].assign(model=CLEANED)


def _cited(others: pd.DataFrame, shots) -> pd.DataFrame:
    """Quoted rows as cells."""
    theirs = quoted.fitting(quoted.usable(others), list(shots))
    return theirs.assign(
        model=theirs["system"] + " †",
        protocol=theirs["protocol"].fillna("not stated"),
        shots=theirs["shots"].astype("string").fillna("not stated"),
        cell=[quoted.cell(row) for row in theirs.to_dict("records")],
    )


def _unscored(own: pd.DataFrame, lacking: pd.DataFrame) -> pd.DataFrame:
    """A cell for every benchmark that a study asked and a model left out was not asked."""
    asked = own[["study", "source", "protocol", "shots", "benchmark"]].drop_duplicates().merge(lacking, on="study")
    there = set(zip(own["study"], own["model"], own["benchmark"]))
    keys = zip(asked["study"], asked["model"], asked["benchmark"])
    return asked[[key not in there for key in keys]]


def usmle_set(answers: pd.DataFrame) -> str:
    """Whose USMLE items a study asked, told by how many each step has."""
    items = answers[answers["benchmark"].str.startswith("usmle_step")]
    sizes = tuple(items.groupby("benchmark")["item_id"].nunique())
    known = USMLE_SETS.get(sizes, f"neither {' nor '.join(USMLE_SETS.values())}")
    return f"Items by step: {' / '.join(map(str, sizes))}, {known}."


def comparisons(answers: pd.DataFrame, p, how: stats.How) -> pd.DataFrame:
    """Pairs of models on the same questions: difference, interval, p, smallest detectable difference.

    The primary family is the one that `p` declares (`eval_primary_*`: tuned against its start): its
    intervals are at Holm's level (`level_pct`), and `p_holm` is its adjusted p. All other rows are
    exploratory, each at the plain level. `reading` follows from the interval alone.
    """
    start, rows, answers = before(answers), [], answers[answers["benchmark"] != "usmle_macro"]
    for a, b in dict.fromkeys([(start, AFTER), ("base", AFTER), ("base", "base-nf4")]):
        for keys, part in paired(answers, a, b).groupby(SET):
            declared = keys[1] in p.eval_primary_benchmarks and (a, b, keys[0], *keys[2:]) == (
                start, AFTER, p.study, p.eval_primary_protocol, p.eval_primary_shots)
            names = {"family": "primary" if declared else "exploratory"} | dict(zip(SET, keys))
            rows.append((names | {"before": a, "after": b}, part))
    rows.sort(key=lambda row: row[0]["family"], reverse=True)  # the primary ones come first
    sides = [_sides(part, names["before"], names["after"]) for names, part in rows]
    count = sum(names["family"] == "primary" for names, _ in rows)
    gaps = verdicts.family(sides[:count], how.level) + [
        given and (verdicts.difference(*given, how.level), how.level) for given in sides[count:]]
    measured = stats.Estimate(0, 0, 0, 0, "").row("difference_pts", "pts")
    columns = ["family", *SET, "before", "after", *measured, "level_pct", "test", "p", "p_holm",
               "detectable_pts", "reading"]
    table = pd.DataFrame([names | _compared(part, names["before"], names["after"], gap, how)
                          for (names, part), gap in zip(rows, gaps)], columns=columns)
    p_values = table.loc[:count - 1, "p"]  # a declared test without a p belongs to the family too
    table["p_holm"] = table["p_holm"].astype(float)
    if count:
        adjusted = stats.holm(p_values.fillna(1))
        table.loc[:count - 1, "p_holm"] = [float(f"{q:.4g}") for q in adjusted]
    table.loc[table["p"].isna(), "p_holm"] = float("nan")
    return table


def _sides(both: pd.DataFrame, a: str, b: str) -> tuple | None:
    """What a difference is computed from, one entry an item; None where most replies are unread."""
    if errors.unread(both, a, b):
        return None
    items = errors.by_item(both, ["correct_a", "correct_b"])
    return items["correct_a"], items["correct_b"], items["cluster"]


def _compared(both: pd.DataFrame, a: str, b: str, gap: tuple | None, how: stats.How) -> dict:
    """The cells of a comparison of `paired` answers, given the difference and the level of its bounds.

    Without one, as most replies are unread, only n and why.
    """
    if gap is None:
        return {"n": both["item_id"].nunique(), "reading": errors.unread(both, a, b)}
    found, level = gap
    p_value, test = stats.paired_test(both["correct_a"], both["correct_b"], both["cluster"], how)
    return found.row("difference_pts", "pts") | {
        "level_pct": round(100 * level, 1), "test": test, "p": float(f"{p_value:.4g}"),
        "detectable_pts": round(100 * stats.detectable(*_sides(both, a, b), how), 1),
        "reading": _reading(both, a, b, found)}


def _reading(both: pd.DataFrame, a: str, b: str, found: stats.Estimate) -> str:
    """What a difference says in words, by its bounds alone; nothing where a model is constant."""
    said = [f"{name} chose {why}" for name, side in ((a, "choice_a"), (b, "choice_b"))
            if (why := errors.constant(both, side))]
    if said:
        return f"no verdict: {'; '.join(said)}"
    if found.method.startswith(verdicts.NONE):
        return f"no verdict: {found.method.removeprefix(verdicts.NONE)}"
    verdict = verdicts.judged(found)
    if verdict == verdicts.OPEN:
        return f"not distinguishable at n={found.n}"
    return f"{b if verdict == verdicts.SUPPORTED else a} higher"


def contamination_effect(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """What leaked items are worth: tuning's gain on flagged questions minus clean ones, in points.

    Where most replies are unread there is no gain, and `interval` says why.
    """
    rows = []
    both = paired(answers[answers["benchmark"] != "usmle_macro"], before(answers), AFTER)
    for keys, part in both.groupby(SET):
        if part["flagged"].nunique() < 2:
            continue
        items = errors.by_item(part, ["correct_a", "correct_b"])
        if why := errors.unread(part):
            leaked, nan = int(items["flagged"].sum()), float("nan")
            clean = len(items) - leaked
            rows.append([*keys, leaked, nan, clean, nan, len(items), nan, nan, nan, why])
            continue
        found = verdicts.gain_difference(
            items["correct_a"], items["correct_b"], items["cluster"], items["flagged"], how.level)
        flagged, clean, effect = (one.row("pts", "pts") for one in found)
        gains = flagged["n"], flagged["pts"], clean["n"], clean["pts"]
        rows.append([*keys, *gains, *effect.values()])
    return pd.DataFrame(rows, columns=[*SET, "n_flagged", "gain_flagged_pts", "n_clean", "gain_clean_pts",
                                       "n", "effect_pts", "low_pts", "high_pts", "interval"])
