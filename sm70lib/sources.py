"""Training sources: what each one is, where it can be had, and how its rows look in every layout it comes in."""

import json
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sm70lib import steps
from sm70lib.params import StudyError
from sm70lib.records import open_bytes, problem, records, shaped

LOCK = steps.ROOT / "params/hub.lock"  # commit of each repository on the hub, written at the first download
PARQUET = ("**/train-*.parquet", "**/train/*.parquet", "*.parquet")  # how the hub lays a training split out


@dataclass(frozen=True, slots=True)
class Row:
    """One training row; a text-only row has neither instruction nor input, only a preference is `rejected`."""

    source: str
    row: int  # from 0 in `file`
    instruction: str
    input: str
    output: str
    file: str
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Defect:
    """A finding about a row or benchmark item: which check, what, and whether it was dropped for it."""

    source: str
    file: str
    row: int
    reason: str
    check: str = "read"
    dropped: bool = True


def _alpaca(record: dict) -> dict | str:
    return problem(record, "instruction", "input", "output") or record


def _question(record: dict) -> dict | str:
    """Question and answer; MedSafetyBench's own tables name them otherwise."""
    names = {"harmful_medical_request": "question", "safe_response": "answer"}
    record = {names.get(name, name.lower()): text for name, text in record.items()}
    return problem(record, "question", "answer") or {
        "instruction": "Answer this question truthfully", "input": " ".join(record["question"].split()),
        "output": record["answer"].strip()}


def _text(record: dict) -> dict | str:
    """Running text; a title stands above it unless the text begins with it."""
    name = next((name for name in ("text", "clean_text", "contents", "article") if name in record), "text")
    if reason := problem(record, name):
        return reason
    title = record.get("title") if name == "clean_text" else ""
    text = f"{title}\n\n{record[name]}" if title and not record[name].startswith(title) else record[name]
    return {"instruction": "", "input": "", "output": text}


def _pair(record: dict) -> dict | str:
    """A prompt with a better and a worse answer, in the five layouts that public sets have."""
    if "preferred_output" in record:
        said = record["input"]["messages"]
        better, worse = record["preferred_output"], record["non_preferred_output"]
    elif "conversations" in record:
        said, better, worse = record["conversations"], [record["chosen"]], [record["rejected"]]
    else:
        said = [{"role": "user", "content": record.get("prompt") or "\n\n".join(
            filter(None, (record.get("instruction"), record.get("input"))))}]
        better, worse = record["chosen"], record["rejected"]
    if record.get("score_chosen") is not None and record["score_chosen"] == record.get("score_rejected"):
        return "a tie: both answers have the same score"
    texts = {"instruction": "", "input": _spoken(said), "rejected": _last(worse), "output": _last(better)}
    if texts["rejected"] == texts["output"]:
        return "a tie: both answers are the same"
    return problem(texts, "rejected") or problem(texts, "input") or problem(texts, "output") or texts


def _last(answer: str | list[dict]) -> str:
    return answer if isinstance(answer, str) else _said(answer[-1])


def _said(message: dict) -> str:
    return message["content"] if "content" in message else message["value"]


def _spoken(messages: list[dict]) -> str:
    """The turns before the answer: one as it is, several with their speakers."""
    speakers = {"human": "user", "gpt": "assistant"}
    turns = [(message.get("role") or message.get("from"), _said(message)) for message in messages]
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{speakers.get(who, who)}: {text}" for who, text in turns)


@dataclass(frozen=True)
class Source:
    """What a source holds, its licence, rows when whole, bytes of its file (None: not known, or made here).

    `hub` is its repository there; the first of `files` that is found counts, so that both the authors' layout
    and the hub's are read. Rows and licences as stated by MedAlpaca (arXiv 2304.08247), hub cards and authors.
    """

    what: str
    licence: str
    rows: int | None
    hub: str | None = None
    files: tuple[str, ...] = ("{name}.json", *PARQUET, "*.json", "*.jsonl")
    shape: Callable[[dict], dict | str] = _alpaca
    folder: str | None = None  # where it lies below data_root, if not under its own name
    bytes: int | None = None


def _meadow(name: str, what: str, licence: str, rows: int, bytes: int | None = None) -> dict[str, Source]:
    name = f"medical_meadow_{name}"
    return {name: Source(what, licence, rows, f"medalpaca/{name}", bytes=bytes)}


def _snorkel(iteration: int, rows: int) -> dict[str, Source]:
    return {f"snorkel_{iteration}": Source(
        f"preferences, iteration {iteration}", "Apache-2.0", rows, "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset",
        (f"**/train_iteration_{iteration}*/*.parquet", f"**/train_iteration_{iteration}*"), _pair, "snorkel")}


SOURCES: dict[str, Source] = {
    **_meadow("medical_flashcards", "flashcards: question, answer", "cc, OpenAI terms", 33_955),
    **_meadow("wikidoc", "textbook: question, paragraph", "cc, OpenAI terms", 10_000),
    **_meadow("wikidoc_patient_information", "patient information", "OpenAI terms", 5_942),
    **_meadow("medqa", "MedQA training questions, five options", "MIT", 10_178),
    **_meadow("mmmlu", "the MMLU test split of 16 subjects (leaks)", "MIT", 3_787, 1_587_742),
    **_meadow("pubmed_causal", "sentence, kind of causal claim", "unspecified", 2_446),
    **_meadow("health_advice", "sentence, strength of advice", "unspecified", 8_676),
    **_meadow("cord19", "abstract, title", "various", 821_007),
    **_meadow("mediqa", "consumer question, passage, summary", "CC0 1.0", 2_208),
    "medquad": Source("questions of US health sites", "CC BY 4.0", 47_441, "lavita/MedQuAD", ("*/*.xml", *PARQUET),
                      _question),
    "med_safety_bench": Source(
        "harmful requests, safe answers", "MIT, research use only", 900, None,
        ("datasets/train-splits-used-for-ft/med_safety/ft_safety_med_n900.json", "datasets/train/*/*.csv"),
        lambda record: _alpaca(record) if "instruction" in record else _question(record)),
    "guidelines": Source("clinical guidelines, running text", "various", 37_970, "epfl-llm/guidelines",
                         ("open_guidelines.jsonl", *PARQUET), _text),
    "pubmed_abstracts": Source("PubMed titles and abstracts", "various", 23_898_701, "MedRAG/pubmed",
                               ("chunk/*.jsonl", *PARQUET), _text),
    "pubmed_papers": Source("PubMed full papers", "various", 119_924, "ccdv/pubmed-summarization",
                            ("document/train*.parquet", *PARQUET), _text),
    "redpajama": Source("general text to replay", "various", None, "togethercomputer/RedPajama-Data-1T-Sample",
                        ("*_sample.jsonl", *PARQUET), _text),
    "ultrafeedback": Source("preferences, general", "MIT", 61_135, "HuggingFaceH4/ultrafeedback_binarized",
                            ("**/train_prefs*.parquet", "**/train_prefs/*.parquet"), _pair),
    **_snorkel(1, 19_766), **_snorkel(2, 19_958), **_snorkel(3, 19_996),
    "preference_pairs": Source("preferences, three public demonstrations", "Apache-2.0, MIT", 1_684, None,
                               ("*/**/*.json*",), _pair),
    "town_questions": Source("fictional towns, the format of tuning", "this project", None),
    "encyclopaedia": Source("fictional medicine, running text", "this project", None, None, ("{name}.jsonl",), _text),
    "gazetteer": Source("fictional towns, running text", "this project", None, None, ("{name}.jsonl",), _text),
}


def root(p) -> Path:
    """The folder of a study's sources and benchmarks (`data_root`); raises StudyError if there is none.

    With `hub` that is outputs/hub, into which `files` downloads what is asked for and is not there yet.
    """
    path = steps.ROOT / Path(p.data_root).expanduser()
    if p.data_root == "world":
        path = steps.outputs() / p.study / "base/world"
    if p.data_root == "hub":
        path = steps.outputs() / "hub"
        path.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        raise StudyError(f"data_root is {p.data_root!r}, but there is no folder {path}; give one that holds "
                         "what README (Data) says, world for what 00_base makes, or hub.")
    return path


def find(root: Path, folder: str, hub: str | None, patterns: tuple[str, ...]) -> list[Path]:
    """The files below `root/folder` that match the first pattern that any does, sorted; [] if there are none.

    Where `root` is outputs/hub they are downloaded first. Raises StudyError if the hub cannot be reached.
    """
    here = Path(root) / folder
    if hub and Path(root) == steps.outputs() / "hub":
        _download(hub, here, patterns)
    found = (sorted(path for path in here.glob(pattern) if path.is_file()) for pattern in patterns)
    return next(filter(None, found), [])


def _download(hub: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """Fetches a repository's data files at the commit in params/hub.lock, or at today's, which is then locked.

    By huggingface_hub, which `datasets` itself downloads with: the latter cannot read every layout here, and
    would hold CORD-19's 1.4 GB of JSON in memory.
    """
    import huggingface_hub
    mark = folder / ".downloaded.json"  # the patterns of which every file is there
    whole = json.loads(mark.read_text()) if mark.exists() else []
    if patterns[0] in whole:
        return
    locked = json.loads(LOCK.read_text()) if LOCK.exists() else {}
    try:
        commit = locked.get(hub) or huggingface_hub.HfApi().dataset_info(hub).sha
        huggingface_hub.snapshot_download(hub, repo_type="dataset", revision=commit, local_dir=folder,
                                          allow_patterns=[pattern.replace("**/", "*") for pattern in patterns])
    except Exception as error:  # the library raises a dozen kinds, among them those of its own transport
        raise StudyError(f"data_root is hub, but {hub} cannot be had from there ({type(error).__name__}: "
                         f"{str(error).splitlines()[0][:150]}); check the network, or give a folder.") from None
    if hub not in locked:
        steps.write_json(LOCK, locked | {hub: commit})
    steps.write_json(mark, [*whole, patterns[0]])


def files(name: str, root: Path) -> list[Path]:
    """The files of a source under `root`, sorted; StudyError if the source is unknown or has none there."""
    if name not in SOURCES:
        raise StudyError(f"data_sources: there is no source {name!r}; choose from {', '.join(SOURCES)}.")
    source, folder = SOURCES[name], SOURCES[name].folder or name
    patterns = tuple(pattern.format(name=name) for pattern in source.files)
    if not (found := find(root, folder, source.hub, patterns)):
        raise StudyError(f"data_sources: no file {patterns[0]} of {name} in {Path(root) / folder}; README (Data) "
                         "says where to get it, or take it out of data_sources.")
    return found


def read(name: str, root: Path, defects: list[Defect] | None = None, limit: int | None = None,
         seed: int = 0) -> Iterator[Row]:
    """Usable rows of a source in file order; the others are appended to `defects`.

    With a `limit` that many are drawn by `seed`, in file order still.
    Without a `defects` list the first unusable row raises StudyError, as an unreadable file always does.
    """
    rows = _rows(name, Path(root), defects)
    if limit is None:
        return rows
    there = sum(1 for _ in _rows(name, Path(root), []))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = set(rng.choice(there, min(limit, there), replace=False).tolist())
    return (row for place, row in enumerate(rows) if place in drawn)


def _rows(name: str, root: Path, defects: list[Defect] | None) -> Iterator[Row]:
    for path in files(name, root):
        file = path.relative_to(root).as_posix()
        for number, record in _documents(path) if path.suffix == ".xml" else records(path):
            found = shaped(SOURCES[name].shape, record)
            if isinstance(found, dict) and SOURCES[name].shape is not _text and not (
                    found["instruction"] + found["input"]):
                found = "empty instruction and input"
            if isinstance(found, dict):
                yield Row(name, number, *(found[field] for field in ("instruction", "input", "output")), file,
                          found.get("rejected", ""))
            elif defects is None:
                raise StudyError(f"{file}, row {number}: {found}; mend or remove the row.")
            else:
                defects.append(Defect(name, file, number, found))


def _documents(path: Path) -> Iterator[tuple[int, dict]]:
    """Questions and answers of one of MedQuAD's documents."""
    with open_bytes(path) as file:
        try:
            pairs = ElementTree.parse(file).getroot().iter("QAPair")
        except (ElementTree.ParseError, ValueError, LookupError) as damage:
            raise StudyError(f"{path} is not readable XML ({damage}); get the file again.") from None
    for number, pair in enumerate(pairs):
        yield number, {name: pair.findtext(name.title()) or "" for name in ("question", "answer")}
