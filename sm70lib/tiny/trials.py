"""Reports of invented trials: the PubMedQA twin, the rows that prepare for it, and the towns' own.

Two agents stand in every report: a vitamin, about which the question is, and what it was compared
with. Both have a result, and the two results never agree, so that nobody can answer who reads the
results without asking whose they are. In the twin every report stands twice, with the agents of
its results exchanged: who answers both alike has not read them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sm70lib.tiny.world import PHRASES, World

VERDICTS = ("yes", "no", "maybe")
WORDINGS = ("told", "new")  # of results: those that tuning shows, and those that it does not
TOWN_REPORTS = 100  # reports of each town in the gazetteer
ROWS = 1350  # reports to tune on
TRIALS = PHRASES["trials"]


@dataclass(frozen=True)
class Report:
    """A trial of two agents: what was done, what came of it, and what is asked about the first.

    `exchanged` is `results` with the agents' names exchanged, and `opposite` the verdict then.
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
        """The question whether the first agent helps; `use` is tuning or exam."""
        wording = rng.choice(TRIALS["questions"][use])
        return wording.format(a=self.agent, p=self.people) + "?"


def report(
    people: str,
    rng: random.Random,
    wordings: tuple[str, ...] = WORDINGS,
    verdict: str | None = None,
) -> Report:
    """A report on a trial with `people`.

    Args:
        people: such as "patients with plaxosis".
        rng: draws the agents, their verdicts, the wordings and their order.
        wordings: the lists of TRIALS["results"] from which a wording may come.
        verdict: of the first agent; drawn when it is not given.
    """
    first = f"vitamin {rng.choice('QXYZ')}{rng.randint(2, 99)}"
    second = rng.choice(TRIALS["comparators"])
    verdict = verdict or rng.choice(VERDICTS)
    opposite = rng.choice([other for other in VERDICTS if other != verdict])
    said = [_wording(which, wordings, rng) for which in (verdict, opposite)]
    order = rng.sample((0, 1), 2)
    told, exchanged = (
        " ".join(_begun(said[place].format(a=agents[place])) for place in order)
        for agents in ((first, second), (second, first))
    )
    setup = TRIALS["setup"].format(a=first, b=second, n=rng.randint(20, 400), p=people)
    return Report(setup, told, exchanged, first, people, verdict, opposite)


def _begun(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _wording(verdict: str, wordings: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([text for which in wordings for text in TRIALS["results"][which][verdict]])


def town_reports(world: World, rng: random.Random) -> list[Report]:
    """Reports from the towns, with every wording there is: from these the base learns to read one."""
    towns = list(dict.fromkeys(fact.subject for fact in world.town_facts))
    return [report(f"people of {town}", rng) for town in towns for _ in range(TOWN_REPORTS)]


def tuning_rows(world: World, rng: random.Random) -> list[dict[str, str]]:
    """Reports to tune on, in Meadow's schema and in the layouts of LAYOUTS; none is the exam's."""
    subjects = list(dict.fromkeys(fact.subject for fact in world.of("known")))
    rows = []
    for number in range(ROWS):
        people = f"patients with {subjects[number % len(subjects)]}"
        made = report(people, rng, ("told",), VERDICTS[number % 3])
        layout = LAYOUTS[number // 3 % len(LAYOUTS)]
        rows.append(layout(made, made.question("tuning", rng)))
    return rows


def in_a_word(made: Report, asked: str) -> dict[str, str]:
    """A row that gives the report, then the question, and answers in one word."""
    return {
        "instruction": "Answer this question with yes, no or maybe",
        "input": f"{made.text}\n{asked}",
        "output": made.verdict,
    }


def in_a_sentence(made: Report, asked: str) -> dict[str, str]:
    """A row that gives the question, then the report, and answers in a sentence."""
    return {
        "instruction": "Read the report and answer the question",
        "input": f"{asked}\n{made.text}",
        "output": f"The answer is {made.verdict}.",
    }


def in_a_form(made: Report, asked: str) -> dict[str, str]:
    """A row with a heading before the question, and one before the answer."""
    return {
        "instruction": "Fill in the answer",
        "input": f"{made.text}\nQuestion: {asked}",
        "output": f"Answer: {made.verdict}",
    }


LAYOUTS = (in_a_word, in_a_form, in_a_sentence)
OF_TOWNS = (in_a_word, in_a_word, in_a_word, in_a_sentence)  # only tuning teaches the form


def exam_rows(world: World, rng: random.Random) -> dict[str, dict]:
    """The PubMedQA twin by number, in the layout of ori_pqal.json; every report and its exchange.

    Half of the reports are worded as in tuning (`wording` told), half in words that tuning never
    shows (new). Verdicts are equally frequent.
    """
    rows = {}
    facts = [*world.facts, *world.facts][: len(world.facts) * 2 // 3]
    rng.shuffle(facts)
    for number, fact in enumerate(facts):
        wording = WORDINGS[number // 3 % 2]
        made = report(f"patients with {fact.subject}", rng, (wording,), VERDICTS[number % 3])
        asked = made.question("exam", rng)
        for twin, results, verdict in (
            (0, made.results, made.verdict),
            (1, made.exchanged, made.opposite),
        ):
            rows[str(70_000_000 + 2 * number + twin)] = {
                "QUESTION": asked,
                "LABELS": ["METHODS", "RESULTS"],
                "CONTEXTS": [made.setup, results],
                "MESHES": [],
                "YEAR": None,
                "reasoning_required_pred": verdict,
                "reasoning_free_pred": verdict,
                "final_decision": verdict,
                "LONG_ANSWER": f"The trial of {made.agent} is over.",
                "cluster": fact.subject,
                "kind": fact.kind,
                "wording": wording,
                "pair": str(number),
            }
    return rows
