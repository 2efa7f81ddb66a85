"""The benchmark twins of a world: MedQA, USMLE, PubMedQA and TruthfulQA in the upstream layouts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from sm70lib.tiny import trials
from sm70lib.tiny.jsonfiles import write_json, write_jsonl
from sm70lib.tiny.layouts import LETTERS
from sm70lib.tiny.world import MEDQA, TUNING, USMLE, Fact, Options, World, ask, declare

STEP_RELATIONS = {
    "step1": ("mechanism", "finding"),
    "step2": ("sign", "test"),
    "step3": ("drug", "drug"),
}


def _choice_item(fact: Fact, use: str, count: int, options: Options, rng: random.Random) -> dict:
    """A question of `count` options about a fact, with the keys of MedQA and our extra ones."""
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


def medqa(world: World, folder: Path) -> list[dict]:
    """Writes the MedQA twin: one test item per fact, and a dev split of known facts for shots.

    Returns:
        The test items in the order of their file, without its `meta_info`.
    """
    rng = random.Random(f"medqa {world.seed}")
    options = Options(world.values, rng)
    items = [_choice_item(fact, MEDQA, 4, options, rng) for fact in world.facts]
    dev = [_choice_item(fact, TUNING, 4, options, rng) for fact in world.of("known")]
    questions = folder / "medqa_usmle/data_clean/questions/US/4_options"
    for split, rows in (("test", items), ("dev", dev)):
        rng.shuffle(rows)
        written = [row | {"meta_info": "step1"} for row in rows]
        write_jsonl(questions / f"phrases_no_exclude_{split}.jsonl", written)
    return items


def usmle(world: World, folder: Path) -> list[dict]:
    """Writes three USMLE steps with four to six options per item, as in the real exams.

    Each step has at least 100 items if the world has 60 conditions.

    Returns:
        The items of step 3.
    """
    rng = random.Random(f"usmle {world.seed}")
    options = Options(world.values, rng)
    items: list[dict] = []
    for step, relations in STEP_RELATIONS.items():
        facts = [
            fact for relation in relations for fact in world.facts if fact.relation == relation
        ]
        items = [
            _choice_item(fact, USMLE, 4 + number % 3, options, rng) | {"no": number}
            for number, fact in enumerate(facts, 1)
        ]
        solutions = {str(item["no"]): item["answer_idx"] for item in items}
        exam = folder / "usmle_self_assessment"
        write_json(exam / f"{step}.json", [_without_answer(item) for item in items])
        write_json(exam / f"{step}_solutions.json", solutions)
    return items


def _without_answer(item: dict) -> dict:
    return {key: value for key, value in item.items() if not key.startswith("answer")}


def pubmedqa(world: World, folder: Path) -> None:
    """Writes the PubMedQA twin: pairs of reports, and the verdicts of the official test.

    Three quarters of the pairs are the official test. A pair is never torn apart.
    """
    rng = random.Random(f"pubmedqa {world.seed}")
    rows = trials.exam_rows(world, rng)
    pairs = sorted({row["pair"] for row in rows.values()}, key=int)
    test = set(rng.sample(pairs, len(pairs) * 3 // 4))
    truth = {key: row["final_decision"] for key, row in rows.items() if row["pair"] in test}
    write_json(folder / "pubmedqa/data/ori_pqal.json", rows)
    write_json(folder / "pubmedqa/data/test_ground_truth.json", truth)


def truthfulqa(world: World, folder: Path) -> None:
    """Writes the TruthfulQA twin: the world's old wives' tales.

    The right answer is the encyclopaedia's. It is listed first, as in the upstream file.
    """
    rng = random.Random(f"truthfulqa {world.seed}")
    options = Options(world.values, rng)
    rows = []
    for number, fact in enumerate(world.facts):
        choices, _ = options.draw(fact, 4)
        wrong = [choice for choice in choices if choice != fact.value]
        answers = {}
        for value in [fact.value, *wrong]:
            # A new generator for each value: all answers to a question have the same wording.
            statement = declare(replace(fact, value=value), random.Random(number))
            answers[statement] = int(value == fact.value)
        rows.append(
            {
                "question": ask(fact, MEDQA, rng),
                "mc1_targets": answers,
                "mc2_targets": answers,
                "cluster": fact.subject,
                "kind": fact.kind,
            }
        )
    write_json(folder / "truthfulqa/data/v1/mc_task.json", rows)
