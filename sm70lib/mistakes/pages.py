"""Pages of items without script: lists by model, benchmark and rule, and every item they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from sm70lib.analysis import frames
from sm70lib.mistakes import rules
from sm70lib.mistakes.lists import EVERY, Listing, listings
from sm70lib.mistakes.rules import RULES
from sm70lib.parameters import aggregates
from sm70lib.presentation import names

ON_A_PAGE = 100  # items
SHOWN = 160  # characters of a question, from its end, where it is asked
WORDS = {rule.name: rule.what for rule in RULES}
NONE = "–"
COLUMNS = ["model", "benchmark", "protocol", "shots", "item_id", "item", "choice", "gold"]
COLUMNS += ["correct", "confidence", "file", "line"]
Render = Callable[[str, Markup], str]


def build(folder: Path, render: Render) -> Iterator[tuple[str, str]]:
    """Makes the pages of a study's items.

    Args:
        folder: outputs/<study>.
        render: makes a page from its title and its content.

    Yields:
        File name and text of each page; nothing without predictions.
    """
    if not any((folder / "predictions").glob("*/*.jsonl")):
        return
    answers = frames.load(folder.parent, [folder.name])
    answers["file"] = _files(answers)
    pooled = aggregates.names(answers["benchmark"], [aggregates.POOLED], members=False)
    answers = frames.named(answers, pooled)
    found = list(listings(answers, rules.marks(answers)))
    pages = _Pages(found, _places(found))
    yield "index.html", render("Items", pages.index())
    for each in found:
        yield each.address, render(_title(each), pages.listing(each))
    for name, body in pages.items(answers):
        yield name, render(_heading(name), body)


def _files(answers: pd.DataFrame) -> list[str]:
    """Where each answer stands, below the study's folder."""
    columns = ("model", "benchmark", "protocol", "shots")
    parts = zip(*(answers[name] for name in columns))
    return [
        f"predictions/{model}/{bench}-{way}-{shots}.jsonl" for model, bench, way, shots in parts
    ]


def _places(found: Iterable[Listing]) -> dict[tuple[str, str], str]:
    """The page and place of each item that a list names, by its benchmark and id."""
    places: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    for each in found:
        benchmark = each.run[2]
        for item_id in [*each.wrong["item_id"], *each.right["item_id"]]:
            if (benchmark, item_id) not in places:
                number = counts.get(benchmark, 0)
                counts[benchmark] = number + 1
                page = f"{benchmark}.{number // ON_A_PAGE + 1}.html".replace("/", "-")
                places[benchmark, item_id] = f"{page}#i{number}"
    return places


def _title(listing: Listing) -> str:
    _, model, benchmark, protocol, shots = listing.run
    rule = "" if listing.rule == EVERY else f": {listing.rule}"
    where = f"{names.model(model)} on {names.benchmark(benchmark)}"
    return f"{where}, {protocol}, {shots}-shot{rule}"


class _Pages:
    """The content of each page.

    Args:
        found: all lists.
        places: page and place of each item that they name.
    """

    def __init__(self, found: list[Listing], places: dict[tuple[str, str], str]) -> None:
        self.places = places
        self.found = found
        self.by_run: dict[tuple, dict[str, Listing]] = {}
        for each in found:
            self.by_run.setdefault(each.run, {})[each.rule] = each
        environment = Environment(
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            loader=FileSystemLoader(Path(__file__).parent),
        )
        self.template = environment.get_template("items.html.j2")

    def _render(self, kind: str, **content: Any) -> Markup:
        return Markup(self.template.render(kind=kind, **content))

    def index(self) -> Markup:
        """Which lists there are, with the numbers of their answers."""
        kept = [EVERY, *(rule.name for rule in RULES)]
        kept = [rule for rule in kept if any(rule in lists for lists in self.by_run.values())]
        rows = []
        for (_, model, benchmark, protocol, shots), lists in self.by_run.items():
            cells = [_counted(lists.get(rule)) for rule in kept]
            row = {"model": names.model(model), "benchmark": names.benchmark(benchmark)}
            rows.append(row | {"protocol": protocol, "shots": shots, "cells": cells})
        meanings = [(rule, WORDS[rule]) for rule in kept if rule in WORDS]
        return self._render("index", rows=rows, rules=kept, meanings=meanings)

    def listing(self, each: Listing) -> Markup:
        """One list, with ways to the others."""
        page = {
            "title": _title(each),
            "what": f"{WORDS[each.rule].capitalize()}." if each.rule in WORDS else "",
            "rules": [(rule, _link(each, one)) for rule, one in self.by_run[each.run].items()],
            "models": [(names.model(one.run[1]), _link(each, one)) for one in self._beside(each)],
            "n_wrong": each.n_wrong,
            "n_right": each.n_right,
            "more": _command(each),
        }
        for side in ("wrong", "right"):
            page[side] = self._rows(each, getattr(each, side))
        return self._render("listing", page=page)

    def _beside(self, each: Listing) -> list[Listing]:
        """The same list of every model."""
        study, _, *rest = each.run
        runs = [run for run in self.by_run if [run[0], *run[2:]] == [study, *rest]]
        return [self.by_run[run][each.rule] for run in runs if each.rule in self.by_run[run]]

    def _rows(self, each: Listing, part: pd.DataFrame) -> list[dict[str, str]]:
        columns = (part[name] for name in ("item", "item_id", "choice", "gold", "confidence"))
        return [
            {
                "link": self.places[each.run[2], item_id],
                "question": _end(item.question),
                "chosen": _option(item, choice),
                "gold": _option(item, gold),
                "confidence": _share(confidence),
            }
            for item, item_id, choice, gold, confidence in zip(*columns)
        ]

    def _groups(self, answers: pd.DataFrame) -> dict[tuple[str, str], list[Any]]:
        """The answers to each item that a list names."""
        groups: dict[tuple[str, str], list[Any]] = {}
        for row in answers[COLUMNS].itertuples():
            key = row.benchmark, row.item_id
            if key in self.places:
                groups.setdefault(key, []).append(row)
        return groups

    def items(self, answers: pd.DataFrame) -> Iterable[tuple[str, Markup]]:
        """The pages of items, each with every answer to it."""
        groups = self._groups(answers)
        entries: dict[str, list[dict]] = {}
        for key, place in self.places.items():
            page, _, anchor = place.partition("#")
            entries.setdefault(page, []).append(_entry(groups[key], anchor))
        for page, shown in entries.items():
            yield page, self._render("items", title=_heading(page), entries=shown)


def _heading(page: str) -> str:
    benchmark, number, _ = page.rsplit(".", 2)
    return f"Items of {names.benchmark(benchmark)}, page {number}"


def _entry(answers: list[Any], anchor: str) -> dict[str, Any]:
    """An item with its options as they were first asked, and all answers to it."""
    item, gold = answers[0].item, answers[0].gold
    return {
        "anchor": anchor,
        "id": answers[0].item_id,
        "question": item.question,
        "context": item.context,
        "options": [(option, place == gold) for place, option in enumerate(item.options)],
        "answers": [
            {
                "model": names.model(row.model),
                "protocol": row.protocol,
                "shots": row.shots,
                "chosen": _option(row.item, row.choice),
                "correct": row.correct,
                "confidence": _share(row.confidence),
                "file": f"../../{row.file}",
                "place": f"{row.file.partition('/')[2]}:{row.line}",
            }
            for row in answers
        ],
    }


def _counted(listing: Listing | None) -> tuple[str, str]:
    if listing is None:
        return "", ""
    return f"{listing.n_wrong + listing.n_right} ({listing.n_wrong})", listing.address


def _link(here: Listing, there: Listing) -> str:
    return "" if here is there else there.address


def _command(listing: Listing) -> str:
    """What prints the whole list."""
    study, model, benchmark, protocol, shots = listing.run
    run = f"model={model},benchmark={benchmark},protocol={protocol},shots={shots}"
    table, part = ("results", "subset=all") if listing.rule == EVERY else ("errors_rules", "")
    part = part or f"rule={listing.rule}"
    return f'python -m sm70lib trace {study} {table} "{run},{part}" n'


def _end(question: str) -> str:
    words = " ".join(question.split())
    return words if len(words) <= SHOWN else f"… {words[-SHOWN:].partition(' ')[2]}"


def _option(item: Any, place: Any) -> str:
    return "unread" if pd.isna(place) else item.options[int(place)]


def _share(confidence: float) -> str:
    return NONE if pd.isna(confidence) else f"{confidence:.3f}"
