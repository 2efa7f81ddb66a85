"""The guessers that any model must beat."""

from collections import Counter

from sm70lib.benchmarks.item import Item


def constant_guess(items: list[Item]) -> dict[str, float]:
    """Accuracy (share) of the two best guessers that never read a question.

    `position` always takes the place in the option list that is most often right. `text` takes the option
    whose text is most often right among the items of all other clusters (ties are shared).
    """
    positions = Counter(item.answer for item in items)
    right = Counter(item.options[item.answer] for item in items)
    own = Counter((item.cluster, item.options[item.answer]) for item in items)
    hits = 0.0
    for item in items:
        counts = [right[text] - own[item.cluster, text] for text in item.options]
        hits += (counts[item.answer] == max(counts)) / counts.count(max(counts))
    return {"position": max(positions.values()) / len(items), "text": hits / len(items)}


def best_constant_accuracy(items: list[Item]) -> float:
    """The better of `constant_guess`: the floor that a model must beat to have read the questions (share).

    Where all right options stand at the same place (TruthfulQA: first), only `text` counts: that order is the
    file's layout, and a protocol that shows it has to shuffle.
    """
    guess = constant_guess(items)
    return guess["text"] if guess["position"] == 1 else max(guess.values())
