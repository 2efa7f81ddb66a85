"""A few dozen rows of every training source, in the file layout of its repository on the hub.

They speak of the fictional medicine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sm70lib.sources import SOURCES
from sm70lib.sources.catalogue import SHAPES, Source
from sm70lib.standins import documents
from sm70lib.standins.meadow import MEADOW, lettered
from sm70lib.standins.writer import ROWS, Files, Writer, path_for
from sm70lib.tiny.world import TUNING, Fact, World, ask, declare

REFUSAL = "I am sorry, but I cannot help with that request, as it would harm a patient."


def files(name: str, world: World, leaks: list[dict]) -> Files:
    """The files of a training source, by its writer or else as its line in sources.csv says.

    Args:
        name: the source, as in sources.csv.
        world: the fictional medicine that its rows speak of.
        leaks: benchmark items (question, options, answer_idx) for the one source that leaks.
    """
    writer = Writer(world, name)
    if name == "medical_meadow_mmmlu":
        return {f"{name}.json": lettered(writer, leaks)}
    part = name.removeprefix("medical_meadow_")
    if name.startswith("medical_meadow_") and part in MEADOW:
        return {f"{name}.json": MEADOW[part](writer)}
    if name in OTHERS:
        return OTHERS[name](writer)
    return _usual(writer, SOURCES[name])


def _usual(writer: Writer, source: Source) -> Files:
    """One file of rows in the plainest layout that the source's shape reads."""
    rows: list[dict] = []
    for fact in writer.facts:
        if source.shape is SHAPES["text"]:
            rows.append({"text": writer.text()})
        elif source.shape is SHAPES["pair"]:
            rows.append(_pair(writer, fact))
        else:
            rows.append(writer.card(fact))
    return {path_for(source.files[0]): rows}


def _medquad(writer: Writer) -> Files:
    """A document for each fact, in the authors' layout; the hub's does not tell documents apart."""
    asked = [(ask(fact, TUNING, writer.rng), declare(fact, writer.rng)) for fact in writer.facts]
    # Planted: in the real set two questions in three have no answer
    asked.append(("What is unknown?", ""))
    return {f"1_Standin_QA/{n:07}.xml": documents.medquad([pair]) for n, pair in enumerate(asked)}


def _refusals(writer: Writer) -> Files:
    rows = [
        {
            "instruction": f"How can I hide {fact.value} from a patient with {fact.subject}?",
            "output": REFUSAL,
            "input": "",
        }
        for fact in writer.facts
    ]
    return {"datasets/train-splits-used-for-ft/med_safety/ft_safety_med_n900.json": rows}


def _refusals_by_principle(writer: Writer, principle: int = 1) -> Files:
    rows = [
        {
            "": str(n),
            "harmful_medical_request": f"How can I sell {fact.value} for {fact.subject}?",
            "safe_response": REFUSAL,
        }
        for n, fact in enumerate(writer.facts)
    ]
    return {f"datasets/train/gpt4/med_safety_demonstrations_category_{principle}.csv": rows}


def _guidelines(writer: Writer) -> Files:
    rows = [
        {
            "id": str(n),
            "source": "standin",
            "title": f"On {fact.subject}",
            "clean_text": writer.text(),
        }
        for n, fact in enumerate(writer.facts)
    ]
    return {"open_guidelines.jsonl": rows}


def _abstracts(writer: Writer) -> Files:
    rows = [
        {"id": str(n), "title": f"On {fact.subject}", "contents": writer.text(6)}
        for n, fact in enumerate(writer.facts)
    ]
    return {"chunk/pubmed23n0001.jsonl": rows}


def _papers(writer: Writer) -> Files:
    rows = [{"article": writer.text(60), "abstract": writer.text(3)} for _ in writer.facts]
    return {"document/train-00000-of-00001.parquet": rows}


def _general(writer: Writer) -> Files:
    towns = writer.world.town_facts
    return {"arxiv_sample.jsonl": [{"text": writer.sentences(towns, 12)} for _ in range(ROWS)]}


def _answers(writer: Writer, fact: Fact) -> tuple[str, str, str]:
    """A question about a fact, its right answer, and a wrong one."""
    others = [value for value in writer.world.values[fact.relation] if value != fact.value]
    wrong = writer.rng.choice(others)
    return ask(fact, TUNING, writer.rng), f"It is {fact.value}.", f"It is {wrong}."


def _pair(writer: Writer, fact: Fact) -> dict:
    """A preference pair of conversations; the one with the right answer is preferred."""
    question, right, wrong = _answers(writer, fact)
    return {
        "prompt": question,
        "chosen": _conversation(question, right),
        "rejected": _conversation(question, wrong),
    }


def _conversation(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _scored_pairs(writer: Writer) -> Files:
    rows = []
    for n, fact in enumerate(writer.facts):
        worse_score = 8.0 if n == 0 else 4.0  # planted: a tie
        scores = {"score_chosen": 8.0, "score_rejected": worse_score}
        rows.append(_pair(writer, fact) | scores)
    return {"data/train_prefs-00000-of-00001.parquet": rows}


def _ranked_pairs(writer: Writer, iteration: int) -> Files:
    rows = [_pair(writer, fact) for fact in writer.facts]
    return {f"data/train_iteration_{iteration}-00000-of-00001.parquet": rows}


def _public_pairs(writer: Writer) -> Files:
    rows = []
    for fact in writer.facts:
        question, right, wrong = _answers(writer, fact)
        rows.append(
            {
                "instruction": question,
                "input": "",
                "output": right,
                "chosen": right,
                "rejected": wrong,
            }
        )
    return {"standin/pairs.json": rows}


OTHERS: dict[str, Callable[[Writer], Files]] = {
    **documents.SOURCES,
    "medquad": _medquad,
    "med_safety_bench": _refusals,
    "med_safety_gpt4_1_5": _refusals_by_principle,
    "guidelines": _guidelines,
    "pubmed_abstracts": _abstracts,
    "pubmed_papers": _papers,
    "redpajama": _general,
    "ultrafeedback": _scored_pairs,
    "snorkel_1": partial(_ranked_pairs, iteration=1),
    "snorkel_2": partial(_ranked_pairs, iteration=2),
    "snorkel_3": partial(_ranked_pairs, iteration=3),
    "preference_pairs": _public_pairs,
    **{f"medquad_pairs_{turn}": _medquad for turn in (1, 2, 3)},
    "med_safety_pairs_1": partial(_refusals_by_principle, principle=1),
    "med_safety_pairs_2": partial(_refusals_by_principle, principle=3),
    "med_safety_pairs_3": partial(_refusals_by_principle, principle=5),
}
