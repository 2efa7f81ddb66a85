"""What a study reads that no program can fetch: files to put in place, owners to ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from sm70lib.benchmarks import BENCHMARKS
from sm70lib.corpus.audit import CAUSAL, REFERENCE
from sm70lib.models import known
from sm70lib.sources import SOURCES, hub_folder
from sm70lib.study.params import StudyError

TEST_LIST = (
    "test_ground_truth.json"  # which 500 of PubMedQA are its test; the hub's copy does not say
)
# Where the files of a folder that is not on the hub can be had (README, Data)
ELSEWHERE = {
    "med_safety_bench": "github:AI4LIFE-GROUP/med-safety-bench",
    "preference_pairs": "github:hiyouga/LLaMA-Factory, rasbt/LLMs-from-scratch and "
    "microsoft-foundry/fine-tuning",
    "medqa_usmle": "the archive that github:jind11/MedQA links",
    "pubmedqa": "github:pubmedqa/pubmedqa, data",
    REFERENCE: "the original annotation, as lines of sentence and label",
    **dict.fromkeys(
        ("practice_questions", "practice_reports", "town_questions", "encyclopaedia", "gazetteer"),
        "data_root world, which makes it",
    ),
}


@dataclass(frozen=True)
class Wanted:
    """Files that a part of a study reads: which part, and a pattern below a folder."""

    reader: str
    folder: str
    pattern: str

    @property
    def place(self) -> Path:
        """Where the files belong."""
        return hub_folder() / self.folder / self.pattern

    def sentence(self) -> str:
        """E.g. `medsafety: put datasets/... of github:... into outputs/hub/med_safety_bench`."""
        here, name = hub_folder() / self.folder, self.pattern
        here = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
        return f"{self.reader}: {here / name} from {ELSEWHERE[self.folder]}"


def wanted(p, steps: list[str]) -> list[Wanted]:
    """What these steps read that the hub does not have, as long as it is not there."""
    if p.data_root != "hub":
        return []
    found, base_text = [], [] if p.base_model or "00_base" not in steps else p.base_text
    if "01_data" in steps:
        found += [one for name in p.eval_benchmarks if (one := _benchmark(name))]
        found += [
            one
            for name in (*p.data_sources, *p.cpt_sources, *p.dpo_sources)
            if (one := _source(name))
        ]
        asked = [name for name in p.eval_benchmarks if BENCHMARKS[name].folder == "pubmedqa"]
        if asked and not _there("pubmedqa", f"**/{TEST_LIST}", "data/ori_pqal.json"):
            found.append(Wanted(asked[0], "pubmedqa", TEST_LIST))
        if (
            p.audit_label == "repair"
            and CAUSAL in p.data_sources
            and not _there(REFERENCE, "*.jsonl", "*.csv")
        ):
            found.append(Wanted("audit_label repair", REFERENCE, "*.jsonl"))
    return list(dict.fromkeys([*(one for name in base_text if (one := _source(name))), *found]))


def require(p, steps: list[str]) -> None:
    """Raises StudyError, one sentence, where these steps need what has to be fetched by hand."""
    if lacking := wanted(p, steps):
        raise StudyError(
            "data_root is hub, which does not have all that this study reads; put in place by "
            "hand, or take "
            f"out: {'; '.join(one.sentence() for one in lacking)} (README, Data)"
        )


def gated(p) -> list[str]:
    """Models of the study whose owners have to be asked for access, and that are not here yet."""
    names = dict.fromkeys([p.base_model, *(line.split()[0] for line in p.eval_models.values())])
    return [
        name
        for name in names
        if name in known.MODELS
        and known.MODELS[name].gated
        and not isinstance(try_to_load_from_cache(name, "config.json"), str)
    ]


def _benchmark(name: str) -> Wanted | None:
    about = BENCHMARKS[name]
    patterns = [pattern.format(split) for split in about.scored for pattern in about.patterns]
    return (
        None
        if about.hub or _there(about.folder, *patterns)
        else Wanted(name, about.folder, patterns[0])
    )


def _source(name: str) -> Wanted | None:
    about = SOURCES[name]
    return (
        None
        if about.hub or _there(about.folder, *about.files)
        else Wanted(name, about.folder, about.files[0])
    )


def _there(folder: str, *patterns: str) -> bool:
    return any(
        path.is_file() for pattern in patterns for path in (hub_folder() / folder).glob(pattern)
    )
