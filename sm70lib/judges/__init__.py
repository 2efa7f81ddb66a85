"""The judges of claims, by name: each turns one entry of claims.yml into rows of the scorecard."""

from collections.abc import Callable

from sm70lib.claims import Claim
from sm70lib.judges.case import Row, Study
from sm70lib.judges.change import across, all_of, gains
from sm70lib.judges.own import floor, four_bits, letters, no_worse, primary
from sm70lib.judges.printed import against, wider
from sm70lib.judges.stated import offline, stated

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
