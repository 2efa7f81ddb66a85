"""The models that a study scores: its own at every stage, and those of `eval_models`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sm70lib.corpus.chat import text_of
from sm70lib.models import loading
from sm70lib.steps.steps import digest
from sm70lib.study.params import StudyError


@dataclass(frozen=True)
class Model:
    """A model to score, and how it is loaded and asked.

    `name` is its name in tables, and `source` the folder or hub name of its weights. `quantised`
    loads it in NF4. `adapter` is the folder of its adapter, if it has one. `chat` asks it in its
    chat template.
    """

    name: str
    source: str
    quantised: bool = False
    adapter: Path | None = None
    chat: bool = False

    def identity(self) -> str:
        """The sha256 (hex) of weights (or hub name), adapter, and how both are loaded and asked."""
        weights = _digest(Path(self.source)) if Path(self.source).is_dir() else self.source
        adapter = self.adapter and digest(self.adapter)
        text = f"{self.quantised} {self.chat} {weights} {adapter}"
        return hashlib.sha256(text.encode()).hexdigest()

    def chat_template(self) -> str:
        """The text of its chat template; raises StudyError if it has none to ask in."""
        return _chat_template(self.source)


@lru_cache
def _chat_template(source: str) -> str:
    return text_of(loading.load_tokenizer(source))


_digest = lru_cache(digest)  # three models share a base of up to 140 GB


def models(p, folder: Path) -> list[Model]:
    """Lists the study's own models, then those of `eval_models`.

    Its own are the base, the base in NF4, other stages and seeds, merged models, and the tuned one.

    Args:
        p: the study's parameters.
        folder: the study's outputs.

    Raises:
        StudyError: a model cannot be read, or its line in `eval_models` is not understood.
    """
    base = loading.located(folder)
    four_bits = p.quant_type != "none"
    found = [Model("base", base)]
    if four_bits:
        found.append(Model("base-nf4", base, True))
    for adapter in _unpublished(folder):
        found.append(Model(f"tuned-{adapter.parent.name}", base, four_bits, adapter))
    for merged in sorted(folder.glob("merged/*")):
        found.append(Model(f"merged-{merged.name}", str(merged)))
    found.append(Model("tuned", base, four_bits, folder / "adapter"))
    for name, line in p.eval_models.items():
        found.append(_other(name, line))
    return found


def _unpublished(folder: Path) -> list[Path]:
    """Adapters of all stages, other seeds last, without the one that is published as `adapter`."""
    stages = sorted(folder.glob("stages/*/adapter"), key=lambda path: (_other_seed(path), path))
    of_first_seed = [path for path in stages if not _other_seed(path)]
    published = of_first_seed[-1:]
    return [path for path in stages if path not in published]


def _other_seed(adapter: Path) -> bool:
    return "-seed" in adapter.parent.name


def _other(name: str, line: str) -> Model:
    model = described(name, line)
    loading.require(model.source, f"eval_models: {name}")
    return model


def described(name: str, line: str) -> Model:
    """Reads one entry of `eval_models`.

    Args:
        name: the model's name.
        line: its source, then `quant=`, `adapter=` and `chat=` as needed.

    Raises:
        StudyError: the line is not understood.
    """
    source, *words = line.split()
    given = {}
    for word in words:
        key, _, value = word.partition("=")
        given[key] = value
    adapter = given.get("adapter")
    allowed = {"quant": ("nf4", "none"), "chat": ("yes", "no"), "adapter": (adapter,)}
    for key, value in given.items():
        if value not in allowed.get(key, ()):
            raise StudyError(
                f"eval_models: {name}: {key}={value} is not understood; allowed are quant=nf4 or "
                "none, adapter=FOLDER, chat=yes or no"
            )
    return Model(
        name,
        source,
        quantised=given.get("quant") == "nf4",
        adapter=Path(adapter) if adapter else None,
        chat=given.get("chat") == "yes",
    )
