"""Writes a world as files in the upstream layouts: training sources, benchmarks, pretraining text.

The readers of the real files also read these, so no step after 00_base knows that a study is tiny.
Benchmark rows carry some extra keys: `cluster` (the condition), `kind` (known, fact or condition)
and `relation`. A report of the PubMedQA twin has `wording` and `pair` instead of `relation`.
"""

from __future__ import annotations

import random
from pathlib import Path

from sm70lib.corpus import templates
from sm70lib.tiny import exams, training, trials
from sm70lib.tiny.jsonfiles import write_jsonl
from sm70lib.tiny.layouts import questions
from sm70lib.tiny.world import Options, World, by_subject, declare

STATEMENTS = 10  # documents per town in the gazetteer that only state its facts
TOWN_ITEMS = 4  # questions of each layout per fact of a town in the gazetteer
ARTICLES = 60  # encyclopaedia articles per condition


def write(world: World, folder: Path) -> None:
    """Writes every source, benchmark and pretraining text of a world below `folder`."""
    step3 = exams.usmle(world, folder)
    medqa = exams.medqa(world, folder)
    exams.pubmedqa(world, folder)
    exams.truthfulqa(world, folder)
    training.choice_sources(world, folder, leaked=medqa[:6] + step3[:12])
    training.text_sources(world, folder)
    training.label_sources(world, folder)
    for name, texts in (("encyclopaedia", encyclopaedia(world)), ("gazetteer", gazetteer(world))):
        write_jsonl(folder / name / f"{name}.jsonl", [{"text": text} for text in texts])


def encyclopaedia(world: World) -> list[str]:
    """Articles that state every fact of every condition; wordings and order change each time."""
    rng = random.Random(f"encyclopaedia {world.seed}")
    conditions = by_subject(world.facts)
    articles = []
    for _ in range(ARTICLES):
        for facts in conditions.values():
            shuffled = rng.sample(facts, len(facts))
            articles.append(" ".join(declare(fact, rng) for fact in shuffled))
    rng.shuffle(articles)
    return articles


def gazetteer(world: World) -> list[str]:
    """Texts of another domain (invented towns): statements, questions and reports.

    From these alone the base learns what a question, a list of options, a report and an answer are.
    They use the layouts of tuning. The exams' own layouts are neither here nor in any tuning row:
    the models first meet them when they are scored.
    """
    rng = random.Random(f"gazetteer {world.seed}")
    options = Options(world.values, rng)
    documents = []
    for facts in by_subject(world.town_facts).values():
        for _ in range(STATEMENTS):
            documents.append(" ".join(declare(fact, rng) for fact in facts))
    rows = questions(world.town_facts * TOWN_ITEMS, options, rng)
    documents += [_document(row) for row in rows]
    reports = trials.town_reports(world, rng)
    documents += [_report_text(report, number, rng) for number, report in enumerate(reports)]
    rng.shuffle(documents)
    return documents


def _report_text(report: trials.Report, number: int, rng: random.Random) -> str:
    """A report with its question and verdict.

    Every other report is running text; the rest have the layouts of tuning.
    """
    question = report.question("tuning", rng)
    if number % 2:
        return f"{report.text} {question} {report.verdict}."
    layout = trials.OF_TOWNS[number // 2 % len(trials.OF_TOWNS)]
    return _document(layout(report, question))


def _document(row: dict[str, str]) -> str:
    return templates.render("medalpaca", row["instruction"], row["input"]) + row["output"]
