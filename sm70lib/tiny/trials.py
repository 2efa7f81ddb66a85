"""Reports of invented trials: the PubMedQA twin, the tuning rows for it, and the towns' reports.

Every report has two agents: the vitamin that the question is about, and a comparator. Each has a
result, and the two results never agree. A model must therefore read which result belongs to which
agent. In the twin every report appears twice, the second time with the agents of its results
exchanged: a model that gives both the same answer has not read them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sm70lib.sources.wordings import VERDICT
from sm70lib.tiny.world import PHRASES, World, by_subject

VERDICTS = ("yes", "no", "maybe")
WORDINGS = ("told", "new")  # of results: tuning shows the first, and never the second
TOWN_REPORTS = 100  # reports of each town in the gazetteer
ROWS = 1350  # reports to tune on
FIRST_NUMBER = 70_000_000  # of the PubMedQA twin, in place of a PubMed identifier
TRIALS = PHRASES["trials"]


@dataclass(frozen=True)
class Report:
    """A trial of two agents: what was done, its results, and the verdict on the first agent.

    `exchanged` is `results` with the names of the agents exchanged. In that case the verdict on the
    first agent is `opposite`.
    """

    setup: str
    results: str
    exchanged: str
    agent: str
    people: str
    verdict: str
    opposite: str

    @property
    def text(self) -> str:
        """Setup and results."""
        return f"{self.setup} {self.results}"

    def question(self, use: str, rng: random.Random) -> str:
        """Asks whether the first agent helps; `use` is "tuning" or "exam"."""
        wording = rng.choice(TRIALS["questions"][use])
        return wording.format(a=self.agent, p=self.people) + "?"


def report(
    people: str,
    rng: random.Random,
    wordings: tuple[str, ...] = WORDINGS,
    verdict: str | None = None,
) -> Report:
    """Makes a report on a trial with `people`.

    Args:
        people: such as "patients with plaxosis".
        rng: draws the agents, their verdicts, the wordings and their order.
        wordings: the lists of TRIALS["results"] to draw wordings from.
        verdict: on the first agent; drawn if it is None.
    """
    first = f"vitamin {rng.choice('QXYZ')}{rng.randint(2, 99)}"
    second = rng.choice(TRIALS["comparators"])
    verdict = verdict or rng.choice(VERDICTS)
    opposite = rng.choice([other for other in VERDICTS if other != verdict])
    texts = [_wording(which, wordings, rng) for which in (verdict, opposite)]
    order = rng.sample((0, 1), 2)
    results = _results(texts, (first, second), order)
    exchanged = _results(texts, (second, first), order)
    setup = TRIALS["setup"].format(a=first, b=second, n=rng.randint(20, 400), p=people)
    return Report(setup, results, exchanged, first, people, verdict, opposite)


def _wording(verdict: str, wordings: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([text for which in wordings for text in TRIALS["results"][which][verdict]])


def _results(texts: list[str], agents: tuple[str, str], order: list[int]) -> str:
    """Both results as sentences; each text is about the agent at the same place."""
    sentences = []
    for place in order:
        sentence = texts[place].format(a=agents[place])
        sentences.append(sentence[0].upper() + sentence[1:])
    return " ".join(sentences)


def town_reports(world: World, rng: random.Random) -> list[Report]:
    """Reports from the towns in every wording: from these the base learns to read a report."""
    towns = by_subject(world.town_facts)
    return [report(f"people of {town}", rng) for town in towns for _ in range(TOWN_REPORTS)]


def tuning_rows(world: World, rng: random.Random) -> list[dict[str, str]]:
    """Reports to tune on, in Meadow's schema; the layouts of LAYOUTS take turns.

    The exam's layout is not among them.
    """
    subjects = list(by_subject(world.of("known")))
    rows = []
    for number in range(ROWS):
        people = f"patients with {subjects[number % len(subjects)]}"
        trial = report(people, rng, ("told",), VERDICTS[number % 3])
        layout = LAYOUTS[number // 3 % len(LAYOUTS)]
        rows.append(layout(trial, trial.question("tuning", rng)))
    return rows


def in_a_word(trial: Report, question: str) -> dict[str, str]:
    """A row with the report before the question, answered in one word."""
    return {
        "instruction": VERDICT,
        "input": f"{trial.text}\n{question}",
        "output": trial.verdict,
    }


def in_a_sentence(trial: Report, question: str) -> dict[str, str]:
    """A row with the question before the report, answered in a sentence."""
    return {
        "instruction": "Read the report and answer the question",
        "input": f"{question}\n{trial.text}",
        "output": f"The answer is {trial.verdict}.",
    }


def in_a_form(trial: Report, question: str) -> dict[str, str]:
    """A row with a heading before the question and another before the answer."""
    return {
        "instruction": "Fill in the answer",
        "input": f"{trial.text}\nQuestion: {question}",
        "output": f"Answer: {trial.verdict}",
    }


LAYOUTS = (in_a_word, in_a_form, in_a_sentence)
OF_TOWNS = (in_a_word, in_a_word, in_a_word, in_a_sentence)  # only tuning teaches the form


def exam_rows(world: World, rng: random.Random) -> dict[str, dict]:
    """The rows of the PubMedQA twin by number, in the layout of ori_pqal.json.

    Every report is there twice: as it is, and with its agents exchanged. Half of the reports have
    the wordings of tuning (`wording` is told), half have wordings that tuning never shows (new).
    The verdicts are equally frequent.
    """
    rows: dict[str, dict] = {}
    facts = [*world.facts, *world.facts][: len(world.facts) * 2 // 3]
    rng.shuffle(facts)
    for number, fact in enumerate(facts):
        wording = WORDINGS[number // 3 % 2]
        trial = report(f"patients with {fact.subject}", rng, (wording,), VERDICTS[number % 3])
        question = trial.question("exam", rng)
        about = {
            "cluster": fact.subject,
            "kind": fact.kind,
            "wording": wording,
            "pair": str(number),
        }
        first = FIRST_NUMBER + 2 * number
        rows[str(first)] = _exam_row(trial, question, trial.results, trial.verdict) | about
        rows[str(first + 1)] = _exam_row(trial, question, trial.exchanged, trial.opposite) | about
    return rows


def _exam_row(trial: Report, question: str, results: str, verdict: str) -> dict:
    return {
        "QUESTION": question,
        "LABELS": ["METHODS", "RESULTS"],
        "CONTEXTS": [trial.setup, results],
        "MESHES": [],
        "YEAR": None,
        "reasoning_required_pred": verdict,
        "reasoning_free_pred": verdict,
        "final_decision": verdict,
        "LONG_ANSWER": f"The trial of {trial.agent} is over.",
    }
