"""Training sources (sources.csv): where each can be had, and how its rows look in every layout it comes in."""

import csv
import json
import os
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from sm70lib.sources.records import open_bytes, problem, records, shaped
from sm70lib.study import steps
from sm70lib.study.params import StudyError

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


def _row(record: dict) -> dict | str:
    """Instruction, input and output; or question and answer, which MedSafetyBench's own tables name otherwise."""
    names = {"harmful_medical_request": "question", "safe_response": "answer"}
    asked = {names.get(name, name.lower()): text for name, text in record.items()}
    if "question" not in asked:
        return problem(record, "instruction", "input", "output") or record
    return problem(asked, "question") or problem(asked, "answer") or {
        "instruction": "Answer this question truthfully", "input": " ".join(asked["question"].split()),
        "output": asked["answer"].strip()}


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
    """A line of sources.csv: what a source holds, its licence, rows when whole, bytes of its file (None: not known).

    `hub` is its repository there ("": none), `folder` where it lies below data_root; the first of `files` that is
    found counts, so that the authors' layout and the hub's are both read. Rows and licences as stated by MedAlpaca
    (arXiv 2304.08247), by hub cards and by the authors.
    """

    name: str
    what: str
    licence: str
    rows: int | None
    bytes: int | None
    hub: str
    folder: str
    shape: Callable[[dict], dict | str]
    files: tuple[str, ...]


def _sources() -> dict[str, Source]:
    shapes = {"row": _row, "text": _text, "pair": _pair}
    with open(Path(__file__).with_name("sources.csv"), encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        patterns = line["files"].split() or ["{name}.json", "PARQUET", "*.json", "*.jsonl"]
        files = chain.from_iterable(PARQUET if pattern == "PARQUET" else [pattern] for pattern in patterns)
        line |= {"shape": shapes[line["shape"]], "files": tuple(file.replace("{name}", line["name"]) for file in files),
                 **{name: int(line[name]) if line[name] else None for name in ("rows", "bytes")}}
    return {line["name"]: Source(**line) for line in lines}


SOURCES = _sources()


def hub_folder() -> Path:
    """Where downloads go, shared by all studies: $SM70_HUB, or hub/ among the outputs.

    `hub.lock` in it names the commit of each repository, written at the first download. A copy of it may be
    committed as params/hub.lock: what stands there is downloaded at that commit.
    """
    return Path(os.environ.get("SM70_HUB", steps.outputs() / "hub")).resolve()


def root(p) -> Path:
    """The folder of a study's sources and benchmarks (`data_root`); raises StudyError if there is none.

    With `hub` that is `hub_folder`, into which `files` downloads what is asked for and is not there yet.
    """
    path = steps.ROOT / Path(p.data_root).expanduser()
    if p.data_root == "world":
        path = steps.outputs() / p.study / "base/world"
    if p.data_root == "hub":
        path = hub_folder()
        path.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        raise StudyError(f"data_root is {p.data_root!r}, but there is no folder {path}; give one that holds "
                         "what README (Data) says, world for what 00_base makes, or hub.")
    return path


def find(root: Path, folder: str, hub: str | None, patterns: tuple[str, ...]) -> list[Path]:
    """The files below `root/folder` that match the first pattern that any does, sorted; [] if there are none.

    Where `root` is `hub_folder` they are downloaded first. Raises StudyError if the hub cannot be reached.
    """
    here = Path(root) / folder
    if hub and Path(root) == hub_folder():
        _download(hub, here, patterns)
    found = (sorted(path for path in here.glob(pattern) if path.is_file()) for pattern in patterns)
    return next(filter(None, found), [])


def _download(hub: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """Fetches a repository's data files at the commit in hub.lock, or at today's, which is then locked.

    By huggingface_hub, which `datasets` itself downloads with: the latter cannot read every layout here, and
    would hold CORD-19's 1.4 GB of JSON in memory.
    """
    import huggingface_hub
    mark = folder / ".downloaded.json"  # the patterns of which every file is there
    whole = json.loads(mark.read_text()) if mark.exists() else []
    if patterns[0] in whole:
        return
    lock, committed = hub_folder() / "hub.lock", steps.ROOT / "params/hub.lock"
    locked = {}
    for path in (lock, committed):
        locked |= json.loads(path.read_text()) if path.exists() else {}
    try:
        commit = locked.get(hub) or huggingface_hub.HfApi().dataset_info(hub).sha
        huggingface_hub.snapshot_download(hub, repo_type="dataset", revision=commit, local_dir=folder,
                                          allow_patterns=[pattern.replace("**/", "*") for pattern in patterns])
    except Exception as error:  # the library raises a dozen kinds, among them those of its own transport
        raise StudyError(f"data_root is hub, but {hub} cannot be had from there ({type(error).__name__}: "
                         f"{str(error).splitlines()[0][:150]}); check the network, or give a folder.") from None
    if hub not in locked:
        steps.write_json(lock, locked | {hub: commit})
    steps.write_json(mark, [*whole, patterns[0]])


def files(name: str, root: Path) -> list[Path]:
    """The files of a source under `root`, sorted; StudyError if the source is unknown or has none there."""
    if name not in SOURCES:
        raise StudyError(f"data_sources: there is no source {name!r}; choose from {', '.join(SOURCES)}.")
    source = SOURCES[name]
    if not (found := find(root, source.folder, source.hub, source.files)):
        raise StudyError(f"data_sources: no file {source.files[0]} of {name} in {Path(root) / source.folder}; README "
                         "(Data) says where to get it, or take it out of data_sources.")
    return found


def read(name: str, root: Path, defects: list[Defect] | None = None, limit: int | None = None,
         seed: int = 0) -> Iterator[Row]:
    """Usable rows of a source in file order; the others are appended to `defects`.

    With a `limit` that many are drawn by `seed`, in file order still.
    Without a `defects` list the first unusable row raises StudyError, as an unreadable file and a source
    without a usable row always do.
    """
    rows = _rows(name, Path(root), defects)
    if limit is None:
        return rows
    there = sum(1 for _ in _rows(name, Path(root), []))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = set(rng.choice(there, min(limit, there), replace=False).tolist())
    return (row for place, row in enumerate(rows) if place in drawn)


def _rows(name: str, root: Path, defects: list[Defect] | None) -> Iterator[Row]:
    usable, left_out = 0, Counter()
    for path in files(name, root):
        file = path.relative_to(root).as_posix()
        for number, record in _documents(path) if path.suffix == ".xml" else records(path):
            found = shaped(SOURCES[name].shape, record)
            if isinstance(found, dict) and SOURCES[name].shape is not _text and not (
                    found["instruction"] + found["input"]):
                found = "empty instruction and input"
            if isinstance(found, dict):
                usable += 1
                yield Row(name, number, *(found[field] for field in ("instruction", "input", "output")), file,
                          found.get("rejected", ""))
            elif defects is None:
                raise StudyError(f"{file}, row {number}: {found}; mend or remove the row.")
            else:
                defects.append(Defect(name, file, number, found))
                left_out[found] += 1
    if not usable:
        why = ", ".join(f"{reason} ({count})" for reason, count in left_out.most_common(2))
        raise StudyError(f"{path}: no row of {name} can be used: {why or 'it has none'}; get the file "
                         f"again, or take {name} out of the study.")


def _documents(path: Path) -> Iterator[tuple[int, dict]]:
    """Questions and answers of one of MedQuAD's documents."""
    with open_bytes(path) as file:
        try:
            pairs = ElementTree.parse(file).getroot().iter("QAPair")
        except (ElementTree.ParseError, ValueError, LookupError) as damage:
            raise StudyError(f"{path} is not readable XML ({damage}); get the file again.") from None
    for number, pair in enumerate(pairs):
        yield number, {name: pair.findtext(name.title()) for name in ("question", "answer")}
