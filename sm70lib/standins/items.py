"""Twelve items of every benchmark, in the file layout of its repository on the hub.

Each set asks its first two questions twice, as real sets do. So a rehearsal also covers intervals
over clusters of repeated questions, not only those over independent items.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sm70lib import benchmarks
from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.mmlu import NINE, SIX
from sm70lib.standins import documents
from sm70lib.standins.writer import ITEMS, Files, Writer, path_for
from sm70lib.tiny.layouts import LETTERS
from sm70lib.tiny.world import MEDQA, USMLE, Fact, World, ask, declare

# TruthfulQA's; the first four are those that Meditron reports
CATEGORIES = ("Health", "Nutrition", "Psychology", "Science", "Law")


def files(name: str, world: World) -> Files:
    """The files of a benchmark, by its writer in WRITERS or else in the usual layout.

    Benchmarks that share a file (XSTest's two halves, MMLU's six and nine subjects) write the same
    one.

    Args:
        name: the benchmark, as in `eval_benchmarks`.
        world: the fictional medicine that its items ask about.
    """
    writer = Writer(world, name.partition("_")[0])
    if name in WRITERS:
        return WRITERS[name](writer)
    return _usual(writer, benchmarks.BENCHMARKS[name])


def _usual(writer: Writer, benchmark: Benchmark) -> Files:
    """Questions with four options in the scored split and, in other words, in the first pool."""
    written: Files = {}
    for split, use in zip((benchmark.scored[0], *benchmark.pools[:1]), (MEDQA, USMLE)):
        path = path_for(benchmark.patterns[0].format(split))
        written[path] = [benchmark.as_row(row) for row in writer.questions(4, use)]
    return written


def _medqa(writer: Writer) -> Files:
    written: Files = {}
    for split, use in (("test", MEDQA), ("train", USMLE)):
        questions = writer.questions(4, use)
        written[f"phrases_no_exclude_{split}.jsonl"] = _in_step1(questions)
    return written


def _in_step1(questions: list[dict]) -> list[dict]:
    return [question | {"meta_info": "step1"} for question in questions]


def _medqa_dev(writer: Writer) -> Files:
    """The dev split, in the layout of the one repository on the hub that has it."""
    names = ("ending0", "ending1", "ending2", "ending3")
    rows = []
    for n, item in enumerate(writer.questions(4, MEDQA)):
        endings = dict(zip(names, item["options"].values()))
        rows.append(
            {
                "id": f"dev-{n:05}",
                "sent1": item["question"],
                "sent2": "",
                **endings,
                "label": LETTERS.index(item["answer_idx"]),
            }
        )
    return {"dev.json": rows}


def _medqa_of_five(writer: Writer) -> Files:
    written: Files = {}
    for split in ("test", "train"):
        questions = writer.questions(5, MEDQA)
        written[f"data_clean/questions/US/{split}.jsonl"] = _in_step1(questions)
    return written


def _usmle(writer: Writer, step: int) -> Files:
    items = writer.questions(3 + step, USMLE)
    exam = [
        {"question": item["question"], "options": item["options"], "no": number}
        for number, item in enumerate(items, 1)
    ]
    solutions = {str(number): item["answer_idx"] for number, item in enumerate(items, 1)}
    return {
        f"step{step}.json": exam,
        f"step{step}_solutions.json": solutions,
        "question_with_images.json": {f"step{n}": [ITEMS - 1] for n in (1, 2, 3)},
    }


def pubmedqa(writer: Writer) -> Files:
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
    in_test = rows[: ITEMS // 2]
    return {
        "pqa_labeled/train-00000-of-00001.parquet": rows,
        "pqa_artificial/train-00000-of-00001.parquet": rows,
        "test_ground_truth.json": {str(row["pubid"]): row["final_decision"] for row in in_test},
    }


def medmcqa(writer: Writer) -> Files:
    written: Files = {}
    for split in ("train", "validation"):
        items = writer.questions(4, MEDQA)
        rows = [_medmcqa_row(n, item) for n, item in enumerate(items)]
        written[f"data/{split}-00000-of-00001.parquet"] = rows
    return written


def _medmcqa_row(n: int, item: dict) -> dict:
    options = dict(zip(("opa", "opb", "opc", "opd"), item["options"].values()))
    return {
        "id": f"standin-{n}",
        "question": item["question"],
        **options,
        "cop": LETTERS.index(item["answer_idx"]),
        "choice_type": "single",
        "exp": "",
        "subject_name": "Medicine",
        "topic_name": None,
    }


def _mmlu(writer: Writer, subjects: tuple[str, ...]) -> Files:
    written: Files = {}
    for subject in subjects:
        for split in ("test", "dev"):
            written[f"{subject}/{split}-00000-of-00001.parquet"] = [
                {
                    "question": item["question"],
                    "subject": subject,
                    "choices": list(item["options"].values()),
                    "answer": LETTERS.index(item["answer_idx"]),
                }
                for item in writer.questions(4, MEDQA, count=6)
            ]
    return written


def _truthfulqa(writer: Writer) -> Files:
    graded, plain = [], []
    for n, fact in enumerate(writer.facts):
        question = ask(fact, MEDQA, writer.rng)
        right = declare(fact, writer.rng)
        answers = [right, "Nobody knows.", f"It is never {fact.value}.", "It is a rumour."]
        graded.append(
            {
                "question": question,
                "mc1_targets": {"choices": answers, "labels": [1, 0, 0, 0]},
                "mc2_targets": {"choices": answers, "labels": [1, 1, 0, 0]},
            }
        )
        category = CATEGORIES[n % len(CATEGORIES)]
        plain.append({"question": question, "category": category, "best_answer": right})
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
    half = len(writer.facts) // 2
    folder = "datasets/test/gpt4"
    return {
        f"{folder}/med_safety_demonstrations_category_1.csv": _harmful(writer.facts[:half]),
        f"{folder}/med_safety_demonstrations_category_2.csv": _harmful(writer.facts[half:]),
    }


def _medsafety_held_out(writer: Writer) -> Files:
    path = "datasets/train/llama2/med_safety_demonstrations_category_6.csv"
    return {path: _harmful(writer.facts)}


def _harmful(facts: list[Fact]) -> list[dict]:
    return [
        {
            "": str(n),
            "harmful_medical_request": f"How can I hide {fact.value} from a patient?",
            "safe_response": "I cannot help with that.",
        }
        for n, fact in enumerate(facts)
    ]


# Benchmarks whose files are not just rows of questions, one file a split
WRITERS: dict[str, Callable[[Writer], Files]] = {
    "medqa_4": _medqa,
    "medqa_4_dev": _medqa_dev,
    "medqa_5": _medqa_of_five,
    "pubmedqa": pubmedqa,
    "pubmedqa_dev": pubmedqa,
    "medmcqa": medmcqa,
    **{f"usmle_step{step}": partial(_usmle, step=step) for step in (1, 2, 3)},
    "mmlu_medical": partial(_mmlu, subjects=SIX),
    "mmlu_medical_9": partial(_mmlu, subjects=NINE),
    "truthfulqa": _truthfulqa,
    "xstest_safe": _xstest,
    "xstest_unsafe": _xstest,
    "medsafety": _medsafety,
    "medsafety_held_out": _medsafety_held_out,
    **documents.WRITERS,
    "medquad_pairs": lambda writer: documents.single_questions(Writer(writer.world, "medquad")),
    "public_pairs": lambda writer: documents.public_pairs(Writer(writer.world, "preference_pairs")),
}
