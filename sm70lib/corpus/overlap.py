"""Overlap of training rows with benchmarks: exact after normalisation, and by word n-grams."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import numpy as np
import pandas as pd

from sm70lib.benchmarks import Item
from sm70lib.corpus import templates
from sm70lib.sources import Row

SHORT = 8  # words: a shorter text counts as exact only together with its options
SHARE = (
    2 / 3
)  # of a text's weight in shared n-grams; PaLM (arXiv 2204.02311) asked for 70 % of 8-grams
COMMON = 10  # n-grams of more texts than this are phrases ("comes to the physician because of"), not copies
SIZES = (
    8,
    13,
)  # 13 as GPT-3 (arXiv 2005.14165); 8, as 420 of MMLU's 1,089 medical questions are shorter
HOW = ["exact", "ngram8", "ngram13"]
HITS = ["source", "file", "row", "benchmark", "item_id", "field", *HOW, "share", "answer"]


WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The text's words, normalised: NFKC, case folded, without punctuation."""
    plain = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return WORD.findall(plain)


def _fields(question: str, options: Iterable[str], **texts: str) -> dict[str, list[list[str]]]:
    parts = {"question": [words(question)], "options": sorted(map(words, options))}
    parts |= {name: [words(text)] for name, text in texts.items()}
    return {name: part for name, part in parts.items() if any(part)}


def _copies(fields: dict[str, list[list[str]]]) -> Iterator[tuple[str, list[list[str]]]]:
    """What must be equal for an exact copy: each field that is long enough, and question with options."""
    for name, parts in fields.items():
        if sum(map(len, parts)) >= SHORT:
            yield name, parts
    if {"question", "options"} <= fields.keys():
        yield "question", fields["question"] + fields["options"]


def _glance(parts: list[list[str]]) -> tuple[int, str, str]:
    """Cheap to compare before two texts are: words, the first one and the last one."""
    return sum(map(len, parts)), (parts[0] or [""])[0], (parts[-1] or [""])[-1]


class Overlap:
    """Finds benchmark items in rows that stream by: an index of the benchmarks' texts and hashed n-grams.

    Each field of an item (question, context, options, explanation) is compared with each of a row (stem or
    input, options, output, instruction). `exact`: equal after normalisation, options in any order; a text of
    fewer than eight words ("10; 20; 30; 40", "Which is true?") counts only as question and options together.
    `ngram8`, `ngram13`: shared n-grams cover two thirds of the shorter text (of the item's, for options); a
    word weighs log(texts / texts that hold it), so "which of the following is" weighs little.
    """

    def __init__(self, items: list[Item]):
        self.owners, self.exact, self.glances, texts = [], defaultdict(list), set(), []
        for item in items:
            explanation = str(item.meta.get("explanation") or "")
            fields = _fields(
                item.question, item.options, context=item.context, explanation=explanation
            )
            for name, parts in _copies(fields):
                self.exact[str(parts)].append(len(texts) + list(fields).index(name))
                self.glances.add(_glance(parts))
            self.owners += [(item, name) for name in fields]
            texts += fields.values()
        counts = Counter(word for parts in texts for word in set().union(*parts))
        self.number = {"": 0} | {
            word: n for n, word in enumerate(counts, 2)
        }  # 0 ends a part, 1 is unknown
        self.weight = np.log(len(texts) + 1) - np.log([len(texts) + 1, 1, *counts.values()])
        self.value = np.random.default_rng(0).integers(1, 2**63, len(self.weight), dtype=np.uint64)
        ids, owner = self._ids(texts)
        self.total = np.bincount(owner, self.weight[ids], len(texts))
        self.before = np.r_[0, np.cumsum(self.weight[ids])]  # weight of all words before a place
        self.tables = {n: self._table(n, ids, owner) for n in SIZES}

    def find(self, rows: list[Row]) -> list[dict]:
        """One record (`HITS`) per row and item field that overlap; `answer`: the row gives the answer too."""
        hits, texts, owners = defaultdict(dict), [], []
        for number, row in enumerate(rows):
            stem, options = templates.unwrap(row.input)
            fields = _fields(stem, options.values(), output=row.output, instruction=row.instruction)
            for _, parts in _copies(fields):
                for place in (
                    self.exact.get(str(parts), ()) if _glance(parts) in self.glances else ()
                ):
                    hits[number, place]["exact"] = True
            texts += fields.values()
            owners += [number] * len(fields)
        ids, owner = self._ids(texts)
        for n in SIZES if texts else ():
            for text, place, share in self._shared(n, ids, owner):
                hit = hits[owners[text], place]
                hit |= {f"ngram{n}": True, "share": max(share, hit.get("share", 0))}
        return [
            _hit(rows[number], *self.owners[place], how)
            for (number, place), how in sorted(hits.items())
        ]

    def _ids(self, texts: list) -> tuple[np.ndarray, np.ndarray]:
        stream = chain.from_iterable(chain(part, [""]) for parts in texts for part in parts)
        lengths = [sum(map(len, parts)) + len(parts) for parts in texts]
        ids = np.fromiter(map(self.number.get, stream, repeat(1)), int, sum(lengths))
        return ids, np.repeat(np.arange(len(texts)), lengths)

    def _grams(self, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Hash and place of every n-gram that holds neither a part's end nor an unknown word."""
        gaps = np.r_[0, np.cumsum(ids < 2)]
        places = np.flatnonzero(gaps[n:] == gaps[:-n])
        hashes = np.zeros(len(places), np.uint64)
        for shift in range(n):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + self.value[ids[places + shift]]
        return hashes, places

    def _table(self, n: int, ids: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, ...]:
        hashes, places = self._grams(ids, n)
        table = pd.DataFrame({"hash": hashes, "place": places, "field": owner[places]})
        texts = table.drop_duplicates(["hash", "field"])["hash"].value_counts()
        table = table[~table["hash"].isin(texts.index[texts > COMMON])].sort_values(
            "hash", kind="stable"
        )
        sieve = np.zeros(
            2**24, bool
        )  # one look-up spares the search for nearly all n-grams of a source
        sieve[table["hash"].to_numpy() >> np.uint64(40)] = True
        return *(table[column].to_numpy() for column in table), sieve

    def _shared(
        self, n: int, ids: np.ndarray, owner: np.ndarray
    ) -> Iterator[tuple[int, int, float]]:
        """Text, item field and share of the shorter one's weight, where shared n-grams cover enough of it."""
        hashes, places, fields, sieve = self.tables[n]
        grams, at = self._grams(ids, n)
        seen = sieve[grams >> np.uint64(40)]
        first, last = (np.searchsorted(hashes, grams[seen], side) for side in ("left", "right"))
        found = np.flatnonzero(last > first)
        entries = np.concatenate([np.zeros(0, int), *map(np.arange, first[found], last[found])])
        by = ["text", "field"]
        pairs = (
            pd.DataFrame(
                {
                    "text": np.repeat(owner[at[seen]], last - first),
                    "field": fields[entries],
                    "place": places[entries],
                }
            )
            .drop_duplicates()
            .sort_values([*by, "place"])
        )
        follows = pairs.groupby(by)["place"].shift(-1).fillna(len(self.before)).astype(int)
        end = np.minimum(pairs["place"] + n, follows)  # overlapping n-grams count their words once
        covered = (
            pairs.assign(weight=self.before[end] - self.before[pairs["place"]])
            .groupby(by, as_index=False)["weight"]
            .sum()
        )
        whole = np.bincount(owner, self.weight[ids])[covered["text"]]
        whole[[self.owners[place][1] == "options" for place in covered["field"]]] = np.inf
        covered["share"] = covered["weight"] / np.minimum(whole, self.total[covered["field"]])
        found = covered[covered["share"] >= SHARE]
        return zip(found["text"], found["field"], found["share"].round(3))


def _hit(row: Row, item: Item, name: str, how: dict) -> dict:
    letter, _, text = row.output.partition(":")  # "E: Nitrofurantoin", "E", or the answer itself
    said = templates.unwrap(row.input)[1].get(
        row.output.strip(), text if len(letter) == 1 else row.output
    )
    return {
        "source": row.source,
        "file": row.file,
        "row": row.row,
        "benchmark": item.benchmark,
        "item_id": item.id,
        "field": name,
        **dict.fromkeys(HOW, False),
        "share": 1.0,
        **how,
        "answer": words(said) == words(item.options[item.answer]),
    }
