"""What the terminal says of a finished study: its first result, its table, and where to read on."""

from __future__ import annotations

from pathlib import Path

from sm70lib.display import command_line
from sm70lib.live import clock
from sm70lib.presentation import forms
from sm70lib.presentation.styled import styled
from sm70lib.reporting import result
from sm70lib.reporting.made import Made
from sm70lib.study.params import StudyError

CARD, PAPER, REPORT = "tables/scorecard.csv", "tables/paper.csv", "report/index.html"


def headline(folder: Path) -> str:
    """The first declared comparison with its interval and verdict; "" if there is none.

    Args:
        folder: outputs/<study>.
    """
    if not (folder / CARD).is_file():
        return ""
    lines = result.lines(Made(folder))
    if not lines:
        return ""
    first = lines[0]
    said = ", ".join(filter(None, (first.gap, first.detail.replace("; ", ", "))))
    return f"{first.title}: {said}: {first.verdict}"


def table(folder: Path) -> str:
    """The study's accuracies with their intervals, as aligned text.

    Args:
        folder: outputs/<study>.

    Raises:
        StudyError: the study has no table of results.
    """
    if not (folder / PAPER).is_file():
        raise StudyError(
            f"study {folder.name} has no {PAPER}: run it up to 06_figures "
            f"({command_line('run', [f'params/{folder.name}.yml'], {})})"
        )
    found = Made(folder).table("paper")
    own = found[~found["model"].str.endswith("†")]
    caption = (folder / PAPER).with_suffix(".md").read_text(encoding="utf-8").split("\n")[0]
    lines = [caption, "", forms.plain(styled(own, caption))]
    if len(own) < len(found):
        lines.append(f"{len(found) - len(own)} results of others are quoted in {folder / PAPER}")
    return "\n".join(lines)


def where_to_read(folder: Path) -> str:
    """The address of the report, or the command that makes it.

    Args:
        folder: outputs/<study>.
    """
    report, card = folder / REPORT, folder / CARD
    if report.is_file() and card.is_file() and report.stat().st_mtime >= card.stat().st_mtime:
        return f"report:  {report.as_uri()}"
    return f"next:    {command_line('report', [folder.name], {})}"


def last_words(folder: Path, seconds: float) -> str:
    """What `run` says at its end: the headline, the time, the table, and the report.

    Args:
        folder: outputs/<study>.
        seconds: how long the run took.
    """
    said = headline(folder)
    lines = [f"\nresult:  {said}"] if said else []
    lines.append(f"time:    {clock(seconds)}")
    if (folder / PAPER).is_file():
        lines.append(f"table:   {command_line('results', [folder.name], {})}")
    if (folder / CARD).is_file():
        lines.append(where_to_read(folder))
    return "\n".join(lines)
