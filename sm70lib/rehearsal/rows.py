"""A few dozen rows of every training source, in the layout that its repository on the hub has.

They speak of the fictional medicine.
"""

from __future__ import annotations

from collections.abc import Callable

from sm70lib.rehearsal.meadow import MEADOW, lettered
from sm70lib.rehearsal.writer import ROWS, Files, Writer
from sm70lib.tiny.world import TUNING, World, ask, declare

REFUSAL = "I am sorry, but I cannot help with that request, as it would harm a patient."


def files(name: str, world: World, leak: dict) -> Files:
    """The files of a source; `leak` is a benchmark item (question, options, answer_idx) for the set
    that leaks.

    Raises KeyError where no writer knows the source.
    """
    writer = Writer(world, name)
    if name == "medical_meadow_mmmlu":
        return {f"{name}.json": lettered(writer, leak)}
    if name.startswith("medical_meadow_"):
        return {f"{name}.json": MEADOW[name.removeprefix("medical_meadow_")](writer)}
    return OTHERS[name](writer)


def _medquad(writer: Writer) -> Files:
    rows = [
        {
            "document_id": str(n),
            "question": ask(fact, TUNING, writer.rng),
            "answer": declare(fact, writer.rng),
        }
        for n, fact in enumerate(writer.facts)
    ]
    rows.append(
        {"document_id": "24", "question": "What is unknown?", "answer": ""}
    )  # two in three have none
    return {"data/train-00000-of-00001.parquet": rows}


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


def _guidelines(writer: Writer) -> Files:
    return {
        "open_guidelines.jsonl": [
            {
                "id": str(n),
                "source": "standin",
                "title": f"On {fact.subject}",
                "clean_text": writer.text(),
            }
            for n, fact in enumerate(writer.facts)
        ]
    }


def _abstracts(writer: Writer) -> Files:
    return {
        "chunk/pubmed23n0001.jsonl": [
            {"id": str(n), "title": f"On {fact.subject}", "contents": writer.text(6)}
            for n, fact in enumerate(writer.facts)
        ]
    }


def _papers(writer: Writer) -> Files:
    return {
        "document/train-00000-of-00001.parquet": [
            {"article": writer.text(60), "abstract": writer.text(3)} for _ in writer.facts
        ]
    }


def _general(writer: Writer) -> Files:
    towns = writer.world.town_facts
    return {
        "arxiv_sample.jsonl": [
            {"text": " ".join(declare(writer.rng.choice(towns), writer.rng) for _ in range(12))}
            for _ in range(ROWS)
        ]
    }


def _better_and_worse(writer: Writer, fact) -> tuple[str, str, str]:
    wrong = writer.rng.choice(
        [value for value in writer.world.values[fact.relation] if value != fact.value]
    )
    return ask(fact, TUNING, writer.rng), f"It is {fact.value}.", f"It is {wrong}."


def _messages(asked: str, said: str) -> list[dict]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def _scored_pairs(writer: Writer) -> Files:
    rows = []
    for n, fact in enumerate(writer.facts):
        asked, better, worse = _better_and_worse(writer, fact)
        rows.append(
            {
                "prompt": asked,
                "chosen": _messages(asked, better),
                "rejected": _messages(asked, worse),
                "score_chosen": 8.0,
                "score_rejected": 8.0 if n == 0 else 4.0,
            }
        )  # planted: a tie
    return {"data/train_prefs-00000-of-00001.parquet": rows}


def _ranked_pairs(iteration: int) -> Callable[[Writer], Files]:
    def write(writer: Writer) -> Files:
        drawn = [_better_and_worse(writer, fact) for fact in writer.facts]
        rows = [
            {
                "prompt": asked,
                "chosen": _messages(asked, better),
                "rejected": _messages(asked, worse),
            }
            for asked, better, worse in drawn
        ]
        return {f"data/train_iteration_{iteration}-00000-of-00001.parquet": rows}

    return write


def _public_pairs(writer: Writer) -> Files:
    drawn = [_better_and_worse(writer, fact) for fact in writer.facts]
    return {
        "standin/pairs.json": [
            {
                "instruction": asked,
                "input": "",
                "output": better,
                "chosen": better,
                "rejected": worse,
            }
            for asked, better, worse in drawn
        ]
    }


OTHERS: dict[str, Callable[[Writer], Files]] = {
    "medquad": _medquad,
    "med_safety_bench": _refusals,
    "guidelines": _guidelines,
    "pubmed_abstracts": _abstracts,
    "pubmed_papers": _papers,
    "redpajama": _general,
    "ultrafeedback": _scored_pairs,
    "snorkel_1": _ranked_pairs(1),
    "snorkel_2": _ranked_pairs(2),
    "snorkel_3": _ranked_pairs(3),
    "preference_pairs": _public_pairs,
}
