"""A few dozen rows of every training source, in the file layout of its repository on the hub.

They speak of the fictional medicine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sm70lib.sources import SOURCES
from sm70lib.sources.catalogue import SHAPES, Source
from sm70lib.standins import documents, items
from sm70lib.standins.meadow import MEADOW, lettered
from sm70lib.standins.writer import ROWS, Files, Writer, path_for
from sm70lib.tiny.world import World

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
            rows.append(documents.pair(writer, fact))
        elif source.shape is SHAPES["talk"]:
            rows.append(_talk(writer.card(fact)))
        else:
            rows.append(writer.card(fact))
    return {path_for(source.files[0]): rows}


def _talk(card: dict) -> dict:
    """A question and its answer as a conversation, as ShareGPT writes one."""
    question, answer = card["input"], card["output"]
    return {
        "conversations": [
            {"from": "human", "value": question},
            {"from": "gpt", "value": answer},
        ]
    }


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


OTHERS: dict[str, Callable[[Writer], Files]] = {
    **documents.SOURCES,
    "medquad": documents.single_questions,
    # repositories that are benchmarks too: a commit of the hub holds the same files for both
    "medmcqa_train": items.medmcqa,
    "pubmedqa_artificial": items.pubmedqa,
    "med_safety_bench": _refusals,
    "med_safety_gpt4_1_5": _refusals_by_principle,
    "guidelines": _guidelines,
    "pubmed_abstracts": _abstracts,
    "pubmed_papers": _papers,
    "redpajama": _general,
    "ultrafeedback": documents.scored_pairs,
    "snorkel_1": partial(documents.ranked_pairs, iteration=1),
    "snorkel_2": partial(documents.ranked_pairs, iteration=2),
    "snorkel_3": partial(documents.ranked_pairs, iteration=3),
    "preference_pairs": documents.public_pairs,
    **{f"medquad_pairs_{turn}": documents.single_questions for turn in (1, 2, 3)},
    "med_safety_pairs_1": partial(_refusals_by_principle, principle=1),
    "med_safety_pairs_2": partial(_refusals_by_principle, principle=3),
    "med_safety_pairs_3": partial(_refusals_by_principle, principle=5),
}
