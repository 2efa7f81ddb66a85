"""Questions of public training sets as rows, in the words in which Medical Meadow asks them.

So they are asked in tuning as Meadow's own questions are, and as the protocol `as-trained` asks.
"""

from sm70lib.sources.problems import problem
from sm70lib.sources.wordings import IN_BRACKETS, VERDICT, bracketed

OPTIONS = {"A": "opa", "B": "opb", "C": "opc", "D": "opd"}
VERDICTS = ("yes", "no", "maybe")


def medmcqa_of(record: dict) -> dict | str:
    """A question of MedMCQA's table on the hub; a str says why it gives no row.

    There `cop`, the right option, counts from 0, and is -1 where it is withheld. In the authors'
    file it counts from 1, and only a 4 gives that away.
    """
    for name in ("question", *OPTIONS.values()):
        if reason := problem(record, name):
            return reason
    options = {letter: record[name].strip() for letter, name in OPTIONS.items()}
    right = record.get("cop")
    if type(right) is not int or not 0 <= right < len(options):
        return f"cop is {right}, and the hub's table counts the right option from 0 to 3"
    letter = list(options)[right]
    return {
        "instruction": IN_BRACKETS,
        "input": bracketed(record["question"].strip(), options),
        "output": f"{letter}: {options[letter]}",
    }


def pubmedqa_of(record: dict) -> dict | str:
    """A question of PubMedQA's table on the hub; a str says why it gives no row."""
    context = record.get("context")
    texts = context.get("contexts") if isinstance(context, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return "no list of texts under context, contexts"
    reason = problem(record, "question")
    if reason:
        return reason
    verdict = record.get("final_decision")
    if verdict not in VERDICTS:
        return f"final_decision is {verdict!r}, and it can be {', '.join(VERDICTS)}"
    return {
        "instruction": VERDICT,
        "input": "\n".join([*texts, record["question"].strip()]),
        "output": verdict,
    }
