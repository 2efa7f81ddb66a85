"""Texts that are nearly the same, by MinHash: what a shard notes of each, and a look at all shards.

Two texts are nearly the same if their sets of five words in a row have a Jaccard index of 0.8 or
more, as in Lee et al. (arXiv 2107.06499, section 4.2). A signature estimates it: texts that agree
in all numbers of a band are candidates, and the share of equal numbers in all bands decides.

    signature   [ 8 numbers | 8 numbers | ... 14 bands ]     456 bytes of each text, on disk

Only one band is in memory at a time: 60 bytes of each text, 1.3 GB for the 21.1 million of
Meditron's corpus, whose signatures take 9.6 GB on disk. The look is made once, when all shards are
there, in their order, so the result depends neither on the processes nor on which shard came first.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rensa import RMinHash

from sm70lib.corpus.examples import chunks
from sm70lib.corpus.findings import text_of
from sm70lib.corpus.words import hashed
from sm70lib.sources import Row

NEARLY = "nearly the same text as an earlier row"
WORDS = 5  # in a row
ALIKE = 0.8  # least share of equal numbers
# Of texts with an index of 0.8, 92 % agree in a band; of those with 0.5, 5 %.
BANDS, NUMBERS = 14, 8
SEED = 0
SIGNATURES = "minhash.bin"
SIGNED = np.dtype([("digest", np.uint64), ("bands", np.uint32, (BANDS, NUMBERS))])
MIX = np.uint64(0xBF58476D1CE4E5B9)  # odd, and not the one by which letters become words
CHUNK = 2**16  # texts or pairs that are read at one time


def write_signatures(rows: Iterable[Row], folder: Path) -> Iterator[Row]:
    """The rows; `folder` gets a file with the signatures of their texts.

    A text of fewer than WORDS words has none: `audit_duplicate` is enough for it.
    """
    with open(folder / SIGNATURES, "wb") as file:
        for batch in chunks(rows):
            digests = np.array([row.digest for row in batch], np.uint64)
            for hashes, counts in hashed([text_of(row) for row in batch]):
                here, digests = np.split(digests, [len(counts)])
                long = counts >= WORDS
                signed = np.zeros(long.sum(), SIGNED)
                signed["digest"] = here[long]
                signed["bands"] = signatures(hashes, counts)[long]
                signed.tofile(file)
            yield from batch


def signatures(hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The MinHash of the runs of WORDS words of some texts.

    Args:
        hashes: of the words of all texts.
        counts: how many words each text has.

    Returns:
        Numbers, (texts, BANDS, NUMBERS); those of a text without a run are all alike.
    """
    padded = np.concatenate([hashes, np.zeros(WORDS, np.uint64)])
    runs: np.ndarray = np.zeros(len(hashes), np.uint64)
    for place in range(WORDS):
        runs = runs * MIX + padded[place : place + len(hashes)]
    sizes = np.maximum(counts - WORDS + 1, 0)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    first = np.cumsum(counts) - counts
    inside = np.repeat(first - ends[:-1], sizes) + np.arange(ends[-1])  # runs within one text
    # rensa 0.5 takes 2 microseconds for an abstract where datasketch 2.0 takes 150, and errs by as
    # little: 0.03 root mean square on pairs of real abstracts and answers.
    made = RMinHash.digest_matrix_from_flat_token_hashes(
        runs[inside], ends.astype(np.uint64), BANDS * NUMBERS, SEED
    )
    return np.array(made.to_rows(), np.uint32).reshape(-1, BANDS, NUMBERS)


def near_duplicates(folders: list[Path]) -> np.ndarray:
    """The texts that are nearly the same as an earlier one.

    Args:
        folders: finished shards, in the order in which their texts count as earlier.

    Returns:
        Their digests, sorted.
    """
    texts = _Texts(folders)
    near: np.ndarray = np.zeros(len(texts.digests), bool)
    for band in range(BANDS):
        keys = texts.keys(band)
        order = np.argsort(keys, kind="stable")  # of equal keys, the earlier text comes first
        same = keys[order[1:]] == keys[order[:-1]]
        earlier, later = order[:-1][same], order[1:][same]
        for first in range(0, len(later), CHUNK):
            pairs = slice(first, first + CHUNK)
            equal = texts.bands(earlier[pairs]) == texts.bands(later[pairs])
            near[later[pairs]] |= equal.mean(axis=(1, 2)) >= ALIKE
    return np.sort(texts.digests[near])


class _Texts:
    """What all shards have noted of their texts. Of equal texts only the first one counts.

    Attributes:
        digests: the digest of each text.
    """

    def __init__(self, folders: list[Path]):
        files = [folder / SIGNATURES for folder in folders]
        self.shards: list[np.ndarray] = [
            np.memmap(file, SIGNED, "r") for file in files if file.stat().st_size
        ]
        self.starts = np.cumsum([0, *map(len, self.shards)])
        digests = np.concatenate([_EMPTY, *(shard["digest"] for shard in self.shards)])
        self.places = np.sort(np.unique(digests, return_index=True)[1])
        self.digests = digests[self.places]

    def keys(self, band: int) -> np.ndarray:
        """A number for each text, equal for texts that agree in this band."""
        keys = [_EMPTY]
        for shard in self.shards:
            for first in range(0, len(shard), CHUNK):
                keys.append(_mixed(shard["bands"][first : first + CHUNK, band]))
        return np.concatenate(keys)[self.places]

    def bands(self, texts: np.ndarray) -> np.ndarray:
        """The signatures of some texts, (texts, BANDS, NUMBERS)."""
        places = self.places[texts]
        shards = np.asarray(np.searchsorted(self.starts, places, "right")) - 1
        signatures: np.ndarray = np.zeros((len(texts), BANDS, NUMBERS), np.uint32)
        for shard in np.unique(shards):
            here = shards == shard
            rows = places[here] - self.starts[shard]
            signatures[here] = self.shards[shard]["bands"][rows]
        return signatures


_EMPTY: np.ndarray = np.zeros(0, np.uint64)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """One number for each line of numbers; other lines have the same in one of 2^64 cases."""
    keys: np.ndarray = np.zeros(len(numbers), np.uint64)
    for column in numbers.T:
        keys = (keys ^ column) * MIX
        keys ^= keys >> np.uint64(32)
    return keys
