"""How the tables of a study are captioned and written."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from sm70lib.analysis.frames import fictional, trained_here
from sm70lib.statistics import stats
from sm70lib.steps.steps import write_text
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
    n = len(answers[["study", "item_id"]].drop_duplicates())
    note = ""
    small = trained_here(answers["weights"].min())
    if fictional(answers):
        note = " Invented world: shows the method, not medicine."
    elif small:
        note = f" The base {small}: expect chance of it, and no evidence about SM70."
    return f"{text} Study {study}; protocol {protocol}; {shots}-shot; {n:,} questions.{note}"


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> pd.DataFrame:
    """Writes a table as `<name>.csv`, `<name>.md` and `<name>.tex`.

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
    text = table.astype(object).where(table.notna(), "").astype(str)
    cited = [index for index, row in text.iterrows() if row.str.endswith("†").any()]
    write_text(folder / f"{name}.csv", table.to_csv(index=False))
    write_text(folder / f"{name}.md", f"{caption}\n\n{_markdown(text, cited)}")
    write_text(folder / f"{name}.tex", _latex(text, cited, name, caption))
    return table


def _markdown(text: pd.DataFrame, cited: list) -> str:
    """The rows of a Markdown table, with the `cited` ones in italics.

    pandas' to_markdown pads columns to their widest cell: one longer cell changes every line.
    """
    marked = text.replace({r"\|": r"\\|", r"\s*\n\s*": " "}, regex=True)
    marked.loc[cited] = marked.loc[cited].map(lambda cell: f"*{cell}*" if cell else cell)
    lines = [list(marked), ["---"] * len(marked.columns), *marked.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(text: pd.DataFrame, cited: list, name: str, caption: str) -> str:
    """A LaTeX table, with the `cited` rows in italics."""
    styled = text.style.hide(axis="index").format(escape="latex")
    styled = styled.format_index(escape="latex", axis=1)
    styled = styled.map(lambda _: "textit:--rwrap;", subset=pd.IndexSlice[cited, :])
    latex = styled.to_latex(
        hrules=True,
        label=f"tab:{name}",
        environment="longtable" if len(text) > 40 else "table",
        caption=re.sub(r"([%&_#])", r"\\\1", caption),
    )
    return latex.replace("& < 0.", "& $<$ 0.")


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
