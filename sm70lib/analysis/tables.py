"""The tables of a study, all from per-item predictions: results, the paper's, comparisons."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from sm70lib.analysis.frames import fictional, trained_here
from sm70lib.statistics import stats
from sm70lib.study.params import rehearsal
from sm70lib.study.steps import write_text

P_VALUES = ("p", "p_holm")


def caption(text: str, answers: pd.DataFrame) -> str:
    """The text with study, protocols, shots and number of questions, and what a small study can show at most."""
    study, protocol, shots = (
        ", ".join(map(str, sorted(answers[name].unique())))
        for name in ("study", "protocol", "shots")
    )
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
    styled = (
        text.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    )
    styled = styled.map(lambda _: "textit:--rwrap;", subset=pd.IndexSlice[cited, :])
    write_text(folder / f"{name}.csv", table.to_csv(index=False))
    write_text(folder / f"{name}.md", f"{caption}\n\n{lines}")
    write_text(
        folder / f"{name}.tex",
        styled.to_latex(
            hrules=True,
            label=f"tab:{name}",
            environment="longtable" if len(table) > 40 else "table",
            caption=re.sub(r"([%&_#])", r"\\\1", caption),
        ).replace("& < 0.", "& $<$ 0."),
    )
    return table


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its p-values (P_VALUES) as text: no p is 0, the smallest are "< 0.001"."""
    names = [name for name in P_VALUES if name in table]
    return table.assign(**{name: table[name].map(stats.p_text) for name in names})
