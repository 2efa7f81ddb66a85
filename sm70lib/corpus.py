"""The training set: every source audited and encoded in one pass, source after source, then joined in Arrow files.

A source that is finished is not done again: its part lies below `data/parts` until the whole set is joined. What
is in memory does not grow with the number of rows, but for eight bytes of each row's text and its lengths.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import DatasetInfo, Features, List, Value

from sm70lib import encode, params, prompts, sources, steps
from sm70lib.audit import Audit, Checks, Findings
from sm70lib.benchmarks import Item
from sm70lib.params import StudyError
from sm70lib.provenance import holds, record
from sm70lib.sources import SOURCES, Defect, Row

ARROW = "data-00000-of-00001.arrow"  # the name that datasets gives a single file
BATCH = 1000  # rows that are encoded, and lie in one Arrow batch
FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32")), "source": Value("string")})
LENGTHS = ["tokens", "targets", "cut"]  # of a row: all, those with a label, those of its input that are gone
LIMITS = (512, 1024, 2048, 4096)


def prepare(p, root: Path, items: list[Item], tokenizer, folder: Path) -> tuple[Audit, pd.DataFrame]:
    """Writes `<folder>/train` and `<folder>/holdout` (datasets in Arrow; columns input_ids, labels, source).

    Returns the audit, and one line per usable row: source, tokens, targets, cut. `data_holdout` rows, drawn by
    `seed`, are kept back. The same sources and parameters give the same bytes, also after a kill, which costs
    the source under way. Raises StudyError where a policy or a file says so, or too few rows are left.
    """
    policies = {check: getattr(p, f"audit_{check}") for check in ("duplicate", "personal", "label", "leak")}
    audit, checks = Audit(Counter(item.benchmark for item in items)), Checks(items, policies, root)
    with steps.progress(sum(_expected(p, name) for name in p.data_sources), "row", "sources") as bar:
        for name in p.data_sources:
            part = folder / "parts" / name
            if not _finished(part, name, root):
                _write_part(p, name, root, checks, tokenizer, part, bar)
            audit.found[name] = _read_findings(part)
            checks.seen.update(dict.fromkeys(np.load(part / "seen.npy").tolist()))
    lengths = pd.concat([pd.DataFrame(np.load(folder / f"parts/{name}/lengths.npy"), columns=LENGTHS)
                         .assign(source=name)
                         for name in p.data_sources], ignore_index=True).astype({"source": "category"})
    _join(folder, p.data_sources, _drawn(len(lengths), p.data_holdout, p.seed))
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


def _expected(p, name: str) -> int:
    return min(limit(p, name) or 10**9, SOURCES[name].rows or BATCH)


def _finished(part: Path, name: str, root: Path) -> bool:
    """Whether a part was written whole, from files that are still the same."""
    try:
        made = json.loads((part / "found.json").read_text())["files"]
    except (FileNotFoundError, ValueError):
        return False
    files = {path.relative_to(root).as_posix(): path for path in sources.files(name, root)}
    return made.keys() == files.keys() and all(holds(files[file], made[file]) for file in made)


def _write_part(p, name: str, root: Path, checks: Checks, tokenizer, part: Path, bar) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    found, before, lengths = Findings(), len(checks.seen), []
    files = {path.relative_to(root).as_posix(): record(path) for path in sources.files(name, root)}
    rows = sources.read(name, root, found.defects, limit(p, name), p.seed)
    with _writer(part / "rows.arrow") as file:
        for batch, sizes in _encoded(checks.screen(_counted(rows, bar), found), p, tokenizer, found):
            file.write_batch(batch)
            lengths.append(sizes)
    np.save(part / "lengths.npy", np.concatenate([np.zeros((0, 3), np.int32), *lengths]))
    np.save(part / "seen.npy", np.fromiter(islice(checks.seen, before, None), np.uint64))
    steps.write_json(part / "found.json", {
        "files": files, "rows": found.rows, "hits": found.hits, "labels": found.labels.tolist(),
        "defects": [asdict(defect) for defect in found.defects], "examples": found.examples})


def _counted(rows: Iterable[Row], bar) -> Iterator[Row]:
    for row in rows:
        bar.update()
        yield row


def _read_findings(part: Path) -> Findings:
    saved = json.loads((part / "found.json").read_text())
    return Findings(saved["rows"], [Defect(**defect) for defect in saved["defects"]], saved["hits"],
                    np.array(saved["labels"]), [tuple(example) for example in saved["examples"]])


def _encoded(rows: Iterable[Row], p, tokenizer, found: Findings) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Arrow batches and the lengths of their rows; rows that cannot be used become defects."""
    rows, template = iter(rows), p.data_template
    while batch := list(islice(rows, BATCH)):
        texts = [(prompts.render(template, row.instruction, row.input),
                  prompts.response(template, row.output) if row.instruction or row.input else row.output,
                  prompts.span(template, row.instruction, row.input)) for row in batch]
        encoded = encode.encode_batch(texts, tokenizer, p.data_max_length, p.data_overlong, p.sft_loss)
        for row, reason in zip(batch, encoded):
            if isinstance(reason, str):
                found.note(row, reason, "length", True)
        good = [one for one in encoded if not isinstance(one, str)]
        sizes = np.array([(len(one.input_ids), one.targets, one.cut) for one in good], np.int32).reshape(-1, 3)
        columns = [_lists([one.input_ids for one in good]), _lists([one.labels for one in good]),
                   pa.array([batch[0].source] * len(good), pa.string())]
        yield pa.record_batch(columns, schema=FEATURES.arrow_schema), sizes


def _lists(rows: list[list[int]]) -> pa.ListArray:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.fromiter(chain.from_iterable(rows), np.int32, offsets[-1]))


def _writer(path: Path) -> pa.ipc.RecordBatchStreamWriter:
    return pa.ipc.new_stream(path.as_posix(), FEATURES.arrow_schema)


def _drawn(rows: int, holdout: int, seed: int) -> np.ndarray:
    """Places of the rows kept back; StudyError if there are not more rows than that."""
    if not rows:
        raise StudyError("data_sources: not one row is left that can be trained on; see the audit's table.")
    if rows <= holdout:
        raise StudyError(f"data_holdout: {holdout} rows cannot be kept back of {rows} usable; lower it.")
    return np.sort(np.random.default_rng(seed).choice(rows, holdout, replace=False))


def _join(folder: Path, names: list[str], back: np.ndarray) -> None:
    """Copies the parts' batches to their places: read, not mapped, as 3 GB of mapped pages would count as memory."""
    targets = [folder / "train", folder / "holdout"]
    for target in targets:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
    first = 0
    with _writer(targets[0] / ARROW) as train, _writer(targets[1] / ARROW) as holdout:
        for name in names:
            with pa.OSFile(str(folder / f"parts/{name}/rows.arrow")) as file, pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    kept = np.isin(np.arange(first, first + len(batch)), back, invert=True)
                    first += len(batch)
                    train.write_batch(batch.filter(pa.array(kept)))
                    if not kept.all():
                        holdout.write_batch(batch.filter(pa.array(~kept)))
    for target in targets:  # what datasets.load_from_disk looks for
        DatasetInfo(features=FEATURES).write_to_directory(target)
        steps.write_json(target / "state.json", {
            "_data_files": [{"filename": ARROW}], "_fingerprint": target.name, "_format_columns": None,
            "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None})


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
        "Research only: not a medical device, not for clinical use. Medical text from public sources, tokenised; each",
        "source keeps its own licence.", "", f"- sha256 of `train`: `{digest}`",
        f"- template {p.data_template}, at most {p.data_max_length} tokens a row, loss on {p.sft_loss}", "",
        "## Sources", "", licences.to_markdown(), "", "## Rows: read, dropped by each check, kept", "",
        funnel.to_markdown(), "", "## Benchmark items that stand in a source", "",
        leaks.to_markdown(index=False) if len(leaks) else "None was found.", ""])
