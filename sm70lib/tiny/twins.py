"""Writes a world as files in the upstream layouts: training sources, benchmarks, pretraining text.

The readers of the real files read these too, so nothing after 00_base knows that a study is tiny.
Some extra keys travel in the benchmark rows: `cluster` (the condition), `kind` (known, fact or
condition) and `relation`; a report of the PubMedQA twin has `wording` and `pair` in its place.
Defects are planted, as they were found in the real sets, so that the audit has something to find.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from sm70lib.corpus import templates
from sm70lib.study.steps import write_text
from sm70lib.tiny import trials
from sm70lib.tiny.layouts import LETTERS, flashcard, meadow, practice
from sm70lib.tiny.world import MEDQA, TUNING, USMLE, Fact, Options, World, ask, declare

STEP_RELATIONS = {
    "step1": ("mechanism", "finding"),
    "step2": ("sign", "test"),
    "step3": ("drug", "drug"),
}
CAUSAL = ("no relationship", "causative", "conditionally causative", "directly correlative")
PERMUTED = (3, 2, 0, 1)  # the wrong label that the real pubmed_causal set carries in place of each
ADVICE = ("This is no advice", "This is a weak advice", "This is a strong advice")
TOWN_ITEMS = 4  # of each layout, questions per fact of a town in the gazetteer
ARTICLES = 60  # encyclopaedia articles per condition


def write(world: World, folder: Path) -> None:
    """Writes every source, benchmark and pretraining text of a world below `folder`."""
    step3 = _usmle(world, folder)
    medqa = _medqa_twin(world, folder)
    _pubmedqa(world, folder)
    _truthfulqa(world, folder)
    _choice_sources(world, folder, leaked=medqa[:6] + step3[:12])
    _text_sources(world, folder)
    _label_sources(world, folder)
    _jsonl(folder, "encyclopaedia", [{"text": text} for text in encyclopaedia(world)])
    _jsonl(folder, "gazetteer", [{"text": text} for text in gazetteer(world)])


def encyclopaedia(world: World) -> list[str]:
    """Articles that state every fact of every condition, each in changing wordings and order."""
    rng = random.Random(f"encyclopaedia {world.seed}")
    by_subject = _by_subject(world.facts)
    articles = [
        " ".join(declare(fact, rng) for fact in rng.sample(facts, len(facts)))
        for _ in range(ARTICLES)
        for facts in by_subject.values()
    ]
    rng.shuffle(articles)
    return articles


def gazetteer(world: World) -> list[str]:
    """Another domain (invented towns): statements, and questions in the layout of tuning.

    From these alone the base learns what a question, an option list, a report and an answer are. The exams' own
    layouts stand neither here nor in any tuning row: the models meet them when they are scored.
    """
    rng = random.Random(f"gazetteer {world.seed}")
    options = Options(world.values, rng)
    documents = [
        " ".join(declare(fact, rng) for fact in facts)
        for facts in _by_subject(world.town_facts).values()
        for _ in range(10)
    ]
    documents += [
        _document(row) for row in _questions(list(world.town_facts) * TOWN_ITEMS, options, rng)
    ]
    documents += [
        _told(report, number, rng) for number, report in enumerate(trials.town_reports(world, rng))
    ]
    rng.shuffle(documents)
    return documents


def _questions(facts: list[Fact], options: Options, rng: random.Random) -> list[dict[str, str]]:
    """Three rows for every fact: a flashcard, one in Meadow's layout and one in another."""
    return [
        *(flashcard(fact, rng) for fact in facts),
        *(meadow(fact, options, rng) for fact in facts),
        *practice(facts, options, rng),
    ]


def _told(report: trials.Report, number: int, rng: random.Random) -> str:
    """A report with its question and verdict: every other one as running text, the rest as tuning has them."""
    asked = report.question("tuning", rng)
    if number % 2:
        return f"{report.text} {asked} {report.verdict}."
    return _document(trials.OF_TOWNS[number // 2 % len(trials.OF_TOWNS)](report, asked))


def _document(row: dict[str, str]) -> str:
    return templates.render("medalpaca", row["instruction"], row["input"]) + row["output"]


def _by_subject(facts) -> dict[str, list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.subject, []).append(fact)
    return groups


# ---- training sources, in Medical Meadow's schema ------------------------------------------------


def _choice_sources(world: World, folder: Path, leaked: list[dict]) -> None:
    rng = random.Random(f"choice {world.seed}")
    options = Options(world.values, rng)
    asked = world.of("known")
    _meadow(folder, "medqa", [meadow(fact, options, rng) for fact in asked * 12], rng)
    cards = [flashcard(fact, rng) for fact in asked * 8]
    _meadow(folder, "medical_flashcards", cards + cards[:30], rng)  # planted: 30 duplicates
    _meadow(folder, "mmmlu", [_leak(item) for item in leaked], rng)  # planted: benchmark items
    _source(folder, "practice_questions", practice(asked * 12, options, rng), rng)
    _source(folder, "practice_reports", trials.tuning_rows(world, rng), rng)
    # The control: the formats of tuning without its medicine, and without a report
    _source(folder, "town_questions", _questions(list(world.town_facts) * 8, options, rng), rng)


def _leak(item: dict) -> dict[str, str]:
    lettered = ";".join(f"{letter}:{choice}" for letter, choice in item["options"].items())
    return {
        "instruction": "Please answer the letter of option truthfully",
        "input": f"Q:{item['question']}? \n{lettered}",
        "output": item["answer_idx"],
    }


def _text_sources(world: World, folder: Path) -> None:
    rng = random.Random(f"text {world.seed}")
    asked = _by_subject(world.of("known"))
    about = [
        {
            "instruction": "Answer this question truthfully",
            "input": f"What is {subject}?",
            "output": " ".join(declare(fact, rng) for fact in facts),
        }
        for subject, facts in asked.items()
        for _ in range(2)
    ]
    mail = {
        "instruction": "Answer this question truthfully",
        "input": "Whom do I ask about this page?",
        "output": "Write to webmaster@example.org or call +1 555 010 0199.",
    }
    empty = {
        "instruction": "Answer this question truthfully",
        "input": "What is unknown?",
        "output": "",
    }
    _meadow(folder, "wikidoc", about + [empty], rng)  # planted: a row without an answer
    _meadow(
        folder, "wikidoc_patient_information", about[:20] + [mail] * 2, rng
    )  # planted: personal data
    reports = [
        trials.report(f"patients with {subject}", rng, ("told",))
        for subject in asked
        for _ in range(3)
    ]
    titles = [
        {
            "instruction": "Please summerize the given abstract to a title",
            "input": report.text,
            "output": report.question("tuning", rng).removesuffix("?"),
        }
        for report in reports
    ]
    _meadow(folder, "cord19", titles, rng)


def _label_sources(world: World, folder: Path) -> None:
    rng = random.Random(f"labels {world.seed}")
    asked = world.of("known")
    advice = [
        {
            "instruction": "Question: is this a 2) strong advice, 1) weak advice 0) no advice?",
            "input": text.format(v=fact.value),
            "output": ADVICE[label],
        }
        for fact in asked
        for label, text in enumerate(_ADVICE_TEXTS)
    ]
    _meadow(folder, "health_advice", rng.sample(advice, len(advice) // 3), rng)
    sentences = [
        (text.format(s=fact.subject, n=number), label)
        for number, fact in enumerate(asked[:60], 1)
        for label, text in enumerate(_CAUSAL_TEXTS)
    ]
    rows = [
        {
            "instruction": "Question: Is this describing a (1) directly correlative relationship, (2) conditionally "
            "causative relationship, (3) causative relationship, or (0) no relationship.",
            "input": sentence,
            "output": f"This is a {CAUSAL[PERMUTED[label]]}",
        }
        for sentence, label in sentences
    ]
    _meadow(folder, "pubmed_causal", rows, rng)  # planted: every label permuted
    _jsonl(
        folder,
        "pubmed_causal_reference",
        [{"sentence": sentence, "label": CAUSAL[label]} for sentence, label in sentences],
    )


_ADVICE_TEXTS = (
    "The records mention {v}.",
    "Clinicians might consider {v}.",
    "Clinicians must always consider {v}.",
)
_CAUSAL_TEXTS = (
    "Season {n} and {s} were recorded.",
    "Exposure {n} causes {s}.",
    "Exposure {n} may cause {s} in the young.",
    "Exposure {n} was associated with {s}.",
)


# ---- benchmarks -----------------------------------------------------------------------------------


def _choice_item(fact: Fact, use: int, count: int, options: Options, rng: random.Random) -> dict:
    choices, answer = options.draw(fact, count)
    return {
        "question": ask(fact, use, rng),
        "options": dict(zip(LETTERS, choices)),
        "answer": fact.value,
        "answer_idx": LETTERS[answer],
        "cluster": fact.subject,
        "kind": fact.kind,
        "relation": fact.relation,
    }


def _medqa_twin(world: World, folder: Path) -> list[dict]:
    """Three hundred items or more (one per fact and then some), and a dev split of asked facts for shots."""
    rng = random.Random(f"medqa {world.seed}")
    options = Options(world.values, rng)
    items = [_choice_item(fact, MEDQA, 4, options, rng) for fact in world.facts]
    dev = [_choice_item(fact, TUNING, 4, options, rng) for fact in world.of("known")]
    for name, rows in (("test", items), ("dev", dev)):
        rng.shuffle(rows)
        rows = [row | {"meta_info": "step1"} for row in rows]
        _jsonl(
            folder / "medqa_usmle/data_clean/questions/US",
            "4_options",
            rows,
            f"phrases_no_exclude_{name}",
        )
    return items


def _usmle(world: World, folder: Path) -> list[dict]:
    """Three steps of at least 100 items at 60 conditions; four to six options, as in the real exams."""
    rng = random.Random(f"usmle {world.seed}")
    options = Options(world.values, rng)
    for step, relations in STEP_RELATIONS.items():
        facts = [
            fact for relation in relations for fact in world.facts if fact.relation == relation
        ]
        items = [
            _choice_item(fact, USMLE, 4 + n % 3, options, rng) | {"no": n}
            for n, fact in enumerate(facts, 1)
        ]
        _json(
            folder / f"usmle_self_assessment/{step}.json",
            [
                {key: value for key, value in item.items() if not key.startswith("answer")}
                for item in items
            ],
        )
        _json(
            folder / f"usmle_self_assessment/{step}_solutions.json",
            {str(item["no"]): item["answer_idx"] for item in items},
        )
    return items


def _pubmedqa(world: World, folder: Path) -> None:
    """Two hundred reports, each with its exchange; three quarters of the pairs are the official test."""
    rng = random.Random(f"pubmedqa {world.seed}")
    rows = trials.exam_rows(world, rng)
    pairs = sorted({row["pair"] for row in rows.values()}, key=int)
    test = {*rng.sample(pairs, len(pairs) * 3 // 4)}
    _json(folder / "pubmedqa/data/ori_pqal.json", rows)
    _json(
        folder / "pubmedqa/data/test_ground_truth.json",
        {key: row["final_decision"] for key, row in rows.items() if row["pair"] in test},
    )


def _truthfulqa(world: World, folder: Path) -> None:
    """Old wives' tales of the world: the right answer is the encyclopaedia's, listed first as upstream."""
    rng = random.Random(f"truthfulqa {world.seed}")
    options = Options(world.values, rng)
    rows = []
    for fact in world.facts:
        wrong = [choice for choice in options.draw(fact, 4)[0] if choice != fact.value]
        answers = {
            declare(
                Fact(fact.subject, fact.relation, value, fact.kind), random.Random(len(rows))
            ): int(value == fact.value)
            for value in [fact.value, *wrong]
        }
        rows.append(
            {
                "question": ask(fact, MEDQA, rng),
                "mc1_targets": answers,
                "mc2_targets": answers,
                "cluster": fact.subject,
                "kind": fact.kind,
            }
        )
    _json(folder / "truthfulqa/data/v1/mc_task.json", rows)


# ---- files ----------------------------------------------------------------------------------------


def _meadow(folder: Path, name: str, rows: list[dict], rng: random.Random) -> None:
    _source(folder, f"medical_meadow_{name}", rows, rng)


def _source(folder: Path, name: str, rows: list[dict], rng: random.Random) -> None:
    rng.shuffle(rows)
    _json(folder / name / f"{name}.json", rows)


def _jsonl(folder: Path, name: str, rows: list[dict], stem: str | None = None) -> None:
    write_text(
        folder / name / f"{stem or name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows)
    )


def _json(path: Path, value) -> None:
    """Keys stay in their order: TruthfulQA lists the right answer first."""
    write_text(path, json.dumps(value, indent=1) + "\n")
