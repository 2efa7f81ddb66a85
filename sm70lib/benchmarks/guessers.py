"""Guessers that never read a question: the floor for any model."""

from collections import Counter

from sm70lib.benchmarks.item import Item


def constant_guess(items: list[Item]) -> dict[str, float]:
    """Accuracy (share) of the two best guessers that never read a question.

    Returns:
        `position`: always takes the place in the option list that is most often right.
        `text`: takes the option whose text is most often right among the items of all other
        clusters. Ties are shared.
    """
    times = Counter(map(id, items))  # a million answers are to few items
    distinct = {id(item): item for item in items}
    positions: Counter[int] = Counter()
    right: Counter[str] = Counter()
    within: Counter[tuple[str, str]] = Counter()
    for key, item in distinct.items():
        text = item.options[item.answer]
        positions[item.answer] += times[key]
        right[text] += times[key]
        within[item.cluster, text] += times[key]
    hits_of = {key: _hits(item, right, within) for key, item in distinct.items()}
    hits = 0.0
    for item in items:  # one after the other, as the sum of fractions depends on their order
        hits += hits_of[id(item)]
    return {"position": max(positions.values()) / len(items), "text": hits / len(items)}


def _hits(item: Item, right: Counter[str], within: Counter[tuple[str, str]]) -> float:
    """What the guesser of `text` scores on an item: 1, a share of it for a tie, or 0."""
    counts = [right[text] - within[item.cluster, text] for text in item.options]
    most = max(counts)
    return 1 / counts.count(most) if counts[item.answer] == most else 0.0


def best_constant_accuracy(items: list[Item]) -> float:
    """Accuracy (share) of the better guesser: a model that reads the questions must exceed it.

    Where the right option always stands at the same place (TruthfulQA: first), only `text` counts.
    That order is the file's layout, and a protocol that shows the options has to shuffle them.
    """
    guess = constant_guess(items)
    return guess["text"] if guess["position"] == 1 else max(guess.values())
