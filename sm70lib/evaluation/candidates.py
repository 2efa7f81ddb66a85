"""The models that a study scores: its own at every stage, and those of `eval_models`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sm70lib.models import loading
from sm70lib.study.params import StudyError
from sm70lib.study.steps import digest


@dataclass(frozen=True)
class Model:
    """What is scored: its name in tables, weights (folder or hub name), how they are loaded, adapter, prompt."""

    name: str
    source: str
    quantised: bool = False
    adapter: Path | None = None
    chat: bool = False

    def identity(self) -> str:
        """sha256 (hex) of the weights (or the hub name), the adapter's, and the way they are loaded and asked."""
        weights = _digest(Path(self.source)) if Path(self.source).is_dir() else self.source
        text = f"{self.quantised} {self.chat} {weights} {self.adapter and digest(self.adapter)}"
        return hashlib.sha256(text.encode()).hexdigest()


_digest = lru_cache(digest)  # three models share a base of up to 140 GB


def models(p, folder: Path) -> list[Model]:
    """The study's own models (base, in NF4, other stages and seeds, merged, tuned), and those of `eval_models`.

    Raises StudyError where one of these cannot be read, or its line is not understood.
    """
    base, four = loading.located(folder), p.quant_type != "none"
    own = [Model("base", base), *([Model("base-nf4", base, True)] if four else [])]
    stages = sorted(
        folder.glob("stages/*/adapter"), key=lambda path: ("-seed" in path.parent.name, path)
    )
    last = [path for path in stages if "-seed" not in path.parent.name][
        -1:
    ]  # published as `adapter`
    own += [
        Model(f"tuned-{path.parent.name}", base, four, path) for path in stages if path not in last
    ]
    own += [Model(f"merged-{path.name}", str(path)) for path in sorted(folder.glob("merged/*"))]
    return [
        *own,
        Model("tuned", base, four, folder / "adapter"),
        *(_other(*pair) for pair in p.eval_models.items()),
    ]


def _other(name: str, line: str) -> Model:
    found = described(name, line)
    loading.require(found.source, f"eval_models: {name}")
    return found


def described(name: str, line: str) -> Model:
    """The model that a line of `eval_models` describes; StudyError where it is not understood."""
    source, *words = line.split()
    given = dict(word.partition("=")[::2] for word in words)
    allowed = {"quant": ("nf4", "none"), "chat": ("yes", "no"), "adapter": (given.get("adapter"),)}
    for key, value in given.items():
        if value not in allowed.get(key, ()):
            raise StudyError(
                f"eval_models: {name}: {key}={value} is not understood; allowed are quant=nf4 or none, "
                "adapter=FOLDER, chat=yes or no"
            )
    return Model(
        name,
        source,
        given.get("quant") == "nf4",
        given.get("adapter") and Path(given["adapter"]),
        given.get("chat") == "yes",
    )
