"""A styled table as Markdown, HTML and plain text."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup, escape

from sm70lib.presentation.styled import Styled
from sm70lib.untrusted import escaping

STACKED = 6  # rows; each row of a shorter table is a card of its own on a narrow page
DENSE = 9  # columns; those of a wider table stand closer
JUDGED = {"Reading", "Verdict", "As compared", "Within"}  # never to be looked for at the right


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
