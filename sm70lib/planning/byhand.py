"""What a study reads that no program can fetch: files to put in place, gated models to ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from sm70lib import benchmarks, sources
from sm70lib.parameters import own
from sm70lib.sizes import known
from sm70lib.sources import hub_folder
from sm70lib.sources.causal import CAUSAL, REFERENCE
from sm70lib.study.others import downloads
from sm70lib.study.params import StudyError
from sm70lib.study.used import sources_of

# Names the 500 test questions of PubMedQA, which the hub's copy does not tell apart
TEST_LIST = "test_ground_truth.json"
# Whence REFERENCE comes: rows of sentence and label
ANNOTATION = "github:junwang4/causal-language-use-in-science, data/pubmed_causal_language_use.csv"
UNNAMED = "its publisher"


@dataclass(frozen=True)
class Wanted:
    """Files that a part of a study reads.

    Attributes:
        reader: the benchmark, source or parameter that reads them.
        folder: their folder below the hub folder.
        pattern: a glob below `folder`.
        origin: where to get them.
    """

    reader: str
    folder: str
    pattern: str
    origin: str

    @property
    def place(self) -> Path:
        """Where the files belong, ending in the pattern."""
        return hub_folder() / self.folder / self.pattern

    def sentence(self) -> str:
        """E.g. `medsafety: outputs/hub/med_safety_bench/datasets/... from github:...`."""
        place = self.place
        if place.is_relative_to(Path.cwd()):
            place = place.relative_to(Path.cwd())
        return f"{self.reader}: {place} from {self.origin or UNNAMED}"


def wanted(p, steps: list[str]) -> list[Wanted]:
    """The files that these steps read, that the hub does not have, and that are not in place yet.

    Args:
        p: the study.
        steps: names of notebooks, such as `01_data`.
    """
    if p.data_root != "hub":
        return []
    lacking: list[Wanted | None] = []
    if "00_base" in steps and not p.base_model:
        lacking += [_source(name) for name in p.base_text if not own.is_file(name)]
    if "01_data" in steps:
        named = [name for name in p.eval_benchmarks if not own.is_file(name)]
        lacking += [_benchmark(name) for name in named]
        lacking += [_source(name) for name in sources_of(p) if not own.is_file(name)]
        lacking += [_test_list(p), _reference(p)]
    return list(dict.fromkeys(files for files in lacking if files))


def require(p, steps: list[str]) -> None:
    """Checks that no file which these steps read has to be put in place first.

    Raises:
        StudyError: one has to be; its one sentence names all of them.
    """
    if lacking := wanted(p, steps):
        listed = "; ".join(files.sentence() for files in lacking)
        raise StudyError(
            "data_root is hub, which does not have all that this study reads; put in place by "
            f"hand, or take out: {listed} (params/data.md)"
        )


def gated(p) -> list[str]:
    """The study's models that need their owners' permission and have not been downloaded yet."""
    models = dict.fromkeys(name for name, _ in downloads(p))
    return [name for name in models if _is_gated(name) and not _downloaded(name)]


def _is_gated(model: str) -> bool:
    return model in known.MODELS and known.MODELS[model].gated


def _downloaded(model: str) -> bool:
    return isinstance(try_to_load_from_cache(model, "config.json"), str)


def _benchmark(name: str) -> Wanted | None:
    about = benchmarks.about(name)
    patterns = [pattern.format(split) for split in about.scored for pattern in about.patterns]
    if about.hub or _in_place(about.folder, *patterns):
        return None
    return Wanted(name, about.folder, patterns[0], about.by_hand)


def _source(name: str) -> Wanted | None:
    about = sources.about(name)
    if about.hub or _in_place(about.folder, *about.files):
        return None
    return Wanted(name, about.folder, about.files[0], about.by_hand)


def _test_list(p) -> Wanted | None:
    """The list of PubMedQA's test questions."""
    readers = [name for name in p.eval_benchmarks if benchmarks.about(name).folder == "pubmedqa"]
    if not readers or _in_place("pubmedqa", f"**/{TEST_LIST}", "data/ori_pqal.json"):
        return None
    return Wanted(readers[0], "pubmedqa", TEST_LIST, benchmarks.about(readers[0]).by_hand)


def _reference(p) -> Wanted | None:
    """The original annotation, from which permuted labels are repaired."""
    repairs = p.audit_label == "repair" and CAUSAL in p.data_sources
    if not repairs or _in_place(REFERENCE, "*.jsonl", "*.csv"):
        return None
    return Wanted("audit_label repair", REFERENCE, "*.csv", ANNOTATION)


def _in_place(folder: str, *patterns: str) -> bool:
    """Whether any of these globs matches a file below the hub folder."""
    root = hub_folder() / folder
    return any(path.is_file() for pattern in patterns for path in root.glob(pattern))
