"""A styled table as Markdown, LaTeX, HTML and plain text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup, escape

from sm70lib.presentation.styled import Styled
from sm70lib.untrusted import escaping

LONG = 40  # rows; a longer LaTeX table may break between pages
STACKED = 6  # rows; each row of a shorter table is a card of its own on a narrow page
DENSE = 9  # columns; those of a wider table stand closer
JUDGED = {"Reading", "Verdict", "As compared", "Within"}  # never to be looked for at the right
WRAPPED = 24  # characters; a column of longer texts breaks its lines in LaTeX
HEAD = 14  # characters of a line of a head in LaTeX
WIDTH, NARROW = "4.2cm", "1.7cm"  # of such a column, and in a long table
PACKAGES = "% needs \\usepackage[T1]{fontenc}\n% needs \\usepackage{array,booktabs,graphicx}\n"
PACKAGES += "% needs \\usepackage{longtable,pdflscape}\n"
# As wide as the text at most: a table is scaled down, one of several pages lies on its side
FITTED = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
ASIDE = "\\begin{landscape}\n\\tiny\\setlength{\\tabcolsep}{2pt}\n"


def markdown(table: Styled) -> str:
    """A Markdown table, with quoted rows in italics.

    pandas' to_markdown pads columns to their widest cell: one longer cell changes every line.
    """
    heads = [escaping.markdown(head) for head in table.heads]
    lines = [heads, ["---:" if side else "---" for side in table.right]]
    for cells, cited in zip(table.rows, table.cited):
        line = [escaping.markdown(cell) for cell in cells]
        lines.append([f"*{cell}*" if cell and cited else cell for cell in line])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Styled, label: str) -> str:
    """A LaTeX table with the rules of booktabs, and quoted rows in italics.

    It is never wider than the text: a short one is scaled, a long one lies on its side.

    Args:
        table: the table.
        label: what `\\ref` calls it.
    """
    rows = [[escaping.latex(cell) for cell in cells] for cells in table.rows]
    for row in rows:  # else the row before would take a first "[" for its own
        row[:1] = [f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in row[:1]]
    long = len(table.rows) > LONG
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
    text = re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)
    if long:
        return f"{PACKAGES}{ASIDE}{text}\\end{{landscape}}\n"
    text = text.replace("\\centering\n", "\\centering\n\\small\n")
    text = text.replace("\\begin{tabular}", f"{FITTED}\\begin{{tabular}}")
    return PACKAGES + text.replace("\\end{tabular}\n", "\\end{tabular}}\n")


def _sides(table: Styled, width: str) -> list[str]:
    """How LaTeX sets each column: numbers at the right, long texts in lines of their own."""
    sides = []
    for place, numeric in enumerate(table.right):
        longest = max((len(row[place]) for row in table.rows), default=0)
        wrapped = f">{{\\raggedright\\arraybackslash}}p{{{width}}}" if longest > WRAPPED else "l"
        sides.append("r" if numeric else wrapped)
    return sides


def _head(text: str, side: str) -> str:
    """A head in LaTeX; a long one in several lines, at the side of its column."""
    lines = [escaping.latex(line) for line in textwrap.wrap(text, HEAD)]
    if len(lines) < 2 or len(side) > 1:
        return " ".join(lines)
    stacked = " \\\\{} ".join(lines)  # else a "[" below would be its argument
    return f"\\shortstack[{side}]{{{stacked}}}"


def plain(table: Styled) -> str:
    """The heads and cells as aligned text, for a terminal."""
    lines = [table.heads, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    aligned = []
    for line in lines:
        cells = [
            cell.rjust(width) if side else cell.ljust(width)
            for cell, width, side in zip(line, widths, table.right)
        ]
        aligned.append("  ".join(cells).rstrip())
    return "\n".join(aligned)


def html(table: Styled, links: Mapping[str, list[str]] | None = None) -> Markup:
    """An HTML table; its class `num` and its alignment say which cells are numbers.

    The class `stack` says that a narrow page may show each row as a card, as every cell names its
    head: short tables have it, and all with a verdict. Those of many columns are `dense`.

    Args:
        table: the table.
        links: for heads whose cells are links, the address in each row; "" for none.
    """
    sides = [
        Markup(' class="num" style="text-align:right"') if side else _LEFT for side in table.right
    ]
    named = [escaping.visible(head) for head in table.heads]
    heads = _row("th", named, sides)
    stacked = len(table.rows) <= STACKED or not JUDGED.isdisjoint(named)
    kinds = {"stack": stacked, "dense": len(named) > DENSE}
    if stacked:
        sides = [Markup('{} data-head="{}"').format(*pair) for pair in zip(sides, named)]
    body = Markup("\n").join(
        Markup("<tr{}>{}</tr>").format(_CITED if cited else "", _row("td", cells, sides))
        for cells, cited in zip(_linked(table, links or {}), table.cited)
    )
    opened = Markup('<table class="{}">').format(" ".join(name for name in kinds if kinds[name]))
    inside = Markup("\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table>")
    return opened + inside.format(heads, body)


def _linked(table: Styled, links: Mapping[str, list[str]]) -> list[list[str]]:
    """The cells as they are shown; some are links."""
    rows = [[escaping.visible(cell) for cell in row] for row in table.rows]
    for head in links.keys() & set(table.heads):
        column = table.heads.index(head)
        for row, address in zip(rows, links[head]):
            if address:
                row[column] = Markup('<a href="{}">{}</a>').format(address, row[column])
    return rows


_LEFT = Markup(' style="text-align:left"')
_CITED = Markup(' class="quoted"')


def _row(tag: str, cells: list[str], sides: list[Markup]) -> Markup:
    opened = Markup("<{0}{1}>{2}</{0}>")
    return Markup("").join(
        opened.format(Markup(tag), side, escape(cell)) for cell, side in zip(cells, sides)
    )
