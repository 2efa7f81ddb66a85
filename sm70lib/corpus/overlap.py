"""Overlap of training rows with benchmarks: exact after normalisation, and by word n-grams."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from sm70lib.benchmarks import Item
from sm70lib.corpus.words import UNKNOWN, Numbers, Parts, Texts, copies, words
from sm70lib.sources import Row, wordings

# Share of a text's weight that shared n-grams must cover. PaLM (arXiv 2204.02311) asked for 70 % of
# 8-grams.
SHARE = 2 / 3
# An n-gram of more texts than this is a phrase ("comes to the physician because of"), not a copy.
COMMON = 10
# 13 as in GPT-3 (arXiv 2005.14165); 8 because 420 of MMLU's 1,089 medical questions are shorter.
SIZES = (8, 13)
HASH_STEP = np.uint64(0x9E3779B97F4A7C15)  # multiplier of the rolling hash
SIEVE_BITS = 24
HOW = ["exact", "ngram8", "ngram13"]
HITS = ["source", "file", "row", "benchmark", "item_id", "field", *HOW, "share", "answer"]


def _fields(question: str, options: Iterable[str], **texts: str) -> dict[str, Parts]:
    """The texts of each field that has any; options are sorted, so their order does not matter."""
    fields = {"question": [question]}
    if listed := sorted(map(words, options)):
        fields["options"] = [" ".join(option) for option in listed]
    for name, text in texts.items():
        fields[name] = [text]
    return {name: parts for name, parts in fields.items() if any(parts)}


def _key(parts: Parts) -> str:
    """What is equal for two fields with the same words."""
    return str([words(part) for part in parts])


def _pair(fields: dict[str, Parts], first: int) -> list[tuple[int, int]]:
    """The places of question and options, if there are both; the first field has place `first`."""
    names = list(fields)
    if not {"question", "options"} <= fields.keys():
        return []
    return [(first + names.index("question"), first + names.index("options"))]


class Overlap:
    """Finds benchmark items in rows that stream by.

    It is an index of the benchmarks' texts and their hashed n-grams. Each field of an item
    (question, context, options, explanation) is compared with each field of a row (stem or input,
    options, output, instruction), in two ways:

    `exact`: the texts are equal after normalisation, with options in any order. A text of fewer
    than eight words ("10; 20; 30; 40", "Which is true?") counts only as question and options
    together.

    `ngram8`, `ngram13`: shared n-grams cover two thirds of the weight of the shorter text (for
    options: of the item's text). A word weighs log(texts / texts that hold it), so "which of the
    following is" weighs little.

    What a word is, also in scripts without spaces, `words` says.

    Args:
        items: the items of all benchmarks.
    """

    def __init__(self, items: list[Item]):
        self.owners: list[tuple[Item, str]] = []  # item and field name of each text
        texts, pairs = self._add(items)
        found = [{word for part in parts for word in words(part)} for parts in texts]
        counts = Counter(word for one in found for word in one)
        self.numbers = Numbers(list(counts))
        # The end of a part weighs nothing, and an unknown word weighs the most.
        self.weight = np.log(len(texts) + 1) - np.log([len(texts) + 1, 1, *counts.values()])
        self.value = np.random.default_rng(0).integers(1, 2**63, len(self.weight), dtype=np.uint64)
        seen = Texts(texts, self.numbers)
        self.exact: dict[str, list[int]] = defaultdict(list)  # texts with the same words
        glances = [-1]  # of no text
        for glance, place, parts in copies(seen, texts, pairs):
            self.exact[_key(parts)].append(place)
            glances.append(glance)
        self.glances = np.unique(glances)
        self.total = np.bincount(seen.owner, self.weight[seen.ids], len(texts))
        # weight of all words before a place
        self.before = np.r_[0, np.cumsum(self.weight[seen.ids])]
        self.tables = {n: self._table(n, seen.ids, seen.owner) for n in SIZES}

    def _add(self, items: list[Item]) -> tuple[list[Parts], list[tuple[int, int]]]:
        """Registers the texts of all items.

        Returns:
            The texts, and the places of each item's question and options among them.
        """
        texts: list[Parts] = []
        pairs: list[tuple[int, int]] = []
        for item in items:
            explanation = str(item.details.explanation or "")
            fields = _fields(
                item.question, item.options, context=item.context, explanation=explanation
            )
            fields = {name: parts for name, parts in fields.items() if any(map(words, parts))}
            pairs += _pair(fields, len(texts))
            self.owners += [(item, name) for name in fields]
            texts += fields.values()
        return texts, pairs

    def find(self, rows: list[Row]) -> list[dict]:
        """Finds every overlap of some rows with the items.

        Returns:
            One record (`HITS`) for each pair of a row and an item's field that overlap. `share` is
            the share of the weight, `answer` says whether the row gives the right answer too.
        """
        hits: dict[tuple[int, int], dict] = defaultdict(dict)  # by row and text of an item
        texts: list[Parts] = []
        pairs: list[tuple[int, int]] = []
        owners: list[int] = []  # the row of each text
        for number, row in enumerate(rows):
            stem, options = wordings.unwrap(row.input)
            turns = {f"turn {place}": text for place, (_, text) in enumerate(row.turns)}
            fields = _fields(
                stem, options.values(), output=row.output, instruction=row.instruction, **turns
            )
            pairs += _pair(fields, len(texts))
            texts += fields.values()
            owners += [number] * len(fields)
        seen = Texts(texts, self.numbers)
        for _, text, parts in copies(seen, texts, pairs, self.glances):
            for place in self.exact.get(_key(parts), ()):
                hits[owners[text], place]["exact"] = True
        for n in SIZES if texts else ():
            for text, place, share in self._shared(n, seen.ids, seen.owner):
                hit = hits[owners[text], place]
                hit[f"ngram{n}"] = True
                hit["share"] = max(share, hit.get("share", 0))
        records = []
        for (number, place), senses in sorted(hits.items()):
            item, name = self.owners[place]
            records.append(_hit(rows[number], item, name, senses))
        return records

    def _grams(self, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Hash and place of every n-gram without an unknown word or the end of a part."""
        gaps = np.r_[0, np.cumsum(ids <= UNKNOWN)]
        places = np.flatnonzero(gaps[n:] == gaps[:-n])
        hashes: np.ndarray = np.zeros(len(places), np.uint64)
        for shift in range(n):
            hashes = hashes * HASH_STEP + self.value[ids[places + shift]]
        return hashes, places

    def _table(self, n: int, ids: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, ...]:
        """The n-grams of the items in the order of their hashes: hash, place, text, and a sieve.

        The sieve says which first bits of a hash occur. One look-up in it spares the search for
        nearly all n-grams of a source.
        """
        hashes, places = self._grams(ids, n)
        table = pd.DataFrame({"hash": hashes, "place": places, "field": owner[places]})
        texts = table.drop_duplicates(["hash", "field"])["hash"].value_counts()
        common = texts.index[texts > COMMON]
        table = table[~table["hash"].isin(common)].sort_values("hash", kind="stable")
        sieve = np.zeros(2**SIEVE_BITS, bool)
        sieve[_first_bits(table["hash"].to_numpy())] = True
        return (*(table[column].to_numpy() for column in table), sieve)

    def _shared(
        self, n: int, ids: np.ndarray, owner: np.ndarray
    ) -> Iterator[tuple[int, int, float]]:
        """Text, item's text and share of the weight, where shared n-grams cover enough of it."""
        covered = self._covered(n, self._matches(n, ids, owner))
        whole = np.bincount(owner, self.weight[ids])[covered["text"]]
        # For options only the item's own text counts.
        whole[[self.owners[place][1] == "options" for place in covered["field"]]] = np.inf
        shorter = np.minimum(whole, self.total[covered["field"]])
        covered["share"] = covered["weight"] / shorter
        enough = covered[covered["share"] >= SHARE]
        return zip(enough["text"], enough["field"], enough["share"].round(3))

    def _matches(self, n: int, ids: np.ndarray, owner: np.ndarray) -> pd.DataFrame:
        """Every shared n-gram once: the text, the item's text (`field`), and its place there."""
        hashes, places, fields, sieve = self.tables[n]
        grams, at = self._grams(ids, n)
        likely = sieve[_first_bits(grams)]
        first = np.asarray(np.searchsorted(hashes, grams[likely], "left"))
        last = np.asarray(np.searchsorted(hashes, grams[likely], "right"))
        found = np.flatnonzero(last > first)
        entries = np.concatenate([np.zeros(0, int), *map(np.arange, first[found], last[found])])
        matches = pd.DataFrame(
            {
                "text": np.repeat(owner[at[likely]], last - first),
                "field": fields[entries],
                "place": places[entries],
            }
        )
        return matches.drop_duplicates().sort_values(["text", "field", "place"])

    def _covered(self, n: int, matches: pd.DataFrame) -> pd.DataFrame:
        """The weight of the words that shared n-grams cover, by text and item's text."""
        by = ["text", "field"]
        follows = matches.groupby(by)["place"].shift(-1).fillna(len(self.before)).astype(int)
        end = np.minimum(matches["place"] + n, follows)  # words of two n-grams count once
        weight = self.before[end] - self.before[matches["place"]]
        return matches.assign(weight=weight).groupby(by, as_index=False)["weight"].sum()


def _first_bits(hashes: np.ndarray) -> np.ndarray:
    return hashes >> np.uint64(64 - SIEVE_BITS)


def _hit(row: Row, item: Item, name: str, senses: dict) -> dict:
    """A record with the columns `HITS`; `senses` are those in which row and item overlap."""
    return {
        "source": row.source,
        "file": row.file,
        "row": row.row,
        "benchmark": item.benchmark,
        "item_id": item.id,
        "field": name,
        **dict.fromkeys(HOW, False),
        "share": 1.0,
        **senses,
        "answer": words(_answer(row)) == words(item.options[item.answer]),
    }


def _answer(row: Row) -> str:
    """The text of a row's answer, which may be "E: Nitrofurantoin", "E", or the answer itself."""
    options = wordings.unwrap(row.input)[1]
    letter, _, text = row.output.partition(":")
    written = text if len(letter) == 1 else row.output
    return options.get(row.output.strip(), written)
