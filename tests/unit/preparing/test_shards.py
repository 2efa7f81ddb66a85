"""Running text in shards: no text twice, nothing finished made again, two bytes a token."""

import json
import shutil
from types import SimpleNamespace

import datasets
import pytest
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from sm70lib.corpus import parts
from sm70lib.corpus.examples import features_of
from sm70lib.corpus.tokens import IGNORED
from sm70lib.preparing import shards
from sm70lib.study.params import StudyError
from sm70lib.training.rows import as_text
from tests.synthetic import FILES, TEXTS, write_papers
from tests.unit.preparing.test_training_set import prepare


@pytest.fixture
def papers(root):
    """A source of several files."""
    write_papers(root)
    return root


def text_of(papers, folder, tokenizer, **changes):
    audit, _ = prepare(papers, folder, tokenizer, cpt_sources=["pubmed_abstracts"], **changes)
    return audit, datasets.load_from_disk(folder / "text")


def test_a_text_of_an_earlier_file_is_dropped_reported_or_refused(papers, tmp_path, tokenizer):
    audit, dropped = text_of(papers, tmp_path / "drop", tokenizer)
    every = {json.loads(line)["contents"].strip() for line in _lines(papers)}
    written = "".join(tokenizer.decode(ids) for ids in dropped["input_ids"]).split("</s>")
    written = [text.removeprefix("<s>").strip() for text in written if text]
    assert sorted(written) == sorted(every), "each text once"
    repeated = FILES * TEXTS - len(every)
    funnel = audit.funnel().loc["pubmed_abstracts (text)"]
    assert (funnel["rows"], funnel["duplicate"], funnel["kept"]) == (
        FILES * TEXTS,
        repeated,
        len(every),
    )
    audit, reported = text_of(papers, tmp_path / "report", tokenizer, audit_duplicate="report")
    assert audit.funnel().loc["pubmed_abstracts (text)", "kept"] == FILES * TEXTS
    assert len(reported) > len(dropped)
    found = [defect for defect in audit.defects if defect.check == "duplicate"]
    found = [defect for defect in found if defect.source == "pubmed_abstracts"]
    assert len(found) == repeated and not any(defect.dropped for defect in found)
    for name in ("medical_meadow_wikidoc", "medical_meadow_mediqa"):  # they hold a row twice too
        path = papers / name / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    with pytest.raises(StudyError, match=r"chunk/1.jsonl has in row 0: same text as an earlier"):
        text_of(papers, tmp_path / "fail", tokenizer, audit_duplicate="fail")


def _lines(papers):
    for path in sorted((papers / "pubmed_abstracts").rglob("*.jsonl")):
        yield from path.read_text().splitlines()


def test_a_kill_costs_the_shard_under_way(papers, tmp_path, tokenizer, monkeypatch):
    _, whole = text_of(papers, tmp_path, tokenizer)
    folder = tmp_path / "parts/text-pubmed_abstracts"
    before = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/found.json")}
    (folder / "00002/found.json").unlink()
    shutil.rmtree(tmp_path / "text")
    text_of(papers, tmp_path, tokenizer)
    after = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/found.json")}
    assert len(before) == FILES and [n for n in after if after[n] != before[n]] == ["00002"]
    assert datasets.load_from_disk(tmp_path / "text")["input_ids"] == whole["input_ids"]


def test_a_shard_that_another_process_makes_is_left_to_it(papers, tmp_path, tokenizer):
    maker = SimpleNamespace(root=papers, questions="", checks=None)
    shard = parts.Part("text", "pubmed_abstracts", tmp_path / "shard")
    with shards.FileLock(f"{shard.folder}.lock"):
        assert not shards._make(None, shard, maker, wait=False)
    assert not shard.folder.exists()


@pytest.mark.parametrize("entries, kind", [(2**16, "uint16"), (2**16 + 1, "int32")])
def test_ids_take_two_bytes_where_they_fit(entries, kind):
    features = features_of("text", range(entries))
    assert features["input_ids"].feature.dtype == kind


def test_text_without_labels_trains_as_text_with_them(papers, tmp_path, tokenizer):
    """TRL's collator makes the same batch of both."""
    _, text = text_of(papers, tmp_path, tokenizer)
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    rows = [{"input_ids": row["input_ids"]} for row in text.select(range(20))]
    labelled = [row | {"labels": [IGNORED, *row["input_ids"][1:]]} for row in rows]
    one, other = collate(rows), collate(labelled)
    assert one.keys() == other.keys() and one["labels"].equal(other["labels"])
    assert (one["labels"] >= 0).sum() == sum(len(row["input_ids"]) - 1 for row in rows)
    assert as_text(rows[0])["labels"] == rows[0]["input_ids"]
