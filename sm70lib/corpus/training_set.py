"""The training set: every source audited and encoded in one pass, source after source, then joined in Arrow files.

A source that is finished is not done again: its part lies below `data/parts` until the whole set is joined. What
is in memory does not grow with the number of rows, but for eight bytes of each row's text and its lengths.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import DatasetInfo, Features

from sm70lib import sources
from sm70lib.benchmarks import Item, items_digest
from sm70lib.corpus.audit import Audit, Checks, Findings
from sm70lib.corpus.examples import KINDS, LENGTHS, encoded
from sm70lib.sources import SOURCES, Defect, Row
from sm70lib.study import params, steps
from sm70lib.study.files import holds, record
from sm70lib.study.params import StudyError

ARROW = "data-00000-of-00001.arrow"  # the name that datasets gives a single file
LIMITS = (512, 1024, 2048, 4096)


def prepare(
    p, root: Path, items: list[Item], tokenizer, folder: Path
) -> tuple[Audit, pd.DataFrame]:
    """Writes `<folder>/train` and `<folder>/holdout` (datasets in Arrow; columns input_ids, labels, source).

    `data_holdout` rows, drawn by `seed`, are kept back. Where there are `cpt_sources`, `text` has their documents, cut
    into pieces; where there are `dpo_sources`, `preferences` has prompt_ids, chosen_ids, rejected_ids. Returns the
    audit of all, and one line per row to tune on: source, tokens, targets, cut. The same sources and parameters give
    the same bytes, also after a kill, which costs the source under way. Raises StudyError where a policy or a file
    says so, or too few rows are left.
    """
    policies = {
        check: getattr(p, f"audit_{check}") for check in ("duplicate", "personal", "label", "leak")
    }
    questions = items_digest(items)
    audit, checks = Audit(Counter(item.benchmark for item in items)), Checks(items, policies, root)
    wanted = {"train": p.data_sources, "text": p.cpt_sources, "preferences": p.dpo_sources}
    size = sum(
        path.stat().st_size
        for names in wanted.values()
        for name in names
        for path in sources.files(name, root)
    )
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
    tables = [
        pd.DataFrame(np.load(folder / f"parts/train-{name}/lengths.npy"), columns=LENGTHS).assign(
            source=name
        )
        for name in p.data_sources
    ]
    lengths = pd.concat(tables, ignore_index=True).astype({"source": "category"})
    _join(
        folder,
        "train",
        p.data_sources,
        ["train", "holdout"],
        _drawn(len(lengths), p.data_holdout, p.seed),
    )
    return audit, lengths[["source", *LENGTHS]]


def limit(p, name: str) -> int | None:
    """Rows that a study draws of a source: its own entry in `data_caps`, else `data_limit`."""
    return p.data_caps.get(name, p.data_limit)


def holdings(study: Path) -> pd.DataFrame:
    """Rows that a study and its overlays (`overlays/<study>-*.yml`) draw of each source, if the sets are whole."""
    overlays = sorted(study.parent.glob(f"overlays/{study.stem}-*.yml"))
    studies = [params.load(study), *(params.load(study, overlay) for overlay in overlays)]
    return (
        pd.DataFrame(
            {
                p.study: {
                    name: min(limit(p, name) or 10**9, SOURCES[name].rows or 0)
                    for name in p.data_sources
                }
                for p in studies
            }
        )
        .T.fillna(0)
        .astype(int)
    )


def _finished(part: Path, name: str, root: Path, questions: str) -> bool:
    """Whether a part was written whole, from files that are still the same and against the same questions."""
    try:
        found = json.loads((part / "found.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    made = found["files"] if found["questions"] == questions else {}
    files = {path.relative_to(root).as_posix(): path for path in sources.files(name, root)}
    return made.keys() == files.keys() and all(holds(files[file], made[file]) for file in made)


def _write_part(
    p, name: str, kind: str, root: Path, checks: Checks, tokenizer, part: Path, bar, questions: str
) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    found, before, lengths = Findings(), len(checks.seen), []
    files = {path.relative_to(root).as_posix(): record(path) for path in sources.files(name, root)}
    rows = sources.read(name, root, found.defects, limit(p, name), p.seed)
    features, encoder = KINDS[kind]
    with _writer(part / "rows.arrow", features) as file:
        kept = checks.screen(_counted(rows, bar), found)
        for batch, sizes in encoded(
            kept, partial(encoder, p=p, tokenizer=tokenizer), features, found
        ):
            file.write_batch(batch)
            lengths.append(sizes)
    np.save(part / "lengths.npy", np.concatenate([np.zeros((0, 3), np.int32), *lengths]))
    np.save(part / "seen.npy", np.fromiter(islice(checks.seen, before, None), np.uint64))
    steps.write_json(
        part / "found.json",
        {
            "files": files,
            "questions": questions,
            "rows": found.rows,
            "hits": found.hits,
            "labels": found.labels.tolist(),
            "defects": [asdict(defect) for defect in found.defects],
            "examples": found.examples,
        },
    )


def _counted(rows: Iterable[Row], bar) -> Iterator[Row]:
    """The rows, whose characters move the bar: nearly the bytes of their file, where it is not compressed."""
    for row in rows:
        bar.update(sum(map(len, (row.instruction, row.input, row.output, row.rejected))))
        yield row


def _read_findings(part: Path) -> Findings:
    saved = json.loads((part / "found.json").read_text())
    return Findings(
        saved["rows"],
        [Defect(**defect) for defect in saved["defects"]],
        saved["hits"],
        np.array(saved["labels"]),
        [tuple(example) for example in saved["examples"]],
    )


def _writer(path: Path, features: Features) -> pa.ipc.RecordBatchStreamWriter:
    return pa.ipc.new_stream(path.as_posix(), features.arrow_schema)


def _drawn(rows: int, holdout: int, seed: int) -> np.ndarray:
    """Places of the rows kept back; StudyError if there are not more rows than that."""
    if not rows:
        raise StudyError(
            "data_sources: not one row is left that can be trained on; see the audit's table."
        )
    if rows <= holdout:
        raise StudyError(
            f"data_holdout: {holdout} rows cannot be kept back of {rows} usable; lower it."
        )
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
        steps.write_json(
            folder / target / "state.json",
            {
                "_data_files": [{"filename": ARROW}],
                "_fingerprint": target,
                "_format_columns": None,
                "_format_kwargs": {},
                "_format_type": None,
                "_output_all_columns": False,
                "_split": None,
            },
        )
    with ExitStack() as stack:
        files = [
            stack.enter_context(_writer(folder / target / ARROW, features)) for target in targets
        ]
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
    licences = pd.DataFrame(
        {
            name: {"what": SOURCES[name].what, "licence": SOURCES[name].licence}
            for name in p.data_sources
        }
    ).T.rename_axis("source")
    return "\n".join(
        [
            "---",
            "license: other",
            "language: en",
            "task_categories: [question-answering, text-generation]",
            f"pretty_name: Training set of study {p.study}",
            "---",
            "",
            f"# Training set of study {p.study}",
            "",
            *filter(None, [params.rehearsal(p.study)]),
            "Research only: not a medical device, not for clinical use. Medical text from public sources, tokenised; each",
            "source keeps its own licence.",
            "",
            f"- sha256 of `train`: `{digest}`",
            f"- template {p.data_template}, at most {p.data_max_length} tokens a row, loss on {p.sft_loss}",
            "",
            "## Sources",
            "",
            licences.to_markdown(),
            "",
            "## Rows: read, dropped by each check, kept",
            "",
            funnel.to_markdown(),
            "",
            "## Benchmark items that stand in a source",
            "",
            leaks.to_markdown(index=False) if len(leaks) else "None was found.",
            "",
        ]
    )
