"""The models that a study scores: its own at every stage, and those of `eval_models`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sm70lib.inspection import places
from sm70lib.models import loading
from sm70lib.steps.steps import digest
from sm70lib.study.params import StudyError, placed


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
        if self.tokenizer != self.source:
            text += f" {digest(Path(self.tokenizer) / TOKENIZER)}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def tokenizer(self) -> str:
        """The folder or hub name of its tokenizer: the adapter's, if that has one of its own."""
        own = self.adapter is not None and _has_words_of_its_own(self.adapter, self.source)
        return str(self.adapter) if own else self.source


@lru_cache
def _has_words_of_its_own(adapter: Path, base: str) -> bool:
    """Whether an adapter brings a tokenizer that differs from its base's."""
    if not (adapter / TOKENIZER).is_file():
        return False
    own, other = (loading.load_tokenizer(name) for name in (adapter, base))
    return any(
        getattr(own, name) != getattr(other, name)
        for name in ("special_tokens_map", "chat_template")
    ) or (own.get_vocab() != other.get_vocab())


TOKENIZER = "tokenizer.json"  # which holds all of a fast tokenizer
_digest = lru_cache(digest)  # three models share a base of up to 140 GB


def models(p, folder: Path) -> list[Model]:
    """Lists the study's own models, then those of `eval_models`.

    Its own are the base, the base in NF4, other stages and seeds, merged models, and the tuned one.

    Args:
        p: the study's parameters.
        folder: the study's outputs.

    Raises:
        StudyError: an adapter is not there, or a line in `eval_models` is not understood.
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
    if model.adapter is None:
        return model
    return replace(model, adapter=places.adapter(model.adapter, f"eval_models: {name}"))


def described(name: str, line: str) -> Model:
    """Reads one entry of `eval_models`.

    Args:
        name: the model's name.
        line: its source, then `quant=`, `adapter=` and `chat=` as needed. Relative folders start
            at the repository.

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
        placed(source),
        quantised=given.get("quant") == "nf4",
        adapter=Path(placed(adapter)) if adapter else None,
        chat=given.get("chat") == "yes",
    )
