"""A table in a notebook, as the report shows it, with a sentence on what was found."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup

from sm70lib.presentation import forms
from sm70lib.presentation.in_notebooks import COLUMNS
from sm70lib.presentation.styled import styled

NOTHING = "There is nothing to show here: this study has none of it."


def shown(table: pd.DataFrame, found: str = "") -> HTML:
    """A table for a notebook.

    Args:
        table: the table; named levels of its index become its first columns.
        found: a sentence on what was found, which stands below it.
    """
    named = [name for name in table.index.names if name is not None]
    whole = table.reset_index() if named else table
    if whole.empty:
        return HTML(str(_paragraph(found or NOTHING)))
    known = {name: COLUMNS[name] for name in whole.columns if name in COLUMNS}
    whole = whole.round({name: about.decimals or 0 for name, about in known.items()})
    heads = {name: about.head for name, about in known.items()}
    seen = styled(whole.rename(columns=heads).rename(columns=str))
    parts = [Markup('<div style="overflow-x:auto">{}</div>').format(forms.html(seen))]
    parts += [_paragraph(words) for words in (seen.caption, found) if words]
    return HTML("\n".join(parts))


def said(words: str) -> HTML:
    """A sentence on what was found, for a section that has no table."""
    return HTML(str(_paragraph(words)))


def _paragraph(words: str) -> Markup:
    return Markup("<p>{}</p>").format(words)
