"""The training set: every source is audited and encoded in one pass, then all are joined.

A source becomes a part below `data/parts`, or shards if it is running text. What is finished is not
done again. Memory grows by the lengths of each row and eight bytes of its text.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import benchmarks, sources
from sm70lib.benchmarks import Item, items_digest
from sm70lib.corpus import parts
from sm70lib.corpus.audit import Audit, Checks
from sm70lib.corpus.examples import LENGTHS
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.selection import HELD, limit
from sm70lib.parameters import declared, own
from sm70lib.preparing import joining, shards
from sm70lib.sources.causal import REFERENCE
from sm70lib.steps import steps
from sm70lib.study import params, used
from sm70lib.study.params import StudyError
from sm70lib.study.used import preference_sources, text_sources

LIMITS = (512, 1024, 2048, 4096)  # tokens
TARGETS = ["train", "holdout"]  # the datasets of instruction rows


def prepare(
    p, root: Path, items: list[Item], tokenizer, folder: Path
) -> tuple[Audit, pd.DataFrame]:
    """Writes the datasets of a study below `folder`, in Arrow files.

    `train` and `holdout` have the columns input_ids, labels and source; `holdout` has
    `data_holdout` rows, drawn by `seed`, and then those of `data_holdout_documents`, whose places
    `holdout.csv` names. With a stage cpt, `text` has the documents of `cpt_sources`, cut into
    pieces, in the columns input_ids and source. With a stage dpo, `preferences` has the pairs of
    `dpo_sources`, in the columns prompt_ids, chosen_ids, rejected_ids and source.

    The same sources and parameters give the same bytes. A kill costs only what was under way.

    Args:
        p: the parameters of the study.
        root: the data folder of the study.
        items: the benchmark items that the audit compares rows with.
        tokenizer: the tokenizer of the base.
        folder: where the datasets and their parts go.

    Returns:
        The audit of all sources, and one line per row to tune on: source, tokens, targets, cut.

    Raises:
        StudyError: an audit policy is fail and a row has such a finding, a source cannot be read,
            or no more than `data_holdout` rows are left.
    """
    questions = items_digest(items)
    audit = Audit(Counter(item.benchmark for item in items))
    checks = Checks(items, shards.policies(p), root)
    wanted = {
        "train": p.data_sources,
        HELD: list(p.data_holdout_documents),
        "text": text_sources(p),
        "preferences": preference_sources(p),
    }
    with steps.progress(_bytes(wanted, root), "byte", "sources") as bar:
        maker = parts.Maker(root, checks, tokenizer, questions, bar)
        for kind, names in wanted.items():
            if kind != HELD:  # a text may be read in one stage and asked about in the next
                checks.seen.clear()
            if kind == "text":
                audit.found |= shards.prepare(p, maker, names, folder)
                continue
            for name in names:
                label = own.title(name) if kind == "train" else f"{own.title(name)} ({kind})"
                audit.found[label] = _made(p, kind, name, folder, maker)
            if kind == "preferences" and names:
                joining.join(folder, kind, names, [kind], np.zeros(0, int))
    lengths = _lengths(folder, p.data_sources)
    back = _drawn(len(lengths), p.data_holdout, p.seed)
    held = wanted[HELD]
    joining.join(folder, "train", p.data_sources, TARGETS, back, p.data_repeats, held)
    if held:
        steps.write_csv(folder / "holdout.csv", _held_rows(folder, held, len(back)))
    return audit, _repeated(lengths, p.data_repeats)


def _made(p, kind: str, name: str, folder: Path, maker: parts.Maker) -> Findings:
    """The findings in a source."""
    part = parts.Part(kind, name, parts.folder_of(folder, kind, name))
    if not parts.finished(part, maker.root, maker.questions):
        parts.write(p, part, maker)
    maker.checks.seen.update(dict.fromkeys(parts.read_seen(part.folder)))
    return parts.read_findings(part.folder)


def _held_rows(folder: Path, names: list[str], drawn: int) -> pd.DataFrame:
    """The held-out rows that belong to documents: their place in `holdout`, and document."""
    files = [file for name in names for file, _ in parts.read_places(folder, name)]
    return pd.DataFrame({"place": range(drawn, drawn + len(files)), "document": files})


def _repeated(lengths: pd.DataFrame, repeats: dict[str, int]) -> pd.DataFrame:
    """The lengths of all rows that a pass reads; a row that is read three times stands so often."""
    times = lengths["source"].astype(str).map(repeats).fillna(1).astype(int)
    return lengths.loc[lengths.index.repeat(times)].reset_index(drop=True)


def outside(p, root: Path) -> dict[str, Path]:
    """What the data of a study come from: folders of `data_root`, and the user's own files.

    Files are called by their paths, as the study names them.
    """
    mine = used.own_files(p)
    paths = [*root.glob(f"{REFERENCE}/*")]
    for name in used.sources_of(p):
        paths += [] if name in mine else sources.files(name, root)
    for name in p.eval_benchmarks:
        paths += [] if name in mine else benchmarks.files(name, root)
    below = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
    folders = sorted({path.parts[0] for path in below})  # the library brings one benchmark itself
    return sources.outside(p, [*folders, *mine])


def _bytes(wanted: dict[str, list[str]], root: Path) -> int:
    """Bytes of the files of all sources."""
    size = 0
    for names in wanted.values():
        for name in names:
            size += sum(path.stat().st_size for path in sources.files(name, root))
    return size


def _lengths(folder: Path, names: list[str]) -> pd.DataFrame:
    """One line per row to tune on: its source and LENGTHS."""
    tables = []
    for name in names:
        table = parts.read_lengths(parts.folder_of(folder, "train", name))
        tables.append(table.assign(source=own.title(name)))
    lengths = pd.concat(tables, ignore_index=True).astype({"source": "category"})
    return lengths[["source", *LENGTHS]]


def _drawn(rows: int, holdout: int, seed: int) -> np.ndarray:
    """Places of the rows that are kept back; StudyError if no row would be left to train on."""
    if not rows:
        raise StudyError(
            "data_sources: not one row is left that can be trained on; see the audit's table."
        )
    if rows <= holdout:
        raise StudyError(
            f"data_holdout: {holdout} rows cannot be kept back of {rows} usable; lower it."
        )
    return np.sort(np.random.default_rng(seed).choice(rows, holdout, replace=False))


def holdings(study: Path) -> pd.DataFrame:
    """How many rows a study and its overlays draw of each source, if the sources are complete.

    Args:
        study: the study file; its overlays are those that `declared.overlays` gives it.

    Returns:
        One line per study, one column per source.
    """
    overlays = [mine for owner, mine in declared.overlays(study.parent) if owner == study]
    studies = [params.load(study), *(params.load(study, overlay) for overlay in overlays)]
    draws = {p.study: _draws(p) for p in studies}
    return pd.DataFrame(draws).T.fillna(0).astype(int)


def _draws(p) -> dict[str, int]:
    """How many rows a study draws of each of its sources."""
    draws = {}
    for name in p.data_sources:
        whole = sources.about(name).rows or 0
        draws[name] = min(limit(p, name) or whole, whole)
    return draws


def fits(lengths: pd.DataFrame) -> pd.DataFrame:
    """By source: the share of rows (percent) that fit into 512 to 4,096 tokens without a cut."""
    whole = lengths["tokens"] + lengths["cut"]
    table = pd.DataFrame({f"{size:,}": 100 * (whole <= size) for size in LIMITS})
    return table.groupby(lengths["source"], observed=True, sort=False).mean().round(1)
