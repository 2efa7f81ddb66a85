"""What others report (`quoted.csv`): read, told apart, and held beside our own scores.

A source often states neither how many items nor how many shots a number stands for. `n` and `shots`
hold what it states; `n_plausible` and `shots_plausible` what may have been, smallest first. Nothing
is said about a number unless all of these agree.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from sm70lib.statistics import stats
from sm70lib.statistics.stats import Estimate
from sm70lib.study.params import StudyError

# What tells two quoted numbers apart: each combination may stand in quoted.csv once
KEY = ["system", "benchmark", "subset", "protocol", "shots", "metric", "source"]
HOLDS, REVERSED, INSIDE = "order holds", "reversed", "inside the interval"
ABOVE, BELOW = "ours above", "ours below"  # where no order is claimed
DEPENDS = "not judged: it depends on what the source does not state"
NO_N = "not judged: n is not known"


def read(path: Path = Path(__file__).with_name("quoted.csv")) -> pd.DataFrame:
    """The catalogue; `value_pct` (percent) is missing where a printed value could not be read.

    Raises:
        StudyError: two rows of the file quote the same number.
    """
    texts = {"n_plausible": "string", "shots_plausible": "string"}
    table = pd.read_csv(path, dtype=texts).astype({"n": "Int64", "shots": "Int64"})
    again = table[table.duplicated(KEY, keep=False)]
    if len(again):
        first, second, *_ = again.index + 2  # line 1 holds the names of the columns
        one = again.iloc[0]
        raise StudyError(
            f"{path.name}, lines {first} and {second}: both quote {one['system']} on "
            f"{one['benchmark']} from the same source under the same protocol; keep one"
        )
    return table


def usable(quotes: pd.DataFrame) -> pd.DataFrame:
    """Quoted accuracies on a whole benchmark that were read in their source."""
    whole = (quotes["metric"] == "acc") & quotes["subset"].isna()
    return quotes[whole & (quotes["status"] == "verified")]


def fitting(quotes: pd.DataFrame, shots: list[int]) -> pd.DataFrame:
    """The quoted rows of one of these numbers of shots, and those that may have had it."""
    fits = [bool(set(counts(row, "shots")) & set(shots)) for row in _rows(quotes)]
    return quotes[pd.Series(fits, quotes.index, dtype=bool)]


def nearest(quotes: pd.DataFrame, shots: int) -> list[dict]:
    """The rows that fit `shots`; where a system has none, those of other shots."""
    chosen = fitting(quotes, [shots])
    return _rows(chosen if len(chosen) else quotes)


def once(quotes: list[dict]) -> list[dict]:
    """Each value once, where one source repeats what another prints: both are named."""
    firsts: dict[float, dict] = {}
    for quote in sorted(quotes, key=lambda one: pd.isna(one["shots"])):
        first = firsts.setdefault(quote["value_pct"], quote)
        if first is not quote:
            firsts[quote["value_pct"]] = first | {
                "source": f"{first['source']}; also {quote['source']}"
            }
    return list(firsts.values())


def counts(quote: dict, name: str) -> list[int]:
    """Values that `name` ("n" or "shots") may have: the stated one, or the plausible ones."""
    if not pd.isna(quote[name]):
        return [int(quote[name])]
    plausible = quote[f"{name}_plausible"]
    return [] if pd.isna(plausible) else [int(word) for word in str(plausible).split()]


def asked(quote: dict) -> str:
    """Protocol, shots and items of a quoted number in words; what is inferred is said to be."""
    protocol = "protocol not stated" if pd.isna(quote["protocol"]) else quote["protocol"]
    return f"{protocol}; {_said(quote, 'shots', '{}-shot')}; {_said(quote, 'n', 'n {}')}"


def cell(quote: dict) -> str:
    """A quoted number for a table: value and n, which stands behind a ~ where it is inferred."""
    plausible = counts(quote, "n")
    mark = "~" if pd.isna(quote["n"]) else "="
    return f"{quote['value_pct']}" + (f" n{mark}{plausible[0]}" if plausible else "")


def bounds(value_pct: float, n: int, level: float) -> Estimate:
    """A printed accuracy of `n` items with exact bounds (Clopper-Pearson 1934, Biometrika 26:404).

    A printed value stands for all that round to it (77.9 for 77.85 to 77.95), so the lower bound is
    that of the smallest and the upper one that of the largest.
    """
    half = 0.5 * 10.0 ** -len(f"{value_pct}".partition(".")[2])
    least, most = (min(max(value_pct + side, 0.0), 100.0) / 100 * n for side in (-half, half))
    low, _ = proportion_confint(least, n, alpha=1 - level, method="beta")
    _, high = proportion_confint(most, n, alpha=1 - level, method="beta")
    return Estimate(value_pct / 100, float(low), float(high), n, "Clopper-Pearson")


def gap(ours: Estimate, quote: dict, n: int, level: float) -> Estimate:
    """Ours minus the quoted value as a score of `n` items: unpaired, both with their error."""
    return stats.minus(ours, bounds(quote["value_pct"], n, level))


def order(gaps: list[Estimate], sign: int) -> str:
    """The order that all `gaps` (ours minus theirs, one for each plausible n and shots) agree on.

    Args:
        gaps: shares, from -1 to 1.
        sign: 1 where we are claimed to be above, -1 below, 0 where nothing is claimed.

    Returns:
        HOLDS, REVERSED or INSIDE (ABOVE, BELOW or INSIDE without a claim); DEPENDS where the gaps
        disagree, NO_N where there is none.
    """
    if not gaps:
        return NO_N
    named = {1: (HOLDS, REVERSED), -1: (REVERSED, HOLDS), 0: (ABOVE, BELOW)}[sign]
    found = {named[0] if one.low > 0 else named[1] if one.high < 0 else INSIDE for one in gaps}
    return found.pop() if len(found) == 1 else DEPENDS


def same(quote: dict, protocol: str, shots: int, n: int) -> bool:
    """Whether a quoted number is stated to come from this very protocol, shots and n."""
    stated = quote["protocol"], quote["shots"], quote["n"]
    return not any(map(pd.isna, stated)) and stated == (protocol, shots, n)


def _rows(quotes: pd.DataFrame) -> list[dict]:
    return quotes.to_dict("records")


def _said(quote: dict, name: str, form: str) -> str:
    if not pd.isna(quote[name]):
        return form.format(quote[name])
    plausible = " or ".join(map(str, counts(quote, name)))
    return f"{name} not stated" + (f", {plausible} inferred" if plausible else "")
