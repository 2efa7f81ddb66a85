"""How the tables of a study are captioned and written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup, escape

from sm70lib.analysis.frames import fictional, trained_here
from sm70lib.presentation import forms, latex
from sm70lib.presentation.styled import styled
from sm70lib.statistics import stats
from sm70lib.steps.steps import write_csv, write_text
from sm70lib.study.params import rehearsal

P_VALUES = ("p", "p_holm")


def caption(text: str, answers: pd.DataFrame) -> str:
    """A caption: the text, then study, protocols, shots, number of questions and limits.

    Args:
        text: what the table shows.
        answers: the answers that it was made from.
    """
    study, protocol, shots = (
        ", ".join(map(str, sorted(answers[name].unique())))
        for name in ("study", "protocol", "shots")
    )
    n = answers["item_id"].nunique()  # arms of a study answer the same questions
    note = ""
    small = trained_here(answers["weights"].min())
    if fictional(answers):
        note = " Invented world: shows the method, not medicine."
    elif small:
        note = f" The base {small}: expect scores near chance; they say nothing about the paper."
    return f"{text} Study {study}; protocol {protocol}; {shots}-shot; {n:,} questions.{note}"


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> pd.DataFrame:
    """Writes a table as `<name>.csv`, and for readers as `<name>.md` and `<name>.tex`.

    Args:
        table: the table; rows of quoted systems (†) are written in italics.
        folder: outputs/<study>/tables. The captions of a rehearsed study say that it is one.
        name: name of the files, without suffix.
        caption: stands in the .md and the .tex.

    Returns:
        The table with `printed` p-values, as it is written.
    """
    caption = f"{rehearsal(folder.parent.name)} {caption}".lstrip()
    table = printed(table)
    seen = styled(table, caption)
    write_csv(folder / f"{name}.csv", table)
    write_text(folder / f"{name}.md", f"{seen.caption}\n\n{forms.markdown(seen)}")
    write_text(folder / f"{name}.tex", latex.latex(seen, name))
    return table


def shown(table: pd.DataFrame, found: str = "") -> HTML:
    """A table for a notebook, in the form that the report shows it.

    Args:
        table: the table.
        found: a sentence on what was found, which stands below it.
    """
    seen = styled(printed(table))
    sentence = Markup("<p>{}</p>").format(found) if found else ""
    return HTML(f"{forms.html(seen)}{escape(seen.caption)}{sentence}")


def preferences(stages: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Where every preference round ended, on the pairs held back, or else on those of its last log.

    Args:
        stages: the metrics of every stage by its name; stages without preferences are left out.

    Returns:
        By stage: which pairs, the share in the right order (percent), and the mean margin (nats) by
        which the reward of the better answer exceeds that of the worse one.
    """
    rows = {}
    for stage, metrics in stages.items():
        side = "eval_" if "eval_rewards/margins" in metrics else ""
        if f"{side}rewards/margins" not in metrics:
            continue
        last = metrics.dropna(subset=f"{side}rewards/margins").iloc[-1]
        rows[stage] = {
            "pairs": "held out" if side else "trained on",
            "right_pct": round(100 * last[f"{side}rewards/accuracies"], 1),
            "margin": round(last[f"{side}rewards/margins"], 3),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its p-values (P_VALUES) as text, so that a small p is "< 0.001", not 0."""
    names = [name for name in P_VALUES if name in table]
    return table.assign(**{name: table[name].map(stats.p_text) for name in names})
