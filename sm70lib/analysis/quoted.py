"""Numbers that others report (`quoted.csv`), and how our own scores compare with them.

A source often states neither how many items nor how many shots a number stands for. `n` and `shots`
hold what it states; `n_plausible` and `shots_plausible` hold what may have been, smallest first. We
judge a number only if all plausible values lead to the same result.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from sm70lib.presentation import names
from sm70lib.statistics import stats
from sm70lib.statistics.stats import Estimate
from sm70lib.study.params import StudyError

# What identifies a quoted number: each combination may occur once in quoted.csv
KEY = ["system", "benchmark", "subset", "protocol", "shots", "metric", "source"]
# Remarks on a score of a whole benchmark; single subjects and categories have tables of their own
WHOLE = ("tuned on each benchmark", "released weights", "as printed")
HOLDS, REVERSED, INSIDE = "order holds", "reversed", "inside the interval"
ABOVE, BELOW = "ours above", "ours below"  # used where no order is claimed
DEPENDS = "not judged: it depends on what the source does not state"
NO_N = "not judged: n is not known"


def read(path: Path = Path(__file__).with_name("quoted.csv")) -> pd.DataFrame:
    """Reads the quoted numbers.

    Args:
        path: the file.

    Returns:
        One row per number; `value_pct` (percent) is missing where a printed value was illegible.

    Raises:
        StudyError: two rows of the file quote the same number.
    """
    texts = {"n_plausible": "string", "shots_plausible": "string"}
    table = pd.read_csv(path, dtype=texts).astype({"n": "Int64", "shots": "Int64"})
    again = table[table.duplicated(KEY, keep=False)]
    if len(again):
        first, second, *_ = again.index + 2  # line 1 holds the names of the columns
        quote = again.iloc[0]
        raise StudyError(
            f"{path.name}, lines {first} and {second}: both quote {quote['system']} on "
            f"{quote['benchmark']} from the same source under the same protocol; keep one"
        )
    return table


def usable(quotes: pd.DataFrame) -> pd.DataFrame:
    """Quoted accuracies on a whole benchmark that we verified in their source."""
    whole = (quotes["metric"] == "acc") & quotes["subset"].isna()
    return quotes[whole & (quotes["status"] == "verified")]


def of_whole_benchmarks(quotes: pd.DataFrame) -> pd.DataFrame:
    """Verified accuracies on all items of a benchmark, among them those with a remark of WHOLE."""
    verified = (quotes["metric"] == "acc") & (quotes["status"] == "verified")
    return quotes[verified & (quotes["subset"].isna() | quotes["subset"].isin(WHOLE))]


def by_system(quotes: pd.DataFrame) -> pd.DataFrame:
    """Systems and sources by benchmarks: each accuracy with its shots, and a remark of WHOLE."""
    found = of_whole_benchmarks(quotes)
    shots = found["shots"].astype("string").fillna("?")
    remark = (", " + found["subset"]).fillna("")
    cells = found.assign(cell=found["value_pct"].astype(str) + " (" + shots + remark + ")")
    keys = ["system", "source", "benchmark"]
    table = cells.groupby(keys, sort=False)["cell"].agg(lambda part: "; ".join(dict.fromkeys(part)))
    asked = [name for name in names.BENCHMARKS if name in set(found["benchmark"])]
    asked += sorted(set(found["benchmark"]) - set(asked))
    wide = table.unstack("benchmark")[asked].fillna("").reset_index()
    wide["system"] += " †"
    return wide[["system", *asked, "source"]].rename_axis(columns=None)


def fitting(quotes: pd.DataFrame, shots: list[int]) -> pd.DataFrame:
    """The quoted rows that have, or may have, one of these numbers of shots."""
    fits = [not set(shots).isdisjoint(counts(row, "shots")) for row in _rows(quotes)]
    return quotes[pd.Series(fits, quotes.index, dtype=bool)]


def nearest(quotes: pd.DataFrame, shots: int) -> list[dict]:
    """The rows that fit `shots`; all rows where none fits."""
    chosen = fitting(quotes, [shots])
    return _rows(chosen if len(chosen) else quotes)


def once(quotes: list[dict]) -> list[dict]:
    """Each value once; where several sources print it, the row names them all."""
    firsts: dict[float, dict] = {}
    stated_first = sorted(quotes, key=lambda quote: pd.isna(quote["shots"]))
    for quote in stated_first:
        value = quote["value_pct"]
        first = firsts.setdefault(value, quote)
        if first is not quote:
            sources = f"{first['source']}; also {quote['source']}"
            firsts[value] = first | {"source": sources}
    return list(firsts.values())


def counts(quote: dict, name: str) -> list[int]:
    """The values that `name` ("n" or "shots") may have: the stated one, or the plausible ones."""
    if not pd.isna(quote[name]):
        return [int(quote[name])]
    plausible = quote[f"{name}_plausible"]
    return [] if pd.isna(plausible) else [int(word) for word in str(plausible).split()]


def asked(quote: dict) -> str:
    """Protocol, shots and n of a quoted number in words, marked where they are inferred."""
    protocol = "protocol not stated" if pd.isna(quote["protocol"]) else quote["protocol"]
    shots = _in_words(quote, "shots", "{}-shot")
    n = _in_words(quote, "n", "n {}")
    return f"{protocol}; {shots}; {n}"


def cell(quote: dict) -> str:
    """A quoted number for a table: its value and n, after a ~ if that is inferred."""
    value = f"{quote['value_pct']}"
    plausible = counts(quote, "n")
    if not plausible:
        return value
    mark = "~" if pd.isna(quote["n"]) else "="
    return f"{value} n{mark}{plausible[0]}"


def bounds(value_pct: float, n: int, level: float) -> Estimate:
    """A printed accuracy of `n` items with exact bounds (Clopper-Pearson 1934, Biometrika 26:404).

    A printed value stands for all values that round to it (77.9 for 77.85 to 77.95). The lower
    bound is that of the smallest of them, the upper bound that of the largest.

    Args:
        value_pct: the printed value (percent).
        n: number of items.
        level: two-sided level (share).
    """
    decimals = len(f"{value_pct}".partition(".")[2])
    half = 0.5 * 10.0**-decimals  # half a unit of the last printed digit
    least, most = (min(max(value_pct + side, 0.0), 100.0) / 100 * n for side in (-half, half))
    low, _ = proportion_confint(least, n, alpha=1 - level, method="beta")
    _, high = proportion_confint(most, n, alpha=1 - level, method="beta")
    return Estimate(value_pct / 100, float(low), float(high), n, "Clopper-Pearson")


def gap(ours: Estimate, quote: dict, n: int, level: float) -> Estimate:
    """Our accuracy minus the quoted one on `n` items, unpaired, with the errors of both."""
    return stats.minus(ours, bounds(quote["value_pct"], n, level))


def by_category(quotes: pd.DataFrame) -> pd.DataFrame:
    """The quoted values of TruthfulQA, with the category, or the mean, as the benchmark."""
    found = quotes[quotes["benchmark"] == "truthfulqa"]
    return found.assign(benchmark=found["subset"], subset=float("nan"))


def impossible(quotes: pd.DataFrame) -> list[str]:
    """In words, the printed accuracies that no number of right answers gives.

    Args:
        quotes: rows of quoted.csv, each with one n that it has or may have. A mean over parts or
            draws may be anything, and belongs to none of them.
    """
    said = []
    for quote in _rows(quotes):
        value, [n] = quote["value_pct"], counts(quote, "n")
        decimals = len(f"{value}".partition(".")[2])
        below = int(value / 100 * n)
        shares = {right: 100 * right / n for right in (below, min(below + 1, n))}
        if all(abs(share - value) >= 10.0**-decimals for share in shares.values()):  # not even cut
            could = " or ".join(f"{k} ({share:.{decimals + 1}f})" for k, share in shares.items())
            said.append(
                f"{quote['system']}'s printed {value} in {quote['benchmark']} is not a share of "
                f"{n} questions: the nearest are {could}."
            )
    return said


def order(gaps: list[Estimate], sign: int) -> str:
    """The order on which all gaps agree.

    Args:
        gaps: ours minus theirs (shares, from -1 to 1), one for each plausible n and shots.
        sign: 1 if the claim is that we are above, -1 if below, 0 if nothing is claimed.

    Returns:
        HOLDS, REVERSED or INSIDE (ABOVE, BELOW or INSIDE without a claim); DEPENDS if the gaps
        disagree, NO_N if there is none.
    """
    if not gaps:
        return NO_N
    above, below = {1: (HOLDS, REVERSED), -1: (REVERSED, HOLDS), 0: (ABOVE, BELOW)}[sign]
    orders = set()
    for difference in gaps:
        if difference.low > 0:
            orders.add(above)
        elif difference.high < 0:
            orders.add(below)
        else:
            orders.add(INSIDE)
    return orders.pop() if len(orders) == 1 else DEPENDS


def same(quote: dict, protocol: str, shots: int, n: int) -> bool:
    """Whether the source states exactly this protocol, these shots and this n."""
    stated = quote["protocol"], quote["shots"], quote["n"]
    return not any(map(pd.isna, stated)) and stated == (protocol, shots, n)


def _rows(quotes: pd.DataFrame) -> list[dict]:
    return quotes.to_dict("records")


def _in_words(quote: dict, name: str, form: str) -> str:
    """A stated number in the given form, or what may have been."""
    if not pd.isna(quote[name]):
        return form.format(quote[name])
    plausible = " or ".join(map(str, counts(quote, name)))
    if not plausible:
        return f"{name} not stated"
    return f"{name} not stated, {plausible} inferred"
