"""One question with its options and its answer."""

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Item:
    """One question; `answer` is the right option's position. Items of one `cluster` are not independent."""

    id: str
    cluster: str
    benchmark: str
    question: str
    context: str
    options: tuple[str, ...]
    answer: int
    meta: dict = field(default_factory=dict)


def items_digest(items: list[Item]) -> str:
    """sha256 (hex) of the items' content in their order: what a prediction file was scored on."""
    found = hashlib.sha256()
    for item in items:
        found.update(json.dumps(asdict(item), sort_keys=True).encode())
    return found.hexdigest()
