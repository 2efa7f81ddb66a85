"""The judges of claims, by name: each turns one entry of claims.yml into rows of the scorecard."""

from collections.abc import Callable

from sm70lib.claims.case import Row, Study
from sm70lib.claims.change import across, all_of, gains
from sm70lib.claims.entries import Claim
from sm70lib.claims.own import floor, four_bits, letters, no_worse, primary
from sm70lib.claims.printed import against, wider
from sm70lib.claims.stated import offline, stated

JUDGES: dict[str, Callable[[Claim, Study], list[Row]]] = {
    judge.__name__: judge
    for judge in (
        across,
        against,
        all_of,
        floor,
        four_bits,
        gains,
        letters,
        no_worse,
        offline,
        primary,
        stated,
        wider,
    )
}
