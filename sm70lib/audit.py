"""The audit of the training rows: what is doubled, personal, mislabelled, or stands in a benchmark."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from sm70lib import prompts, sources
from sm70lib.benchmarks import Item
from sm70lib.params import StudyError
from sm70lib.sources import Defect, Row, load_jsonl

CHECKS = ["read", "duplicate", "personal", "label", "leak", "length"]  # in this order; the first one counts
SHORT = 8  # words: a shorter text counts as exact only together with its options
SHARE = 2 / 3  # of a text's weight in shared n-grams; PaLM (arXiv 2204.02311) asked for 70 % of 8-grams
COMMON = 10  # n-grams of more texts than this are phrases ("comes to the physician because of"), not copies
SIZES = (8, 13)  # 13 as GPT-3 (arXiv 2005.14165); 8, as 420 of MMLU's 1,089 medical questions are shorter
HOW = ["exact", "ngram8", "ngram13"]
HITS = ["source", "file", "row", "benchmark", "item_id", "field", *HOW, "share", "answer"]
PERSONAL = {
    "e-mail address": re.compile(r"@[\w-]+\.\w"),
    "telephone number": re.compile(r"(?<![\d./])(\+\d{1,3}[ .-]?)?(\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}\b"),
}
CAUSAL, REFERENCE = "medical_meadow_pubmed_causal", "pubmed_causal_reference"
# What a causal label says, by the first phrase it holds; numbered as in the original annotation
KINDS = {"no relationship": 0, "conditional": 2, "correlat": 3, "caus": 1}


def words(text: str) -> list[str]:
    """The text's words, normalised: NFKC, case folded, without punctuation."""
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())


def _fields(question: str, options: Iterable[str], **texts: str) -> dict[str, list[list[str]]]:
    parts = {"question": [words(question)], "options": sorted(map(words, options))}
    parts |= {name: [words(text)] for name, text in texts.items()}
    return {name: part for name, part in parts.items() if any(part)}


def _keys(fields: dict[str, list[list[str]]]) -> Iterator[tuple[str, str]]:
    for name, parts in fields.items():
        if sum(map(len, parts)) >= SHORT:
            yield name, str(parts)
    if {"question", "options"} <= fields.keys():
        yield "question", str(fields["question"] + fields["options"])


class Overlap:
    """Finds benchmark items in rows that stream by: an index of the benchmarks' texts and hashed n-grams.

    Each field of an item (question, context, options, explanation) is compared with each of a row (stem or
    input, options, output, instruction). `exact`: equal after normalisation, options in any order; a text of
    fewer than eight words ("10; 20; 30; 40", "Which is true?") counts only as question and options together.
    `ngram8`, `ngram13`: shared n-grams cover two thirds of the shorter text (of the item's, for options); a
    word weighs log(texts / texts that hold it), so "which of the following is" weighs little.
    """

    def __init__(self, items: list[Item]):
        self.owners, self.exact, texts = [], defaultdict(list), []
        for item in items:
            explanation = str(item.meta.get("explanation") or "")
            fields = _fields(item.question, item.options, context=item.context, explanation=explanation)
            for name, key in _keys(fields):
                self.exact[key].append(len(texts) + list(fields).index(name))
            self.owners += [(item, name) for name in fields]
            texts += fields.values()
        counts = Counter(word for parts in texts for word in set().union(*parts))
        self.number = {word: n for n, word in enumerate(counts, 2)}  # 0 ends a part, 1 is any unknown word
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
            stem, options = prompts.unwrap(row.input)
            fields = _fields(stem, options.values(), output=row.output, instruction=row.instruction)
            for _, key in _keys(fields):
                for place in self.exact.get(key, ()):
                    hits[number, place]["exact"] = True
            texts += fields.values()
            owners += [number] * len(fields)
        ids, owner = self._ids(texts)
        for n in SIZES if texts else ():
            for text, place, share in self._shared(n, ids, owner):
                hit = hits[owners[text], place]
                hit |= {f"ngram{n}": True, "share": max(share, hit.get("share", 0))}
        return [_hit(rows[number], *self.owners[place], how) for (number, place), how in sorted(hits.items())]

    def _ids(self, texts: list) -> tuple[np.ndarray, np.ndarray]:
        numbers = [[self.number.get(word, 1) for word in part] + [0] for parts in texts for part in parts]
        lengths = [sum(map(len, parts)) + len(parts) for parts in texts]
        return np.array([n for ids in numbers for n in ids], int), np.repeat(np.arange(len(texts)), lengths)

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
        table = table[~table["hash"].isin(texts.index[texts > COMMON])].sort_values("hash", kind="stable")
        sieve = np.zeros(2**24, bool)  # one look-up spares the search for nearly all n-grams of a source
        sieve[table["hash"].to_numpy() >> np.uint64(40)] = True
        return *(table[column].to_numpy() for column in table), sieve

    def _shared(self, n: int, ids: np.ndarray, owner: np.ndarray) -> Iterator[tuple[int, int, float]]:
        """Text, item field and share of the shorter one's weight, where shared n-grams cover enough of it."""
        hashes, places, fields, sieve = self.tables[n]
        grams, at = self._grams(ids, n)
        seen = sieve[grams >> np.uint64(40)]
        first, last = (np.searchsorted(hashes, grams[seen], side) for side in ("left", "right"))
        entries = np.concatenate([np.zeros(0, int), *map(np.arange, first, last)])
        by = ["text", "field"]
        pairs = pd.DataFrame({"text": np.repeat(owner[at[seen]], last - first), "field": fields[entries],
                              "place": places[entries]}).drop_duplicates().sort_values([*by, "place"])
        follows = pairs.groupby(by)["place"].shift(-1).fillna(len(self.before)).astype(int)
        end = np.minimum(pairs["place"] + n, follows)  # overlapping n-grams count their words once
        covered = (pairs.assign(weight=self.before[end] - self.before[pairs["place"]])
                   .groupby(by, as_index=False)["weight"].sum())
        whole = np.bincount(owner, self.weight[ids])[covered["text"]]
        whole[[self.owners[place][1] == "options" for place in covered["field"]]] = np.inf
        covered["share"] = covered["weight"] / np.minimum(whole, self.total[covered["field"]])
        found = covered[covered["share"] >= SHARE]
        return zip(found["text"], found["field"], found["share"].round(3))


def _hit(row: Row, item: Item, name: str, how: dict) -> dict:
    letter, _, text = row.output.partition(":")  # "E: Nitrofurantoin", "E", or the answer itself
    said = prompts.unwrap(row.input)[1].get(row.output.strip(), text if len(letter) == 1 else row.output)
    return {"source": row.source, "file": row.file, "row": row.row, "benchmark": item.benchmark,
            "item_id": item.id, "field": name, **dict.fromkeys(HOW, False), "share": 1.0, **how,
            "answer": words(said) == words(item.options[item.answer])}


@dataclass
class Audit:
    """What `run` found: rows read by source, findings, overlaps, and causal labels (original x ours)."""

    names: list[str]
    sizes: Counter
    rows: Counter = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    hits: list[dict] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.zeros((4, 4), int))

    def kept(self, root: Path, limit: int | None = None) -> Iterator[Row]:
        """All sources' rows again, without those that a finding drops."""
        dropped = {(defect.file, defect.row) for defect in self.defects if defect.dropped}
        rows = (row for name in self.names for row in sources.read(name, root, [], limit))
        return (row for row in rows if (row.file, row.row) not in dropped)

    def funnel(self) -> pd.DataFrame:
        """By source: rows in its files, rows dropped by each check, rows kept."""
        first = {(defect.file, defect.row): defect for defect in reversed(self.defects) if defect.dropped}
        counts = Counter((defect.source, defect.check) for defect in first.values())
        table = pd.DataFrame({check: [counts[name, check] for name in self.names] for check in CHECKS})
        rows = table["read"] + [self.rows[name] for name in self.names]
        table.insert(0, "rows", rows)
        return table.assign(kept=rows - table[CHECKS].sum(axis=1)).set_axis(self.names).rename_axis("source")

    def contamination(self) -> pd.DataFrame:
        """By source and benchmark: its items, and how many of them stand in the source in which sense."""
        hits = pd.DataFrame(self.hits, columns=HITS).astype(dict.fromkeys(HOW, bool)).assign(any=True)
        by = ["source", "benchmark"]
        items = hits.groupby([*by, "item_id"])[[*HOW, "any"]].any().groupby(by).sum()
        table = items.reindex(pd.MultiIndex.from_product([self.names, self.sizes], names=by), fill_value=0)
        table.insert(0, "items", [self.sizes[benchmark] for _, benchmark in table.index])
        return table.reset_index()

    def label_verdict(self) -> dict:
        """Share of causal labels that agree with the reference as they are, and under the best renaming."""
        if not (n := self.labels.sum()):
            return {"checked": 0, "verdict": "unverifiable" if CAUSAL in self.names else "not among the sources"}
        agree, renamed = np.trace(self.labels) / n, self.labels[linear_sum_assignment(-self.labels)].sum() / n
        verdict = "right" if agree >= 0.95 else "permuted" if renamed >= 0.95 else "unreliable"
        return {"checked": int(n), "agree": agree, "agree_renamed": renamed, "verdict": verdict}


def run(names: list[str], root: Path, items: list[Item], policies: dict[str, str],
        limit: int | None = None) -> Audit:
    """Streams each source through all checks.

    `policies`: report, drop or fail for duplicate, personal, label and leak; StudyError at what must fail.
    """
    found, index, seen = Audit(names, Counter(item.benchmark for item in items)), Overlap(items), set()
    truth = _reference(Path(root)) if CAUSAL in names else {}
    for name in names:
        rows = sources.read(name, root, found.defects, limit)
        while batch := list(islice(rows, 1000)):
            found.rows[name] += len(batch)
            found.hits += (hits := index.find(batch))
            leaks = defaultdict(set)
            for hit in hits:
                leaks[hit["file"], hit["row"]].add(hit["benchmark"])
            for row in batch:
                original = truth.get(row.input.strip()) if name == CAUSAL else None
                if original is not None:
                    found.labels[original, _kind(row.output)] += 1
                for check, reason in _findings(row, seen, original, leaks[row.file, row.row]):
                    if policies[check] == "fail":
                        raise StudyError(f"audit_{check} is fail; {row.file} has in row {row.row}: {reason}; "
                                         "set it to drop or report, or take the row out.")
                    drop = policies[check] == "drop"
                    found.defects.append(Defect(name, row.file, row.row, reason, check, drop))
    return found


def _findings(row: Row, seen: set[int], original: int | None, leaks: set[str]) -> Iterator[tuple[str, str]]:
    text = "\n".join((row.instruction, row.input, row.output))
    if (same := hash(" ".join(text.casefold().split()))) in seen:
        yield "duplicate", "same text as an earlier row"
    seen.add(same)
    yield from (("personal", kind) for kind, pattern in PERSONAL.items() if pattern.search(text))
    if original is not None and original != _kind(row.output):
        yield "label", "label contradicts the reference"
    if leaks:
        yield "leak", f"stands in {', '.join(sorted(leaks))}"


def _reference(root: Path) -> dict[str, int]:
    """Original labels by sentence, from the reference's JSON Lines (sentence, label), if there are any."""
    paths = sorted(root.glob(f"{REFERENCE}/*.jsonl"))
    lines = (line for path in paths for _, line in load_jsonl(path))
    return {str(line.get("sentence")).strip(): _kind(line.get("label")) for line in lines}


def _kind(label: object) -> int:
    text = str(label).casefold()
    return int(text) if text in set("0123") else next((KINDS[key] for key in KINDS if key in text), 0)
