"""Who judges whom: no judge reads the replies of a model of its own family."""

from __future__ import annotations

from collections.abc import Sequence

from sm70lib.study import judges, others
from sm70lib.study.judges import PHYSICIAN, Judge
from sm70lib.study.params import StudyError

TRAINED_HERE = "trained here"  # the family of a base that 00_base trains


def family_of(model: str, p) -> str | None:
    """The family of a judged model, by its name in the study; None if nothing tells it."""
    if model in p.eval_models:
        return judges.family(others.read(model, p.eval_models[model]).known_as)
    return judges.family(p.base_model) if p.base_model else TRAINED_HERE


def panels(
    found: Sequence[Judge], families: dict[str, str | None]
) -> tuple[dict[str, list[Judge]], list[str]]:
    """The judges of every model, and what a reader of the scores has to know about them.

    Args:
        found: all judges.
        families: the family of every judged model, by its name.

    Raises:
        StudyError: a model has no judge of another family.
    """
    fit, said = {}, []
    for model, family in families.items():
        fit[model] = [
            judge for judge in found if judge.family == PHYSICIAN or judge.family != family
        ]
        apart = [judge.name for judge in found if judge not in fit[model]]
        if not fit[model]:
            raise StudyError(
                f"eval_judges: {model} is of the family {family}, and so is every judge "
                f"({', '.join(apart)}); a judge may like what its own family writes, so add one of "
                "another family, or the readings of a person"
            )
        if apart:
            said.append(f"{model} is not judged by {', '.join(apart)}, of its own family {family}")
        if family is None:
            said.append(f"{model}: its name does not tell its family, so every judge reads it")
        said += _few(model, fit[model])
    return fit, said


def _few(model: str, fit: list[Judge]) -> list[str]:
    """A warning, where the models that judge are all of one family."""
    families = {judge.family for judge in fit if judge.family != PHYSICIAN}
    if len(families) != 1:
        return []
    return [f"{model} is judged by models of one family alone ({families.pop()}); two say more"]
