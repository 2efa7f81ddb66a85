"""Judgements as files: one line for each criterion of each reply, by judge.

They lie beside the predictions, in `<run>.judged/<judge>.jsonl`. A model's line has `item_id`,
`criterion` (its number in the rubric, from 1), `points`, `met` (true, false, or null if what the
judge said could not be read), `asked_for` (the model that the study names), `judge` and `server`
(the exact model that answered, and the server's name and version), `words` (the version of our
words), `prompt_digest`, `reply_digest` and `said`. A person's line has the same `item_id`,
`criterion`, `points`, `met` and `reply_digest`, and under `judge` the reader's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm70lib.benchmarks import Item
from sm70lib.protocols import rubric
from sm70lib.records.jsonlines import drop_half_line
from sm70lib.steps.steps import write_text


@dataclass(frozen=True)
class Case:
    """One criterion of one reply.

    Attributes:
        item: the conversation.
        number: the criterion's number, from 1.
        reply: what the model wrote.
    """

    item: Item
    number: int
    reply: str

    @property
    def prompt(self) -> str:
        """What a judge is asked."""
        turns = self.item.details.conversation
        assert turns is not None, "every conversation with a rubric has its turns"
        return rubric.asked(turns, self.reply, self.item.options[self.number - 1])

    @property
    def about(self) -> dict[str, Any]:
        """What every judge's line begins with."""
        points = self.item.details.points
        assert points is not None, "every criterion has its points"
        return {
            "item_id": self.item.id,
            "criterion": self.number,
            "points": points[self.number - 1],
            "reply_digest": rubric.digest(self.reply),
        }

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells its lines from those of other criteria and of earlier replies."""
        return self.item.id, self.number, rubric.digest(self.reply)


def cases(items: list[Item], predictions: Path) -> list[Case]:
    """Every criterion of every reply in a prediction file, in the file's order."""
    by_id = {item.id: item for item in items}
    found = []
    for line in map(json.loads, predictions.read_text(encoding="utf-8").splitlines()):
        item = by_id[line["item_id"]]
        reply = line["parsed"][0]
        found += [Case(item, number, reply) for number in range(1, len(item.options) + 1)]
    return found


def place(predictions: Path, judge: str) -> Path:
    """The file of a judge's judgements beside a prediction file."""
    return predictions.with_suffix(".judged") / f"{judge}.jsonl"


def files(predictions: Path) -> list[Path]:
    """The files of all judges beside a prediction file."""
    return sorted(predictions.with_suffix(".judged").glob("*.jsonl"))


def read(path: Path) -> Iterator[dict]:
    """The lines of a judge's file; none without one."""
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def key(line: dict) -> tuple[str, int, str]:
    """The `Case.key` that a line belongs to."""
    return line["item_id"], line["criterion"], line["reply_digest"]


def keep(path: Path, wanted: dict[tuple, dict[str, Any]]) -> set[tuple]:
    """Keeps the lines of a file that are still wanted, and drops the others.

    Args:
        path: a judge's file; it need not exist.
        wanted: what a line has to say, by `Case.key`.

    Returns:
        The keys of the lines that are kept.
    """
    drop_half_line(path)
    lines = list(read(path))
    kept = [line for line in lines if _is_wanted(line, wanted)]
    if len(kept) < len(lines):
        gone = len(lines) - len(kept)
        print(f"{path.stem}: {gone} judgements of other replies, words or models are left out")
        write_text(path, "".join(f"{json.dumps(line)}\n" for line in kept))
    return {key(line) for line in kept}


def _is_wanted(line: dict, wanted: dict[tuple, dict[str, Any]]) -> bool:
    """Whether a line is about a criterion that is wanted, and says what it has to say."""
    has_to_say = wanted.get(key(line))
    return has_to_say is not None and has_to_say.items() <= line.items()
