"""Documents are cut into pieces without a loss, and none is trained on and measured."""

import json

from sm70lib import benchmarks, sources
from sm70lib.benchmarks import documents


def test_pieces_are_short_and_make_up_the_document(tmp_path):
    long = "word " * 450 + "x" * 1500
    (tmp_path / "old_text").mkdir()
    rows = [{"text": long, "cluster": "a"}, {"text": "short", "cluster": "b"}, {"text": " "}]
    (tmp_path / "old_text/old_text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    defects = []
    items = benchmarks.read("old_text", tmp_path, defects=defects)
    assert [item.cluster for item in items] == ["a"] * 4 + ["b"]
    assert all(len(item.question) <= documents.PIECE for item in items)
    assert all(item.options == (item.question,) for item in items)
    assert "".join(item.question for item in items[:4]).replace(" ", "") == long.replace(" ", "")
    assert [defect.reason for defect in defects] == ["empty question"]


def test_no_document_is_both_trained_on_and_held_out(shared_data):
    held = benchmarks.read("senior_health_held_out", shared_data, defects=[])
    read = list(sources.read("medquad_senior_health", shared_data, []))
    trained = {row.file.rpartition("/")[2].removesuffix(".xml") for row in read}
    measured = {item.cluster for item in held}
    assert (len(measured), len(trained), measured & trained) == (20, 28, set())
    assert not {item.question for item in held} & {row.output for row in read}
    assert len({item.cluster for item in benchmarks.read("cdc", shared_data, defects=[])}) == 59


def test_no_prompt_is_both_replayed_and_held_out(shared_data):
    held = benchmarks.read("preferred_replies_held_out", shared_data, defects=[])
    defects = []
    read = list(sources.read("preferred_replies", shared_data, defects))
    back = [defect for defect in defects if "kept back" in defect.reason]
    assert len({item.cluster for item in held}) == len(back) > 100
    assert len(read) > 8 * len(back)
    assert not {item.question for item in held if len(item.question) > 99} & {
        row.output for row in read
    }
