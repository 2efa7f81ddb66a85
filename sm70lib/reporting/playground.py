"""Questions put to a base and to its tuned model, side by side (07_ask)."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import HTML
from markupsafe import Markup, escape

from sm70lib import benchmarks, protocols
from sm70lib.analysis.roles import TUNED
from sm70lib.asking.fitting import usable
from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.corpus import examples, tokens
from sm70lib.models import plain, writing
from sm70lib.models.backend import Local
from sm70lib.models.loading import Pair
from sm70lib.parameters import own
from sm70lib.presentation import forms, names
from sm70lib.presentation.styled import Styled
from sm70lib.protocols.ours import AS_TRAINED, GENERATE
from sm70lib.protocols.protocol import Protocol
from sm70lib.study.params import StudyError

FORM = "medqa_4"  # questions of one's own are asked as this benchmark's are
BAR = 12  # characters of a share of 1
UNKNOWN = -1


@dataclass(frozen=True)
class Playground:
    """A base and its tuned model, side by side.

    Attributes:
        folder: outputs/<study>.
        p: the study's parameters.
        models: the two models.
        tokenizer: their tokenizer.
    """

    folder: Path
    p: Any
    models: Pair
    tokenizer: Any

    def ask(
        self,
        question: str,
        options: list[str] | None = None,
        right: int | None = None,
        protocol: str | None = None,
    ) -> HTML:
        """What base and tuned model answer: how likely each option is to them, and what they write.

        Args:
            question: the question.
            options: the answers to choose from; None lets both write only.
            right: the position of the right option, from 0, which is then marked.
            protocol: the way to ask; by default the study's declared one.

        Raises:
            StudyError: there is one option only, or the protocol or an option cannot be used.
        """
        given = tuple(options or ())
        if len(given) == 1 or (right is not None and right not in range(len(given))):
            raise StudyError(
                f"ask: {len(given)} options and right={right}; give two options or more, and count "
                "the right one from 0"
            )
        answer = UNKNOWN if right is None else right
        item = Item("asked", "asked", FORM, question, "", given, answer)
        return self._shown(item, protocol or self._usual(FORM))

    def wrong(self, seed: int = 0) -> HTML:
        """A random item that the tuned model got wrong in 04, asked again.

        Args:
            seed: draws the item.
        """
        name = self.p.eval_primary_protocol
        missed = []
        for benchmark in own.titles(self.p.eval_benchmarks):
            run = f"{benchmark}-{name}-{self.p.eval_primary_shots}.jsonl"
            missed += _missed(self.folder / "predictions" / TUNED / run, benchmark)
        if not missed:
            return HTML(
                f"<p>There is no wrong answer to show: predictions/{TUNED} of study "
                f"{self.folder.name} has none under {escape(name)}; run 04_eval first.</p>"
            )
        benchmark, item_id = random.Random(seed).choice(missed)
        items = benchmarks.load(self.folder / "data/benchmarks", benchmark)
        item = next(item for item in items if item.id == item_id)
        form = benchmarks.form(benchmark)
        return self._shown(replace(item, benchmark=form), self._usual(form))

    def _usual(self, benchmark: str) -> str:
        """The declared protocol, or the first other one that scores these options without shots."""
        ways = (self.p.eval_primary_protocol, AS_TRAINED.name)
        return next((name for name in ways if _scores(protocols.named(name), benchmark)), "")

    def _shown(self, item: Item, protocol: str) -> HTML:
        parts = [Markup("<p><b>{}</b></p>").format(item.question)]
        if item.context:
            parts.insert(0, Markup("<p>{}</p>").format(item.context))
        shares, texts = [], []
        for tuned in (False, True):
            with self.models.side(tuned) as loaded:
                if item.options and protocol:
                    shares.append(self._shares(item, protocols.named(protocol), loaded))
                texts.append(self._written(item, loaded))
        if shares:
            parts.append(forms.html(_table(item, shares)))
            said = f"{protocol}, 0-shot; shares of the options' likelihoods"
            parts.append(Markup("<p><small>{}</small></p>").format(said))
        for name, text in zip(("base", TUNED), texts):
            words = Markup("<p><b>{}</b> writes: {}</p>")
            parts.append(words.format(name, text or "nothing"))
        return HTML("\n".join(parts))

    def _shares(self, item: Item, protocol: Protocol, loaded: Any) -> np.ndarray:
        """The share of each option in the likelihoods of all."""
        if not _scores(protocol, item.benchmark):
            raise StudyError(f"{protocol.name} does not score options of {item.benchmark} 0-shot")
        known = item if item.answer != UNKNOWN else replace(item, answer=0)
        requests = self._requests(known, protocol, loaded)
        scores = np.array(sum(plain.loglikelihoods(loaded, requests), []))
        shares = np.exp(scores - scores.max())
        return shares / shares.sum()

    def _written(self, item: Item, loaded: Any) -> str:
        """What a model writes after the item, asked as rows of the training set are."""
        if item.options and GENERATE.covers(item.benchmark, 0):
            known = replace(item, answer=max(item.answer, 0))
            (request,) = self._requests(known, GENERATE, loaded)
            ids = request.context
        else:
            instruction = "Answer this question truthfully"
            template = self.p.data_template
            asked = examples.question(template, self.tokenizer, instruction, item.question)
            ids = asked.ids
            token = tokens.unknown(ids, Local(loaded, self.tokenizer).rows, self.tokenizer)
            if token:
                raise StudyError(
                    f"this question cannot be asked: it spells out {token}, for which the model "
                    "has no embedding"
                )
        return writing.answer(loaded, self.tokenizer, ids, self.p.ask_max_new_tokens)

    def _requests(self, item: Item, protocol: Protocol, loaded: Any) -> list:
        run = Run(item.benchmark, protocol, 0, [item], [], self.p.data_template)
        prompt = Prompts(run, self.tokenizer).render(0)
        backend = Local(loaded, self.tokenizer)
        left: dict[str, list] = {"skipped": [], "cut": []}
        limit, rows = backend.max_tokens, backend.rows
        requests = usable(prompt, protocol, self.tokenizer, limit, left, rows)
        if not requests:
            raise StudyError(f"this question cannot be asked: {left['skipped'][0]['reason']}")
        return requests


def _scores(protocol: Protocol, benchmark: str) -> bool:
    """Whether a protocol scores the options of a benchmark without shots."""
    return not protocol.reads and protocol.covers(benchmark, 0)


def _missed(path: Path, benchmark: str) -> list[tuple[str, str]]:
    """The items of a prediction file that were answered wrongly, each with its benchmark."""
    if not path.exists():
        return []
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(benchmark, line["item_id"]) for line in lines if not line["correct"]]


def _table(item: Item, shares: list[np.ndarray]) -> Styled:
    """The options with the shares that base and tuned model give them."""
    chosen = [int(share.argmax()) for share in shares]
    rows = []
    for place, option in enumerate(item.options):
        cells = [f"{LETTERS[place]}. {option}", "✓ right" if place == item.answer else ""]
        for share, choice in zip(shares, chosen):
            mark = " ◀" if place == choice else ""
            bar = "█" * round(BAR * float(share[place])) or "▏"
            cells += [f"{share[place]:.0%}", f"{bar}{mark}"]
        rows.append(cells)
    heads = ["Option", "", "base", "", names.model(TUNED), "(◀ its choice)"]
    sides = [False, False, True, False, True, False]
    return Styled(heads, rows, sides, [False] * len(rows), "")
