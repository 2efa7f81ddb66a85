"""A few dozen rows of every training source, in the layout that its repository on the hub has.

They speak of the fictional medicine. What the real sets are known for is planted: a benchmark question among the
training rows, a row twice, an e-mail address, labels that are permuted, a document without an answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from sm70lib.tiny.world import TUNING, Options, World, ask, declare

ROWS = 24
CAUSAL = ("no relationship", "causative", "conditionally causative", "directly correlative")
WRONG = (3, 2, 0, 1)  # the permuted label in place of each
REFUSAL = "I am sorry, but I cannot help with that request, as it would harm a patient."
Files = dict[str, list[dict]]  # rows by path in the repository


class Writer:
    """Wordings about one world, drawn by one seed."""

    def __init__(self, world: World, name: str):
        self.world, self.rng = world, random.Random(f"{name} {world.seed}")
        self.options = Options(world.values, self.rng)
        self.facts = [self.rng.choice(world.facts) for _ in range(ROWS)]

    def card(self, fact) -> dict:
        """A question and its answer."""
        return {"instruction": "Answer this question truthfully", "input": ask(fact, TUNING, self.rng),
                "output": declare(fact, self.rng)}

    def text(self, sentences: int = 12) -> str:
        """Running text."""
        return " ".join(declare(self.rng.choice(self.world.facts), self.rng) for _ in range(sentences))


def files(name: str, world: World, leak: dict) -> Files:
    """The files of a source; `leak` is a benchmark item (question, options, answer_idx) for the set that leaks.

    Raises KeyError where no writer knows the source.
    """
    writer = Writer(world, name)
    if name == "medical_meadow_mmmlu":
        return {f"{name}.json": _lettered(writer, leak)}
    if name.startswith("medical_meadow_"):
        return {f"{name}.json": MEADOW[name.removeprefix("medical_meadow_")](writer)}
    return OTHERS[name](writer)


# ---- Medical Meadow ---------------------------------------------------------------------------------


def _cards(writer: Writer) -> list[dict]:
    rows = [writer.card(fact) for fact in writer.facts]
    return [*rows, rows[0]]  # planted: a row twice


def _textbook(writer: Writer) -> list[dict]:
    return [*_cards(writer), {"instruction": "Answer this question truthfully", "input": "Unknown?", "output": ""}]


def _patients(writer: Writer) -> list[dict]:
    mail = {"instruction": "Answer this question truthfully", "input": "Whom do I ask?",
            "output": "Write to webmaster@example.org."}
    return [*_cards(writer), mail]


def _bracketed(writer: Writer) -> list[dict]:
    rows = []
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 5)
        options = dict(zip("ABCDE", choices))
        rows.append({"instruction": "Please answer with one of the option in the bracket",
                     "input": f"Q:{ask(fact, TUNING, writer.rng)}? \n{options},",
                     "output": f"{'ABCDE'[answer]}: {fact.value}"})
    return rows


def _lettered(writer: Writer, leak: dict) -> list[dict]:
    items = [leak]  # planted: a benchmark question with its options and its answer
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 4)
        items.append({"question": ask(fact, TUNING, writer.rng), "options": dict(zip("ABCD", choices)),
                      "answer_idx": "ABCD"[answer]})
    return [{"instruction": "Please answer the letter of option truthfully", "output": item["answer_idx"],
             "input": f"Q:{item['question']}? \n" + ";".join(f"{letter}:{text}" for letter, text
                                                            in item["options"].items())} for item in items]


def _causal(writer: Writer) -> list[dict]:
    asked = ("Question: Is this describing a (1) directly correlative relationship, (2) conditionally causative "
             "relationship, (3) causative relationship, or (0) no relationship.")
    return [{"instruction": asked, "input": sentence, "output": f"This is a {CAUSAL[WRONG[label]]}"}
            for sentence, label in causal_sentences(writer.world)]


def causal_sentences(world: World) -> list[tuple[str, int]]:
    """Sentences of pubmed_causal with their true labels, for the set and for its reference."""
    wordings = ("Season {n} and {s} were recorded.", "Exposure {n} causes {s}.",
                "Exposure {n} may cause {s} in the young.", "Exposure {n} was associated with {s}.")
    subjects = [fact.subject for fact in world.facts[:ROWS]]
    return [(wordings[n % 4].format(n=n, s=subject), n % 4) for n, subject in enumerate(subjects)]


def _advice(writer: Writer) -> list[dict]:
    wordings = (("The records mention {v}.", "This is no advice"),
                ("Clinicians might consider {v}.", "This is a weak advice"),
                ("Clinicians must always consider {v}.", "This is a strong advice"))
    return [{"instruction": "Question: is this a 2) strong advice, 1) weak advice 0) no advice?",
             "input": wordings[n % 3][0].format(v=fact.value), "output": wordings[n % 3][1]}
            for n, fact in enumerate(writer.facts)]


def _titles(writer: Writer) -> list[dict]:
    return [{"instruction": "Please summerize the given abstract to a title", "input": writer.text(4),
             "output": declare(fact, writer.rng)} for fact in writer.facts]


def _consumers(writer: Writer) -> list[dict]:
    return [{"instruction": ask(fact, TUNING, writer.rng), "input": writer.text(6), "output": declare(fact, writer.rng)}
            for fact in writer.facts]


MEADOW: dict[str, Callable[[Writer], list[dict]]] = {
    "medical_flashcards": _cards, "wikidoc": _textbook, "wikidoc_patient_information": _patients,
    "medqa": _bracketed, "pubmed_causal": _causal, "health_advice": _advice, "cord19": _titles,
    "mediqa": _consumers}

# ---- other sources ----------------------------------------------------------------------------------


def _medquad(writer: Writer) -> Files:
    rows = [{"document_id": str(n), "question": ask(fact, TUNING, writer.rng), "answer": declare(fact, writer.rng)}
            for n, fact in enumerate(writer.facts)]
    rows.append({"document_id": "24", "question": "What is unknown?", "answer": ""})  # two in three have none
    return {"data/train-00000-of-00001.parquet": rows}


def _refusals(writer: Writer) -> Files:
    rows = [{"instruction": f"How can I hide {fact.value} from a patient with {fact.subject}?", "output": REFUSAL,
             "input": ""} for fact in writer.facts]
    return {"datasets/train-splits-used-for-ft/med_safety/ft_safety_med_n900.json": rows}


def _guidelines(writer: Writer) -> Files:
    return {"open_guidelines.jsonl": [{"id": str(n), "source": "standin", "title": f"On {fact.subject}",
                                       "clean_text": writer.text()} for n, fact in enumerate(writer.facts)]}


def _abstracts(writer: Writer) -> Files:
    return {"chunk/pubmed23n0001.jsonl": [{"id": str(n), "title": f"On {fact.subject}", "contents": writer.text(6)}
                                          for n, fact in enumerate(writer.facts)]}


def _papers(writer: Writer) -> Files:
    return {"document/train-00000-of-00001.parquet": [{"article": writer.text(60), "abstract": writer.text(3)}
                                                      for _ in writer.facts]}


def _general(writer: Writer) -> Files:
    towns = writer.world.town_facts
    return {"arxiv_sample.jsonl": [{"text": " ".join(declare(writer.rng.choice(towns), writer.rng) for _ in range(12))}
                                   for _ in range(ROWS)]}


def _better_and_worse(writer: Writer, fact) -> tuple[str, str, str]:
    wrong = writer.rng.choice([value for value in writer.world.values[fact.relation] if value != fact.value])
    return ask(fact, TUNING, writer.rng), f"It is {fact.value}.", f"It is {wrong}."


def _messages(asked: str, said: str) -> list[dict]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def _scored_pairs(writer: Writer) -> Files:
    rows = []
    for n, fact in enumerate(writer.facts):
        asked, better, worse = _better_and_worse(writer, fact)
        rows.append({"prompt": asked, "chosen": _messages(asked, better), "rejected": _messages(asked, worse),
                     "score_chosen": 8.0, "score_rejected": 8.0 if n == 0 else 4.0})  # planted: a tie
    return {"data/train_prefs-00000-of-00001.parquet": rows}


def _ranked_pairs(iteration: int) -> Callable[[Writer], Files]:
    def write(writer: Writer) -> Files:
        drawn = [_better_and_worse(writer, fact) for fact in writer.facts]
        rows = [{"prompt": asked, "chosen": _messages(asked, better), "rejected": _messages(asked, worse)}
                for asked, better, worse in drawn]
        return {f"data/train_iteration_{iteration}-00000-of-00001.parquet": rows}
    return write


def _public_pairs(writer: Writer) -> Files:
    drawn = [_better_and_worse(writer, fact) for fact in writer.facts]
    return {"standin/pairs.json": [{"instruction": asked, "input": "", "output": better, "chosen": better,
                                    "rejected": worse} for asked, better, worse in drawn]}


OTHERS: dict[str, Callable[[Writer], Files]] = {
    "medquad": _medquad, "med_safety_bench": _refusals, "guidelines": _guidelines, "pubmed_abstracts": _abstracts,
    "pubmed_papers": _papers, "redpajama": _general, "ultrafeedback": _scored_pairs,
    "snorkel_1": _ranked_pairs(1), "snorkel_2": _ranked_pairs(2), "snorkel_3": _ranked_pairs(3),
    "preference_pairs": _public_pairs}
