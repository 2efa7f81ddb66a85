"""The models that a study scores: its own at every stage, and those of `eval_models`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sm70lib.corpus.chat import REMEDY, text_of
from sm70lib.evaluation.predictions import CONFIGURED
from sm70lib.inspection import places
from sm70lib.models import loading
from sm70lib.steps import weights
from sm70lib.steps.steps import digest
from sm70lib.steps.trained import last, of_other_seed, of_stages
from sm70lib.study import others
from sm70lib.study.files import CONFIGURATION, configuration_digest
from sm70lib.study.others import Server
from sm70lib.study.params import StudyError
from sm70lib.study.used import trained, trains_all


@dataclass(frozen=True)
class Model:
    """A model to score, and how it is loaded and asked.

    `name` is its name in tables, and `source` the folder or hub name of its weights. `quantised`
    loads it in NF4. `adapter` is the folder of its adapter, if it has one. `chat` asks it in its
    chat template. `server` runs it, if it does not run on this machine; `source` then holds its
    tokenizer, or is "" if only the server has one.
    """

    name: str
    source: str
    quantised: bool = False
    adapter: Path | None = None
    chat: bool = False
    server: Server | None = None

    def tokenizer(self):
        """Its tokenizer; None if only a server has it."""
        return loading.load_tokenizer(self.words) if self.source else None

    def identity(self) -> str:
        """The sha256 (hex) of weights (or hub name), adapter, and how both are loaded and asked.

        Of a model that a server runs, it covers the model's name there and not the address, so that
        the server may move to another machine.
        """
        if self.server:
            words = Path(weights.place(self.source)) / TOKENIZER if self.source else None
            tokenizer = digest(words) if words and words.is_file() else self.source
            text = f"served {self.server.model} {self.chat} {tokenizer}"
            return hashlib.sha256(text.encode()).hexdigest()
        place = Path(weights.place(self.source))
        base = _digest(place) if place.is_dir() else self.source
        adapter = self.adapter and digest(self.adapter)
        text = f"{self.quantised} {self.chat} {base} {adapter}"
        if self.words != self.source:
            text += f" {digest(Path(self.words) / TOKENIZER)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def configured(self) -> dict[str, str]:
        """The digest of its adapter's configuration, for the `.meta.json`; empty without one."""
        path = self.adapter / CONFIGURATION if self.adapter else None
        return {CONFIGURED: configuration_digest(path)} if path and path.is_file() else {}

    @property
    def words(self) -> str:
        """The folder or hub name of its tokenizer: the adapter's, if that has one of its own."""
        own = self.adapter is not None and _has_words_of_its_own(self.adapter, self.source)
        return str(self.adapter) if own else self.source

    def chat_template(self, remedy: str = REMEDY) -> str:
        """The text of its chat template; raises StudyError, with a remedy, if it has none."""
        return _chat_template(self.words, remedy)


@lru_cache
def _chat_template(source: str, remedy: str) -> str:
    return text_of(loading.load_tokenizer(source), remedy)


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


def forget() -> None:
    """Forgets what was read of models' files; a kernel stays open while 00 trains a base again."""
    for read in (_digest, _chat_template, _has_words_of_its_own):
        read.cache_clear()


def models(p, folder: Path) -> list[Model]:
    """Lists the study's own models that `eval_own` names, then those of `eval_models`.

    Its own are the base, the base in NF4, other stages and seeds, merged models, and the tuned one.

    Args:
        p: the study's parameters.
        folder: the study's outputs.

    Raises:
        StudyError: an adapter is not there, a line in `eval_models` is not understood, or no model
            is left.
    """
    base = loading.located(folder)
    four_bits = p.quant_type != "none"
    *stages, tuned = _trained(p, folder, base)
    own = {
        "base": [Model("base", base)],
        "base-nf4": [Model("base-nf4", base, True)] if four_bits else [],
        "stages": stages,
        "merged": [
            Model(f"merged-{merged.name}", str(merged))
            for merged in sorted(folder.glob("merged/*"))
        ],
        "tuned": [tuned],
    }
    found = sum((some for kind, some in own.items() if kind in p.eval_own), [])
    for name, line in p.eval_models.items():
        found.append(other(name, line))
    if not found:
        raise StudyError(
            f"eval_own: this study has none of {', '.join(p.eval_own)}, and eval_models is empty; "
            "add base or tuned to eval_own"
        )
    return found


def _trained(p, folder: Path, base: str) -> list[Model]:
    """The models of all stages, other seeds last, and behind them the last one of the first seed.

    That one is `tuned`; its adapter is also in `adapter`.
    """
    kept = of_stages(folder, trained(p))
    ends = [path for path in kept if not of_other_seed(path)][-1:]
    places = {f"tuned-{path.parent.name}": path for path in kept if path not in ends}
    if trains_all(p):
        places["tuned"] = last(p, folder)
        return [Model(name, str(path)) for name, path in places.items()]
    places["tuned"] = folder / "adapter"
    return [Model(name, base, p.quant_type != "none", path) for name, path in places.items()]


def other(name: str, line: str) -> Model:
    """The model of one entry of `eval_models`, with its adapter fetched if that is on the hub.

    Raises:
        StudyError: the line is not understood, or the adapter is not there.
    """
    model = described(name, line)
    if model.adapter is None:
        return model
    return replace(model, adapter=places.adapter(model.adapter, f"eval_models: {name}"))


def described(name: str, line: str) -> Model:
    """The model of one entry of `eval_models`; relative folders start at the repository.

    Raises:
        StudyError: the line is not understood.
    """
    given = others.read(name, line)
    adapter = Path(weights.placed(given.adapter)) if given.adapter else None
    source = weights.placed(given.source) if given.source else ""
    return Model(name, source, given.quantised, adapter, given.chat, given.server)
