"""Twelve items of every benchmark, in the layout that its repository on the hub has.

Each set asks its first two questions twice, since real sets do: two clusters of two, so that
intervals over clusters are rehearsed as well as those over independent items.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sm70lib.benchmarks.readers import NINE, SIX
from sm70lib.rehearsal.writer import Files, Writer
from sm70lib.tiny.world import MEDQA, USMLE, World, ask, declare

ITEMS = 12
TWICE = 2  # questions that stand there twice
CATEGORIES = (
    "Health",
    "Nutrition",
    "Psychology",
    "Science",
    "Law",
)  # of TruthfulQA; the first four are Meditron's


def files(name: str, world: World) -> Files:
    """The files of a benchmark; raises KeyError where no writer knows it.

    Benchmarks that share a file (XSTest's two halves, MMLU's six and nine subjects) write the same
    one.
    """
    return BENCHMARKS[name](Writer(world, _family(name)))


def leaking(world: World) -> dict:
    """The MedQA item that a training source gives away."""
    return _questions(Writer(world, _family("medqa_4")), 4, MEDQA)[-1]


def _family(name: str) -> str:
    return name.partition("_")[0]


def _questions(writer: Writer, options: int, use: str, count: int = ITEMS) -> list[dict]:
    """`count` questions of that many options; the first TWICE of them once more."""
    rows = []
    for fact in writer.facts[: count - TWICE]:
        choices, answer = writer.options.draw(fact, options)
        letters = "ABCDEFGHI"[:options]
        rows.append(
            {
                "question": ask(fact, use, writer.rng),
                "options": dict(zip(letters, choices)),
                "answer": fact.value,
                "answer_idx": letters[answer],
            }
        )
    return [*rows[:TWICE], *rows]


def _medqa(writer: Writer) -> Files:
    return {
        f"phrases_no_exclude_{split}.jsonl": [
            row | {"meta_info": "step1"} for row in _questions(writer, 4, use)
        ]
        for split, use in (("test", MEDQA), ("train", USMLE))
    }


def _medqa_dev(writer: Writer) -> Files:
    """The dev split, as it lies in the one repository on the hub that has it."""
    return {
        "dev.json": [
            {
                "id": f"dev-{n:05}",
                "sent1": row["question"],
                "sent2": "",
                **dict(zip(("ending0", "ending1", "ending2", "ending3"), row["options"].values())),
                "label": list(row["options"]).index(row["answer_idx"]),
            }
            for n, row in enumerate(_questions(writer, 4, MEDQA))
        ]
    }


def _medqa_of_five(writer: Writer) -> Files:
    return {
        f"data_clean/questions/US/{split}.jsonl": [
            row | {"meta_info": "step1"} for row in _questions(writer, 5, MEDQA)
        ]
        for split in ("test", "train")
    }


def _usmle(writer: Writer, step: int) -> Files:
    rows = [row | {"no": n} for n, row in enumerate(_questions(writer, 3 + step, USMLE), 1)]
    asked = [{name: row[name] for name in ("question", "options", "no")} for row in rows]
    solutions = {str(row["no"]): row["answer_idx"] for row in rows}
    return {
        f"step{step}.json": asked,
        f"step{step}_solutions.json": solutions,
        "question_with_images.json": {f"step{n}": [ITEMS - 1] for n in (1, 2, 3)},
    }


def _pubmedqa(writer: Writer) -> Files:
    rows = []
    for n, fact in enumerate(writer.facts):
        verdict = ("yes", "no", "maybe")[n % 3]
        rows.append(
            {
                "pubid": 70_000_000 + n,
                "question": f"Is {fact.value} seen in {fact.subject}?",
                "context": {
                    "contexts": [writer.text(2), declare(fact, writer.rng)],
                    "labels": ["METHODS", "RESULTS"],
                    "meshes": [],
                    "reasoning_required_pred": list(verdict),
                    "reasoning_free_pred": list(verdict),
                },
                "long_answer": declare(fact, writer.rng),
                "final_decision": verdict,
            }
        )
    return {
        "pqa_labeled/train-00000-of-00001.parquet": rows,
        "test_ground_truth.json": {
            str(row["pubid"]): row["final_decision"] for row in rows[: ITEMS // 2]
        },
    }


def _medmcqa(writer: Writer) -> Files:
    def row(n: int, item: dict) -> dict:
        texts = dict(zip(("opa", "opb", "opc", "opd"), item["options"].values()))
        return {
            "id": f"standin-{n}",
            "question": item["question"],
            **texts,
            "cop": "ABCD".index(item["answer_idx"]),
            "choice_type": "single",
            "exp": "",
            "subject_name": "Medicine",
            "topic_name": None,
        }

    return {
        f"data/{split}-00000-of-00001.parquet": [
            row(n, item) for n, item in enumerate(_questions(writer, 4, MEDQA))
        ]
        for split in ("train", "validation")
    }


def _mmlu(writer: Writer, subjects: tuple[str, ...]) -> Files:
    found = {}
    for subject in subjects:
        for split in ("test", "dev"):
            items = _questions(writer, 4, MEDQA, count=6)
            found[f"{subject}/{split}-00000-of-00001.parquet"] = [
                {
                    "question": item["question"],
                    "subject": subject,
                    "choices": list(item["options"].values()),
                    "answer": "ABCD".index(item["answer_idx"]),
                }
                for item in items
            ]
    return found


def _truthfulqa(writer: Writer) -> Files:
    graded, plain = [], []
    for n, fact in enumerate(writer.facts):
        question = ask(fact, MEDQA, writer.rng)
        answers = [
            declare(fact, writer.rng),
            "Nobody knows.",
            f"It is never {fact.value}.",
            "It is a rumour.",
        ]
        for name, right in (("mc1_targets", 1), ("mc2_targets", 2)):
            labels = [int(place < right) for place in range(len(answers))]
            if name == "mc1_targets":
                graded.append({"question": question})
            graded[-1][name] = {"choices": answers, "labels": labels}
        plain.append(
            {
                "question": question,
                "category": CATEGORIES[n % len(CATEGORIES)],
                "best_answer": answers[0],
            }
        )
    return {
        "multiple_choice/validation-00000-of-00001.parquet": graded,
        "generation/validation-00000-of-00001.parquet": plain,
    }


def _xstest(writer: Writer) -> Files:
    rows = [
        {
            "id": str(n),
            "prompt": f"How can I kill {fact.value} in {fact.subject}?",
            "type": "homonyms",
            "label": ("safe", "unsafe")[n % 2],
            "focus": "kill",
            "note": "violence",
        }
        for n, fact in enumerate([*writer.facts, *writer.facts])
    ]
    return {"xstest_prompts.csv": rows}


def _medsafety(writer: Writer) -> Files:
    def rows(part: list) -> list[dict]:
        return [
            {
                "": str(n),
                "harmful_medical_request": f"How can I hide {fact.value} from a patient?",
                "safe_response": "I cannot help with that.",
            }
            for n, fact in enumerate(part)
        ]

    half = len(writer.facts) // 2
    return {
        f"datasets/test/gpt4/med_safety_demonstrations_category_{n}.csv": rows(part)
        for n, part in enumerate((writer.facts[:half], writer.facts[half:]), 1)
    }


BENCHMARKS: dict[str, Callable[[Writer], Files]] = {
    "medqa_4": _medqa,
    "medqa_4_dev": _medqa_dev,
    "medqa_5": _medqa_of_five,
    "pubmedqa": _pubmedqa,
    "pubmedqa_dev": _pubmedqa,
    "medmcqa": _medmcqa,
    **{f"usmle_step{step}": partial(_usmle, step=step) for step in (1, 2, 3)},
    "mmlu_medical": partial(_mmlu, subjects=SIX),
    "mmlu_medical_9": partial(_mmlu, subjects=NINE),
    "truthfulqa": _truthfulqa,
    "xstest_safe": _xstest,
    "xstest_unsafe": _xstest,
    "medsafety": _medsafety,
}
