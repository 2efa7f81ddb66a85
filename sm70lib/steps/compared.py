"""How two keys differ."""

from collections.abc import Set
from typing import Any

from sm70lib.parameters.fields import BEFORE
from sm70lib.parameters.stages import READS, STAGES
from sm70lib.steps.keys import Key, maker

NAMED = 3  # modules that a sentence names, where more of them changed


def difference(old: Key, new: Key, unknown: Set[str] = frozenset()) -> str:
    """Describes how two keys differ, e.g. `lora_r: 16 -> 8, data/train changed`.

    A parameter that only one key has is not compared: an edit of the code has added or removed it,
    which changes no existing result (but see `changed`). Nor are inputs of stages that the study
    does not have.

    Args:
        old: One key.
        new: The other key.
        unknown: Steps whose results are not known yet; inputs from them are not compared.

    Returns:
        The description; "" if the keys agree.
    """
    differences = [f"{n}: {before} -> {after}" for n, before, after in changed(old, new)]
    for part in ("inputs", "code"):
        before, after = old[part], new[part]
        differing = [n for n in sorted(before | after) if before.get(n) != after.get(n)]
        if part == "inputs":
            differing = [n for n in differing if n not in _unread(new)]
            differing = [n for n in differing if not unknown or maker(n) not in unknown]
        if part == "code" and len(differing) > NAMED:
            named = ", ".join(differing[:NAMED])
            differences.append(f"{named} and {len(differing) - NAMED} more modules changed")
        else:
            differences += [f"{n} changed" for n in differing]
    return ", ".join(differences)


def _unread(key: Key) -> set[str]:
    """Inputs of stages that the study of a key does not have; keys hold them all the same."""
    kinds = key["parameters"].get("train_stages", STAGES)
    read = {STAGES[kind].reads for kind in kinds if kind in STAGES}
    return {path for form in READS.keys() - read for path in READS[form]}


def changed(old: Key, new: Key) -> list[tuple[str, Any, Any]]:
    """The parameters that both keys have with different values: name, old value, new value.

    A key without a parameter that came later says what was done before (`fields.BEFORE`).
    """
    before, after = BEFORE | old["parameters"], BEFORE | new["parameters"]
    shared = sorted(before.keys() & after.keys())
    return [(n, before[n], after[n]) for n in shared if before[n] != after[n]]
