"""Which parameters count in a study.

Those of a stage that `train_stages` does not name play no part, nor do those of a small base where
`base_model` names another, nor those of the fictional medicine where the data are real, nor those
of an adapter where all weights are trained. A study file may leave them out, and they belong to no
step's key.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sm70lib.parameters import own
from sm70lib.parameters.fields import FIELDS
from sm70lib.parameters.stages import STAGES


class Group(NamedTuple):
    """Parameters that count only together.

    Attributes:
        decider: The parameter on whose value it depends whether they count.
        holds: Whether they count, by that value.
        words: What has to hold, for messages.
    """

    decider: str
    holds: Callable[[Any], bool]
    words: str


def _of_stage(kind: str) -> Group:
    def named(stages: Any) -> bool:
        return isinstance(stages, list) and kind in stages

    return Group("train_stages", named, f"a stage {kind} in train_stages")


GROUPS: dict[str, Group] = {  # by the first word of their names
    "world": Group("data_root", lambda root: root == "world", "data_root world"),
    "base": Group("base_model", lambda model: model is None, "base_model null"),
    "lora": Group("train_parameters", lambda what: what == "adapter", "train_parameters adapter"),
    "full": Group("train_parameters", lambda what: what == "full", "train_parameters full"),
    **{kind: _of_stage(kind) for kind in STAGES},
}


def group_of(name: str) -> Group | None:
    """The group of a parameter; None for one that counts in every study."""
    group = GROUPS.get(name.partition("_")[0])
    return group if group and name != group.decider else None


def counts(name: str, values: dict[str, Any]) -> bool:
    """Whether a parameter counts beside these values.

    Without the value that decides (a notebook need not declare it), every parameter counts.
    """
    group = group_of(name)
    if group is None or group.decider not in values:
        return True
    return group.holds(values[group.decider])


def lacking(names: Iterable[str], given: dict[str, Any]) -> str:
    """Lists the named parameters that count and are not given, and says what needs them.

    Args:
        names: Names of parameters.
        given: Values by name. What depends on a value that is not given is not listed.

    Returns:
        The list, e.g. `seed; dpo_lr, dpo_beta (needed by a stage dpo in train_stages)`; "" if
        nothing is missing.
    """
    by_reason: dict[str, list[str]] = {}
    for name in names:
        group = group_of(name)
        undecided = group is not None and group.decider not in given
        if name in given or undecided or not counts(name, given):
            continue
        reason = f" (needed by {group.words})" if group else ""
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(listed)}{reason}" for reason, listed in by_reason.items())


def values_of(p: Any, names: Iterable[str]) -> dict[str, Any]:
    """The values of those of the named parameters that count in a study.

    Args:
        p: The study's parameters, which have no others.
        names: Names of parameters.
    """
    return {name: getattr(p, name) for name in names if hasattr(p, name)}


def differing(then: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """The parameters that count in both studies, change results and differ, with both values."""
    before = values_of(then, FIELDS)
    both = {name: (before[name], v) for name, v in values_of(now, FIELDS).items() if name in before}
    about: dict[str, Any] = {name: FIELDS[name].json_schema_extra for name in both}
    return {
        name: pair
        for name, pair in both.items()
        if about[name]["affects"] == "results" and pair[0] != pair[1]
    }


def text_sources(p: Any) -> list[str]:
    """The sources of running text that the stages of a study read; cpt reads some."""
    return _sources_of_stages(p, "text")


def preference_sources(p: Any) -> list[str]:
    """The sources of preferences that the stages of a study read; dpo reads some."""
    return _sources_of_stages(p, "pairs")


def _sources_of_stages(p: Any, form: str) -> list[str]:
    """The sources of all stages that read rows of this form, each once."""
    kinds = [kind for kind in p.train_stages if STAGES[kind].reads == form]
    return list(dict.fromkeys(name for kind in kinds for name in getattr(p, f"{kind}_sources")))


def sources_of(p: Any) -> list[str]:
    """All sources that a study's training data come from."""
    return [*p.data_sources, *text_sources(p), *preference_sources(p)]


def own_files(p: Any) -> list[str]:
    """The paths of all files of the user's own that a study names."""
    base = getattr(p, "base_text", [])
    named = [*base, *sources_of(p), *p.data_caps, *p.eval_benchmarks]
    return [name for name in dict.fromkeys(named) if own.is_file(name)]


def trains_all(p: Any) -> bool:
    """Whether the stages of a study train all weights of the model, and no adapter."""
    return getattr(p, "train_parameters", "adapter") == "full"


def trained(p: Any) -> str:
    """The name of the folder that a stage leaves: of its adapter, or of a whole model."""
    return "model" if trains_all(p) else "adapter"


def loss_of(p: Any) -> str:
    """The tokens of an instruction row that carry labels; no stage reads them where sft is none."""
    return p.sft_loss if "sft" in p.train_stages else "response"


def own_models(p: Any) -> list[tuple[str, str]]:
    """The study's own models that 04 scores once all stages are trained.

    Returns:
        Of each its kind, as `eval_own` names it, and its name in tables.
    """
    stages = [f"{number}-{kind}" for number, kind in enumerate(p.train_stages, 1)]
    earlier = stages[:-1]
    for seed in p.train_seeds[1:]:
        earlier += [f"{stage}-seed{seed}" for stage in stages]
    names = {
        "base": ["base"],
        "base-nf4": ["base-nf4"] if p.quant_type != "none" else [],
        "stages": [f"tuned-{name}" for name in earlier],
        "merged": [f"merged-{into}" for into in p.train_merge],
        "tuned": ["tuned"],
    }
    return [(kind, name) for kind, some in names.items() if kind in p.eval_own for name in some]
