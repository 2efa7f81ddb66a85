"""The training set: every source audited and encoded in one pass, source after source, then joined in Arrow files.

A source that is finished is not done again: its part lies below `data/parts` until the whole set is joined. What
is in memory does not grow with the number of rows, but for eight bytes of each row's text and its lengths.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import DatasetInfo, Features, List, Value

from sm70lib import sources
from sm70lib.benchmarks import Item, items_digest
from sm70lib.corpus import prompts
from sm70lib.corpus.audit import Audit, Checks, Findings
from sm70lib.corpus.prompts import Encoded
from sm70lib.sources import SOURCES, Defect, Row
from sm70lib.study import params, steps
from sm70lib.study.params import StudyError
from sm70lib.study.provenance import holds, record

ARROW = "data-00000-of-00001.arrow"  # the name that datasets gives a single file
BATCH = 1000  # rows that are encoded, and lie in one Arrow batch
IDS = List(Value("int32"))
FEATURES = Features({"input_ids": IDS, "labels": IDS, "source": Value("string")})
PAIRS = Features({"prompt_ids": IDS, "chosen_ids": IDS, "rejected_ids": IDS, "source": Value("string")})
LENGTHS = ["tokens", "targets", "cut"]  # of a row: all, those with a label, those of its input that are gone
LIMITS = (512, 1024, 2048, 4096)


def prepare(p, root: Path, items: list[Item], tokenizer, folder: Path) -> tuple[Audit, pd.DataFrame]:
    """Writes `<folder>/train` and `<folder>/holdout` (datasets in Arrow; columns input_ids, labels, source).

    `data_holdout` rows, drawn by `seed`, are kept back. Where there are `cpt_sources`, `text` has their documents, cut
    into pieces; where there are `dpo_sources`, `preferences` has prompt_ids, chosen_ids, rejected_ids. Returns the
    audit of all, and one line per row to tune on: source, tokens, targets, cut. The same sources and parameters give
    the same bytes, also after a kill, which costs the source under way. Raises StudyError where a policy or a file
    says so, or too few rows are left.
    """
    policies = {check: getattr(p, f"audit_{check}") for check in ("duplicate", "personal", "label", "leak")}
    questions = items_digest(items)
    audit, checks = Audit(Counter(item.benchmark for item in items)), Checks(items, policies, root)
    wanted = {"train": p.data_sources, "text": p.cpt_sources, "preferences": p.dpo_sources}
    size = sum(path.stat().st_size for names in wanted.values() for name in names for path in sources.files(name, root))
    with steps.progress(size, "byte", "sources") as bar:
        for kind, names in wanted.items():
            checks.seen.clear()  # a text may be read in one stage and asked about in the next
            for name in names:
                part = folder / "parts" / f"{kind}-{name}"
                if not _finished(part, name, root, questions):
                    _write_part(p, name, kind, root, checks, tokenizer, part, bar, questions)
                audit.found[name if kind == "train" else f"{name} ({kind})"] = _read_findings(part)
                checks.seen.update(dict.fromkeys(np.load(part / "seen.npy").tolist()))
            if kind != "train" and names:
                _join(folder, kind, names, [kind], np.zeros(0, int))
    tables = [pd.DataFrame(np.load(folder / f"parts/train-{name}/lengths.npy"), columns=LENGTHS).assign(source=name)
              for name in p.data_sources]
    lengths = pd.concat(tables, ignore_index=True).astype({"source": "category"})
    _join(folder, "train", p.data_sources, ["train", "holdout"], _drawn(len(lengths), p.data_holdout, p.seed))
    return audit, lengths[["source", *LENGTHS]]


def limit(p, name: str) -> int | None:
    """Rows that a study draws of a source: its own entry in `data_caps`, else `data_limit`."""
    return p.data_caps.get(name, p.data_limit)


def holdings(study: Path) -> pd.DataFrame:
    """Rows that a study and its overlays (`overlays/<study>-*.yml`) draw of each source, if the sets are whole."""
    overlays = sorted(study.parent.glob(f"overlays/{study.stem}-*.yml"))
    studies = [params.load(study), *(params.load(study, overlay) for overlay in overlays)]
    return pd.DataFrame({p.study: {name: min(limit(p, name) or 10**9, SOURCES[name].rows or 0)
                                   for name in p.data_sources} for p in studies}).T.fillna(0).astype(int)


def _finished(part: Path, name: str, root: Path, questions: str) -> bool:
    """Whether a part was written whole, from files that are still the same and against the same questions."""
    try:
        found = json.loads((part / "found.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    made = found["files"] if found["questions"] == questions else {}
    files = {path.relative_to(root).as_posix(): path for path in sources.files(name, root)}
    return made.keys() == files.keys() and all(holds(files[file], made[file]) for file in made)


def _write_part(p, name: str, kind: str, root: Path, checks: Checks, tokenizer, part: Path, bar,
                questions: str) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    found, before, lengths = Findings(), len(checks.seen), []
    files = {path.relative_to(root).as_posix(): record(path) for path in sources.files(name, root)}
    rows = sources.read(name, root, found.defects, limit(p, name), p.seed)
    features, encoder = KINDS[kind]
    with _writer(part / "rows.arrow", features) as file:
        kept = checks.screen(_counted(rows, bar), found)
        for batch, sizes in _encoded(kept, partial(encoder, p=p, tokenizer=tokenizer), features, found):
            file.write_batch(batch)
            lengths.append(sizes)
    np.save(part / "lengths.npy", np.concatenate([np.zeros((0, 3), np.int32), *lengths]))
    np.save(part / "seen.npy", np.fromiter(islice(checks.seen, before, None), np.uint64))
    steps.write_json(part / "found.json", {
        "files": files, "questions": questions, "rows": found.rows, "hits": found.hits, "labels": found.labels.tolist(),
        "defects": [asdict(defect) for defect in found.defects], "examples": found.examples})


def _counted(rows: Iterable[Row], bar) -> Iterator[Row]:
    """The rows, whose characters move the bar: nearly the bytes of their file, where it is not compressed."""
    for row in rows:
        bar.update(sum(map(len, (row.instruction, row.input, row.output, row.rejected))))
        yield row


def _read_findings(part: Path) -> Findings:
    saved = json.loads((part / "found.json").read_text())
    return Findings(saved["rows"], [Defect(**defect) for defect in saved["defects"]], saved["hits"],
                    np.array(saved["labels"]), [tuple(example) for example in saved["examples"]])


def _encoded(rows: Iterable[Row], encoder: Callable, features: Features,
             found: Findings) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Arrow batches and the lengths of their rows; rows that cannot be used become defects.

    While a thread encodes one batch (the tokenizer lets go of Python's lock), the next one is read and audited.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: list[tuple[list[Row], Future]] = []
        for batch in chain(_chunks(rows), [None]):
            coming = [(batch, pool.submit(encoder, batch))] if batch else []
            for done, made in waiting:
                yield _batch(done, made.result(), features, found)
            waiting = coming


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _batch(rows: list[Row], made: list, features: Features, found: Findings) -> tuple[pa.RecordBatch, np.ndarray]:
    good = []
    for row, one in zip(rows, made):
        if isinstance(one, str):
            found.note(row, one, "length", True)
        else:
            good += one
    sizes = np.array([(len(one.input_ids), one.targets, one.cut) for one in good], np.int32).reshape(-1, 3)
    columns = [_lists([getattr(one, name) for one in good]) for name in features if name != "source"]
    columns.append(pa.array([rows[0].source] * len(good), pa.string()))
    return pa.record_batch(columns, schema=features.arrow_schema), sizes


def _examples(batch: list[Row], p, tokenizer) -> list[list[Encoded] | str]:
    """Instruction rows: prompt and response."""
    texts = [(prompts.render(p.data_template, row.instruction, row.input),
              prompts.response(p.data_template, row.output) if row.instruction or row.input else row.output,
              prompts.span(p.data_template, row.instruction, row.input)) for row in batch]
    found = prompts.encode_batch(texts, tokenizer, p.data_max_length, p.data_overlong, p.sft_loss)
    return [one if isinstance(one, str) else [one] for one in found]


def _documents(batch: list[Row], p, tokenizer) -> list[list[Encoded] | str]:
    """Running text, cut into pieces of `data_max_length`: nothing of a long document is lost."""
    texts = [(prompts.render(p.data_template, row.instruction, row.input) + row.output, (0, 0)) for row in batch]
    whole = prompts.encode_batch([("", *text) for text in texts], tokenizer, 10**9, "drop", "all")
    return [one if isinstance(one, str) else prompts.pieces(one, p.data_max_length) for one in whole]


def _preferences(batch: list[Row], p, tokenizer) -> list[list[Encoded] | str]:
    """Pairs: one prompt with the better and the worse answer; a pair that is too long is left out whole."""
    texts = [(prompts.render(p.data_template, row.instruction, row.input),
              prompts.response(p.data_template, answer), (0, 0))
             for row in batch for answer in (row.output, row.rejected)]
    found = prompts.encode_batch(texts, tokenizer, p.data_max_length, "drop", "response")
    return [next((one for one in pair if isinstance(one, str)), None) or [_pair(*pair)]
            for pair in zip(found[::2], found[1::2])]


def _pair(better: Encoded, worse: Encoded) -> SimpleNamespace:
    seam = len(better.input_ids) - better.targets
    return SimpleNamespace(**vars(better), targets=better.targets, prompt_ids=better.input_ids[:seam],
                           chosen_ids=better.input_ids[seam:], rejected_ids=worse.input_ids[seam:])


KINDS = {"train": (FEATURES, _examples), "text": (FEATURES, _documents), "preferences": (PAIRS, _preferences)}


def _lists(rows: list[list[int]]) -> pa.ListArray:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.fromiter(chain.from_iterable(rows), np.int32, offsets[-1]))


def _writer(path: Path, features: Features) -> pa.ipc.RecordBatchStreamWriter:
    return pa.ipc.new_stream(path.as_posix(), features.arrow_schema)


def _drawn(rows: int, holdout: int, seed: int) -> np.ndarray:
    """Places of the rows kept back; StudyError if there are not more rows than that."""
    if not rows:
        raise StudyError("data_sources: not one row is left that can be trained on; see the audit's table.")
    if rows <= holdout:
        raise StudyError(f"data_holdout: {holdout} rows cannot be kept back of {rows} usable; lower it.")
    return np.sort(np.random.default_rng(seed).choice(rows, holdout, replace=False))


def _join(folder: Path, kind: str, names: list[str], targets: list[str], back: np.ndarray) -> None:
    """Copies the parts' batches to the first target, rows at the places `back` to the second.

    They are read and not mapped, as 3 GB of mapped pages would count as memory.
    """
    features, first = KINDS[kind][0], 0
    for target in targets:  # what datasets.load_from_disk looks for
        shutil.rmtree(folder / target, ignore_errors=True)
        (folder / target).mkdir(parents=True)
        DatasetInfo(features=features).write_to_directory(folder / target)
        steps.write_json(folder / target / "state.json", {
            "_data_files": [{"filename": ARROW}], "_fingerprint": target, "_format_columns": None,
            "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None})
    with ExitStack() as stack:
        files = [stack.enter_context(_writer(folder / target / ARROW, features)) for target in targets]
        for name in names:
            part = stack.enter_context(pa.OSFile(str(folder / f"parts/{kind}-{name}/rows.arrow")))
            for batch in pa.ipc.open_stream(part):
                kept = np.isin(np.arange(first, first + len(batch)), back, invert=True)
                first += len(batch)
                files[0].write_batch(batch.filter(pa.array(kept)))
                if not kept.all():
                    files[1].write_batch(batch.filter(pa.array(~kept)))


def fits(lengths: pd.DataFrame) -> pd.DataFrame:
    """By source: share of rows that are whole within 512 to 4,096 tokens, before any cut (percent)."""
    whole = lengths["tokens"] + lengths["cut"]
    table = pd.DataFrame({f"{size:,}": 100 * (whole <= size) for size in LIMITS})
    return table.groupby(lengths["source"], observed=True, sort=False).mean().round(1)


def card(p, funnel: pd.DataFrame, contamination: pd.DataFrame, digest: str) -> str:
    """The data card, in the hub's format: what is in the set, from where, what was dropped and what leaks."""
    leaks = contamination[contamination["any"] > 0]
    licences = pd.DataFrame({name: {"what": SOURCES[name].what, "licence": SOURCES[name].licence}
                             for name in p.data_sources}).T.rename_axis("source")
    return "\n".join([
        "---", "license: other", "language: en", "task_categories: [question-answering, text-generation]",
        f"pretty_name: Training set of study {p.study}", "---", "", f"# Training set of study {p.study}", "",
        *filter(None, [params.rehearsal(p.study)]),
        "Research only: not a medical device, not for clinical use. Medical text from public sources, tokenised; each",
        "source keeps its own licence.", "", f"- sha256 of `train`: `{digest}`",
        f"- template {p.data_template}, at most {p.data_max_length} tokens a row, loss on {p.sft_loss}", "",
        "## Sources", "", licences.to_markdown(), "", "## Rows: read, dropped by each check, kept", "",
        funnel.to_markdown(), "", "## Benchmark items that stand in a source", "",
        leaks.to_markdown(index=False) if len(leaks) else "None was found.", ""])
