"""Personal data in a text: e-mail addresses and telephone numbers."""

import re
from collections.abc import Iterator

PERSONAL = {
    "e-mail address": re.compile(r"@[\w-]+\.\w"),
    "telephone number": re.compile(
        r"(?<![\d./])(\+\d{1,3}[ .-]?)?(\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}\b"
    ),
}
# Most texts lack the hint, and a search for it is quicker.
HINTS = {
    "e-mail address": re.compile("@"),
    "telephone number": re.compile(r"\d[ .-]\d{4}"),
}


def kinds_in(text: str) -> Iterator[str]:
    """The kinds of personal data that a text holds: names in PERSONAL."""
    for kind, pattern in PERSONAL.items():
        if HINTS[kind].search(text) and pattern.search(text):
            yield kind
