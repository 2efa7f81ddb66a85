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
    positions = Counter(item.answer for item in items)
    right = Counter(item.options[item.answer] for item in items)
    within = Counter((item.cluster, item.options[item.answer]) for item in items)
    hits = 0.0
    for item in items:
        counts = [right[text] - within[item.cluster, text] for text in item.options]
        most = max(counts)
        if counts[item.answer] == most:
            hits += 1 / counts.count(most)
    return {"position": max(positions.values()) / len(items), "text": hits / len(items)}


def best_constant_accuracy(items: list[Item]) -> float:
    """Accuracy (share) of the better guesser: a model that reads the questions must exceed it.

    Where the right option always stands at the same place (TruthfulQA: first), only `text` counts.
    That order is the file's layout, and a protocol that shows the options has to shuffle them.
    """
    guess = constant_guess(items)
    return guess["text"] if guess["position"] == 1 else max(guess.values())
