"""What the readers of all benchmarks share: records, options and right answers.

A reader yields three things for each record of a file: its position, the record, and the fields of
an item. Fields are id, question, options by label, gold (the label of the right option; None if
there is none or if two disagree), and context, if the question has one. A record that gives no item
has one field, `unusable`: the reason. All other fields are details, by the names in `Details`.
"""

from collections.abc import Iterator
from pathlib import Path

from sm70lib.sources.records import records

Found = Iterator[tuple[int, dict, dict]]

# The gold of a question that shows a picture, and the reason why the question is left out.
IMAGE = "needs a picture that is not in the file"

LETTERS = "ABCDEFGHIJ"  # of options, in their order
TOO_MANY = f"more than {len(LETTERS)} options"
ENDINGS = ("ending0", "ending1", "ending2", "ending3")


def objects(path: Path) -> Iterator[tuple[int, dict]]:
    """Number and content of each record of a file; {} for a record that is not an object."""
    return ((number, row if isinstance(row, dict) else {}) for number, row in records(path))


def flat(row: dict) -> dict:
    """The row with its `data`, if any, merged into it, and with all names in one form.

    Publishers write `LONG_ANSWER`, `Long Answer` or `long_answer`; the last is the form here.
    """
    nested = row["data"] if isinstance(row.get("data"), dict) else {}
    return {name.lower().replace(" ", "_"): value for name, value in (row | nested).items()}


def options_of(row: dict) -> dict[str, object]:
    """Options by letter, from a mapping, a list of texts or of keys with values, or columns."""
    listed = row.get("options", row.get("choices"))
    if isinstance(listed, dict):
        options = listed
    elif isinstance(listed, list):
        options = _from_list(listed)
    else:
        options = _from_columns(row)
    letters = sorted(letter for letter in options if isinstance(letter, str))
    # A table has columns for the longest list of options; shorter lists leave the last ones empty.
    while letters and options[letters[-1]] is None:
        letters.pop()
    return {letter: options[letter] for letter in letters}


def _from_list(listed: list) -> dict:
    if all(isinstance(option, dict) for option in listed):
        named = [option for option in listed if isinstance(option.get("key"), str)]
        return {option["key"]: option.get("value") for option in named}
    return dict(zip(LETTERS, listed))


def _from_columns(row: dict) -> dict:
    columns = "ABCD" if "A" in row else ENDINGS
    return {letter: row[name] for letter, name in zip("ABCD", columns) if name in row}


def gold_of(row: dict, options: dict) -> object:
    """The label of the right option, given as a letter, a number or the text of the answer.

    Returns:
        None if nothing says which option is right, or if the label and the text disagree.
    """
    label = lettered(row.get("answer_idx", row.get("label")), options)
    answer = row.get("answer")
    answers = answer if isinstance(answer, list) else [answer]
    right = [letter for letter, text in options.items() if text in answers]
    if label is None:
        return right[0] if len(right) == 1 else None
    return label if answer is None or label in right else None


def lettered(label: object, options: dict) -> object:
    """The letter of a label that counts the options from 0; any other label is left as it is."""
    # Not isinstance, which takes True and False for integers.
    if type(label) is int and 0 <= label < len(options):
        return list(options)[label]
    return label
