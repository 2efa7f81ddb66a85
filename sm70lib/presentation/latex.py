"""A styled table in LaTeX, with the rules of booktabs and never wider than the text.

A short table is scaled down where it is too wide. A long one breaks between pages, so it cannot be
scaled: it lies on its side, and is written in parts if its numbers do not fit beside each other.
"""

from __future__ import annotations

import re
import textwrap

import pandas as pd

from sm70lib.presentation.styled import Styled
from sm70lib.untrusted import escaping

LONG = 40  # rows; a longer table may break between pages
WRAPPED = 24  # characters; a column of longer texts breaks its lines
HEAD = 14  # characters of a line of a head
WIDTH, NARROW = "4.2cm", "1.7cm"  # of such a column, and in a long table
# In points, of a long table: the text on its side, the space of a column, NARROW, and letters
ASIDE_WIDTH, SPACE, WRAP = 532, 4, 48
LETTER, THIN, BROAD = 3.4, 2.1, 4.9
THIN_ONES, BROAD_ONES = frozenset(" .,:;'[]()ijl|-"), frozenset("=+<>%mwMW")
PACKAGES = "% needs \\usepackage[T1]{fontenc}\n% needs \\usepackage{array,booktabs,graphicx}\n"
PACKAGES += "% needs \\usepackage{longtable,pdflscape}\n"
FITTED = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
ASIDE = "\\begin{landscape}\n\\tiny\\setlength{\\tabcolsep}{2pt}\n"


def latex(table: Styled, label: str) -> str:
    """A LaTeX table, with quoted rows in italics.

    Args:
        table: the table.
        label: what `\\ref` calls it; a second part is called `<label>-2`.
    """
    if len(table.rows) > LONG:
        first, *others = _parts(table)
        written = [_written(first, label, long=True)]
        for number, part in enumerate(others, 2):
            written.append(_written(part, f"{label}-{number}", long=True))
        return PACKAGES + "".join(f"{ASIDE}{each}\\end{{landscape}}\n" for each in written)
    text = _written(table, label, long=False)
    text = text.replace("\\centering\n", "\\centering\n\\small\n")
    text = text.replace("\\begin{tabular}", f"{FITTED}\\begin{{tabular}}")
    return PACKAGES + text.replace("\\end{tabular}\n", "\\end{tabular}}\n")


def _written(table: Styled, label: str, long: bool) -> str:
    """The table as pandas writes it, with our heads and columns."""
    rows = [[escaping.latex(cell) for cell in cells] for cells in table.rows]
    for row in rows:  # else the row before would take a first "[" for its own
        row[:1] = [f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in row[:1]]
    sides = _sides(table, NARROW if long else WIDTH)
    frame = pd.DataFrame(rows, columns=range(len(table.heads)), dtype=object)
    heads = [_head(*pair).replace("{", "{{").replace("}", "}}") for pair in zip(table.heads, sides)]
    styler = frame.style.hide(axis="index").relabel_index(heads, axis="columns")  # a format each
    cited = [place for place, quoted in enumerate(table.cited) if quoted]
    styler = styler.map(lambda _: "textit:--rwrap;", subset=pd.IndexSlice[cited, :])
    text = styler.to_latex(
        hrules=True,
        label=f"tab:{label}",
        environment="longtable" if long else "table",
        position_float=None if long else "centering",
        column_format="".join(sides),
        caption=escaping.latex(table.caption),
    )
    text = text.replace("< 0.", "$<$ 0.")
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)


def _parts(table: Styled) -> list[Styled]:
    """The table, or several that each have the texts and as many of the numbers as fit."""
    widths = [_points(table, place) for place in range(len(table.heads))]
    texts = [place for place, numeric in enumerate(table.right) if not numeric]
    room = ASIDE_WIDTH - sum(widths[place] for place in texts)
    groups: list[list[int]] = [[]]
    for place, numeric in enumerate(table.right):
        if not numeric:
            continue
        if groups[-1] and sum(widths[each] for each in [*groups[-1], place]) > room:
            groups.append([])
        groups[-1].append(place)
    chosen = [sorted([*texts, *group]) for group in groups]
    return [_part(table, places, f"{n} of {len(chosen)}") for n, places in enumerate(chosen, 1)]


def _points(table: Styled, place: int) -> float:
    """About how wide a column is (points)."""
    cells = [row[place] for row in table.rows]
    if not table.right[place] and max(map(len, cells)) > WRAPPED:
        return WRAP + SPACE
    lines = [*cells, *textwrap.wrap(table.heads[place], HEAD)]
    return max(map(_width, lines)) + SPACE


def _width(text: str) -> float:
    """About how wide a text is (points)."""
    thin, broad = (sum(each in ones for each in text) for ones in (THIN_ONES, BROAD_ONES))
    return THIN * thin + BROAD * broad + LETTER * (len(text) - thin - broad)


def _part(table: Styled, places: list[int], which: str) -> Styled:
    """Some columns of a table; the caption says which part they are if there are several."""
    if len(places) == len(table.heads):
        return table
    return Styled(
        [table.heads[place] for place in places],
        [[row[place] for place in places] for row in table.rows],
        [table.right[place] for place in places],
        table.cited,
        f"{table.caption} Part {which}.".strip(),
    )


def _sides(table: Styled, width: str) -> list[str]:
    """How each column is set: numbers at the right, long texts in lines of their own."""
    sides = []
    for place, numeric in enumerate(table.right):
        longest = max((len(row[place]) for row in table.rows), default=0)
        wrapped = f">{{\\raggedright\\arraybackslash}}p{{{width}}}" if longest > WRAPPED else "l"
        sides.append("r" if numeric else wrapped)
    return sides


def _head(text: str, side: str) -> str:
    """A head; a long one in several lines, at the side of its column."""
    lines = [escaping.latex(line) for line in textwrap.wrap(text, HEAD)]
    if len(lines) < 2 or len(side) > 1:
        return " ".join(lines)
    stacked = " \\\\{} ".join(lines)  # else a "[" below would be its argument
    return f"\\shortstack[{side}]{{{stacked}}}"
