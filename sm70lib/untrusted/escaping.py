"""Texts of data sets, models and files, written so that no program takes them for orders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and study files are read without it

# What moves a terminal's cursor, colours its text or turns its direction; new lines and tabs stay.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# A spreadsheet computes a cell that begins so (OWASP, CSV injection); a plain number is harmless.
FORMULA = re.compile(r"(?![-+][\d.,]+(e[-+]?\d+)?$)[=+\-@\t\r]")
TAG = re.compile(r"<(?=[A-Za-z/!?])")  # not the one of "< 0.001"
# What LaTeX writes as mathematics; other letters that a plain pdflatex lacks are named by a code
SIGNS = {
    "→": "rightarrow",
    "≤": "leq",
    "≥": "geq",
    "≈": "approx",
    "±": "pm",
    "✓": "surd",
    "×": "times",
    "÷": "div",
    "µ": "mu",
    "μ": "mu",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "κ": "kappa",
    "λ": "lambda",
    "σ": "sigma",
    "ω": "omega",
    "Δ": "Delta",
}
UNKNOWN = re.compile("[^\\x20-\\x7e\\n\\t¡-ſ‘’‚“”„†‡•…–—]")
LATEX: Mapping[int, str] = str.maketrans(
    {char: f"\\{char}" for char in "%&_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {sign: f"$\\{order}$" for sign, order in SIGNS.items()}
    | {"−": "$-$", "°": r"$^\circ$"}
)


def visible(text: str) -> str:
    """The text with its control characters as pictures (␛) or numbers, for screens and pages."""
    return CONTROL.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else f"\\u{code:04x}"


def shortened(value: object, most: int = 200) -> str:
    """A value on one line, of at most so many characters."""
    text = value if isinstance(value, str) else repr(value)
    line = visible(" ".join(text[: 2 * most].split()))
    return line if len(line) <= most and len(text) <= 2 * most else f"{line[: most - 1]}…"


def csv(table: pd.DataFrame) -> str:
    """A table as CSV; a text that a spreadsheet would compute gets an apostrophe in front."""
    return _mapped(table, _cell).to_csv(index=False)


def _cell(text: str) -> str:
    shown = visible(text)  # without a carriage return, at which some programs begin a new row
    return f"'{shown}" if FORMULA.match(text) else shown


def markdown_table(table: pd.DataFrame, index: bool = True) -> str:
    """A table as Markdown, each of its texts as `markdown` writes it."""
    made = _mapped(table, markdown)
    made.index = made.index.map(lambda name: markdown(name) if isinstance(name, str) else name)
    return made.to_markdown(index=index)


def _mapped(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with the texts of its columns changed; numbers stay as they are."""
    made = table.copy()
    for place, kind in enumerate(table.dtypes):
        if kind.kind not in "biuf":
            column = table.iloc[:, place].astype(object)
            texts = [change(value) if isinstance(value, str) else value for value in column]
            made.isetitem(place, type(column)(texts, column.index, dtype=object))
    return made


def markdown(text: str) -> str:
    """A text as one line of a Markdown table, without tags, links and images."""
    line = re.sub(r"\s*\n\s*", " ", visible(text)).replace("|", "\\|")
    return TAG.sub("&lt;", line).replace("](", "]\\(")


def latex(text: str) -> str:
    """A text for LaTeX: every character that is an order is escaped, or named if LaTeX lacks it."""
    return UNKNOWN.sub(_named, visible(text).translate(LATEX))


def _named(found: re.Match[str]) -> str:
    return f"[U+{ord(found[0]):04X}]"
