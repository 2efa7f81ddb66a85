"""Sources: real counts, upstream layouts, and every bad row or file said in a sentence."""

import json
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from sm70lib import sources
from sm70lib.sources import Defect, Row, catalogue, records
from sm70lib.study.params import StudyError

MEADOW = "medical_meadow_wikidoc"
GOOD = {"instruction": "Answer", "input": "What?", "output": "That."}


def meadow(root, content) -> None:
    (root / MEADOW).mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / MEADOW / f"{MEADOW}.json").write_bytes(data)


def test_real_sources_have_their_rows_and_counted_defects(shared_data):
    found = {}
    for name in ("medical_meadow_mmmlu", "med_safety_bench", "medquad"):
        defects = []
        rows = list(sources.read(name, shared_data, defects))
        assert len({(row.file, row.row) for row in rows}) == len(rows)
        found[name] = (
            len(rows),
            Counter((defect.file.split("/")[1], defect.reason) for defect in defects),
        )
    assert found == {
        "medical_meadow_mmmlu": (3787, {}),
        "med_safety_bench": (900, {}),
        "medquad": (1039, {("12_MPlusHerbsSupplements_QA", "empty answer"): 80}),
    }
    assert sources.SOURCES["medical_meadow_mmmlu"].rows == 3787


def test_medquad_keys_on_folder_and_document(shared_data):
    rows = [
        row for row in sources.read("medquad", shared_data, []) if row.file.endswith("/0000001.xml")
    ]
    assert {row.file.split("/")[1] for row in rows} == {"7_SeniorHealth_QA", "9_CDC_QA"}
    assert {row.instruction for row in rows} == {"Answer this question truthfully"}


def test_the_nine_meadow_sets_sum_to_the_published_rows():
    nine = [
        source.rows
        for name, source in sources.SOURCES.items()
        if name.startswith("medical_meadow_")
    ]
    assert len(nine) == 9 and sum(nine) == 898_199


def test_texts_are_rows_without_a_prompt_and_limit_is_per_source(tmp_path):
    (tmp_path / "gazetteer").mkdir()
    (tmp_path / "gazetteer/gazetteer.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one\xc2\x85two"}\r\n{"text": ""}\n[]\n{"text": 3}\nnull\n'
        b'{"text": "cut\n{"text": "last"}'
    )
    defects = []
    rows, file = list(sources.read("gazetteer", tmp_path, defects)), "gazetteer/gazetteer.jsonl"
    assert rows == [
        Row("gazetteer", 0, "", "", "one\u0085two", file),
        Row("gazetteer", 6, "", "", "last", file),
    ]
    assert [(defect.row, defect.reason) for defect in defects] == [
        (1, "empty text"),
        (2, "no readable record, or a key stands twice in it"),
        (3, "no text under text"),
        *((row, "no readable record, or a key stands twice in it") for row in (4, 5)),
    ]
    assert len(list(sources.read("gazetteer", tmp_path, [], limit=1))) == 1


NOTHING = {  # source: its file, what is said where no row can be used
    "guidelines": (
        "open_guidelines.jsonl",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "is a pointer of Git LFS, not the file; run git lfs pull",
    ),
    MEADOW: (
        f"{MEADOW}.json",
        json.dumps({name: {"0": "a", "1": "b"} for name in GOOD}),
        "no row of medical_meadow_wikidoc can be used: no text under instruction .1.; "
        "get the file again",
    ),
    "gazetteer": (
        "gazetteer.jsonl",
        '{"words": "one"}\n{"words": "two"}\n',
        "no text under text .2.",
    ),
    "medquad": (
        "a/1.xml",
        "<D><QAPair><Frage>What?</Frage><Answer>That.</Answer></QAPair></D>",
        "no text under question .1.",
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_source_without_a_usable_row_is_one_sentence(tmp_path, name):
    path, content, said = NOTHING[name]
    file = tmp_path / name / path
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(StudyError, match=said):
        list(sources.read(name, tmp_path, []))
    assert len(NOTHING) == 4


UNREADABLE = "no readable record, or a key stands twice in it"
UNWRITABLE = "holds a NUL, half a surrogate pair or a byte that is no UTF-8"
BAD = [
    *((row, UNREADABLE) for row in (None, [GOOD], 3)),
    ({}, "no text under instruction"),
    (GOOD | {"input": 3}, "no text under input"),
    (GOOD | {"output": 7}, "no text under output"),
    (GOOD | {"output": " \n"}, "empty output"),
    (GOOD | {"output": "a\0b"}, f"output {UNWRITABLE}"),
    (GOOD | {"input": "\ud800"}, f"input {UNWRITABLE}"),
    (GOOD | {"instruction": "", "input": ""}, "empty instruction and input"),
]


def test_each_bad_row_is_counted_with_file_row_and_reason(tmp_path):
    meadow(
        tmp_path, [GOOD, *(row for row, _ in BAD), GOOD | {"more": 1, "input": "x" * 200_000 + "?"}]
    )
    defects = []
    rows = list(sources.read(MEADOW, tmp_path, defects))
    assert [row.row for row in rows] == [0, len(BAD) + 1]
    file = f"{MEADOW}/{MEADOW}.json"
    assert defects == [
        Defect(MEADOW, file, number, reason) for number, (_, reason) in enumerate(BAD, 1)
    ]
    assert len(defects) == len(BAD) == 10
    with pytest.raises(
        StudyError, match=rf"{file}, row 1: no readable record, or .*; mend or remove"
    ):
        list(sources.read(MEADOW, tmp_path))


DAMAGED = [
    (b"", "it is empty"),
    (b"x", "neither"),
    (b"[", "in row 0"),
    (b'[{"instruction": "a', "in row 0"),
    (b"[1,]", "in row 1"),
    (b"[" * 100_000, "row 0"),
    (b"[1 2]", "after row 0"),
    (b"[1", "row 0"),
    (b'[{"a": 1}', "in row 0"),
]


@pytest.mark.parametrize("content, place", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_one_sentence_with_the_row(tmp_path, content, place):
    meadow(tmp_path, content)
    with pytest.raises(StudyError, match=rf"wikidoc\.json .*{place}.*; get the file again\.$"):
        list(sources.read(MEADOW, tmp_path, []))


@pytest.mark.parametrize("size", [1, 7, 10, 4096])
def test_arrays_are_read_piece_by_piece(tmp_path, monkeypatch, size):
    monkeypatch.setattr(records, "CHUNK", size)
    content = [1, -2.5, 33, '\u00e9\\"', {"a": ["]", {}]}, None, True, "x" * 5000, [], 12]
    path = tmp_path / "array.json"
    for text in (
        json.dumps(content),
        json.dumps(content, indent=3, ensure_ascii=False),
        f"\ufeff {content[7:8]}",
    ):
        path.write_text(text.replace("'", '"'), encoding="utf-8")
        expected = content if "33" in text else content[7:8]
        assert list(records.records(path)) == list(enumerate(expected))


def damaged(rng: random.Random, rows: list[dict]) -> tuple[bytes, str]:
    """A file of rows in which one thing is broken, and what."""
    rows, at = [dict(row) for row in rows], rng.randrange(len(rows))
    kind = rng.choice(
        [
            "missing key",
            "wrong type",
            "no text",
            "NUL",
            "surrogate",
            "huge",
            "twice",
            "no record",
            "no UTF-8",
            "truncated",
            "bytes",
            "BOM and CRLF",
        ]
    )
    key = rng.choice(["instruction", "input", "output"])
    change = {
        "wrong type": rng.choice([3, [], {}, True]),
        "no text": " \n",
        "NUL": "a\0b",
        "surrogate": "\udc80",
        "huge": "x" * 1_500_000,  # more than is read at a time
    }
    if kind == "missing key":
        del rows[at]["output" if key == "input" else key]  # without an input, a row is whole
    elif kind in change:
        rows[at]["output" if kind == "no text" else key] = change[kind]
    elif kind == "no record":
        rows[at] = rng.choice([None, 7, "row", []])
    whole = json.dumps(rows, indent=rng.choice([None, 1])).encode()
    if kind == "twice":
        whole = whole.replace(b'"output"', b'"output": "x", "output"', 1)
    elif kind == "no UTF-8":
        whole = whole.replace(b"What?", b"\xff\xfe?", 1)
    elif kind == "truncated":
        whole = whole[: rng.randrange(len(whole))]
    elif kind == "BOM and CRLF":
        whole = b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n")
    elif kind == "bytes":
        whole = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
    return bytes(whole), kind


def test_two_thousand_damaged_files_lose_no_row_in_silence(tmp_path):
    """Each row is read, counted as a defect, or a sentence says in which row the file breaks."""
    rng, ended = random.Random(0), Counter()
    for _ in range(2000):
        content, kind = damaged(rng, [GOOD] * 12)
        meadow(tmp_path, content)
        defects, file = [], f"{MEADOW}/{MEADOW}.json"
        try:
            rows = list(sources.read(MEADOW, tmp_path, defects))
            counted = sorted([row.row for row in rows] + [defect.row for defect in defects])
            assert counted == list(range(12)) and {defect.file for defect in defects} <= {file}, (
                kind
            )
            ended[kind, "counted" if defects else "as good as before"] += 1
        except StudyError as error:
            assert file in str(error) and "\n" not in str(error).strip(), kind
            ended[kind, "refused"] += 1
    kinds = Counter(kind for kind, _ in ended.elements())
    assert len(kinds) == 12 and min(kinds.values()) > 100 and kinds.total() == 2000
    for kind in (
        "missing key",
        "wrong type",
        "no text",
        "NUL",
        "surrogate",
        "twice",
        "no record",
        "no UTF-8",
    ):
        assert ended[kind, "counted"] == kinds[kind], kind
    assert ended["truncated", "refused"] == kinds["truncated"]
    assert ended["huge", "as good as before"] == kinds["huge"]
    assert ended["BOM and CRLF", "as good as before"] == kinds["BOM and CRLF"]


def test_root_is_the_world_of_the_study_or_a_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    world = SimpleNamespace(study="small", data_root="world")
    with pytest.raises(
        StudyError, match=r"data_root is 'world', but there is no folder .*/base/world; give"
    ):
        sources.root(world)
    (tmp_path / "small/base/world").mkdir(parents=True)
    assert sources.root(world) == tmp_path / "small/base/world"
    assert sources.root(SimpleNamespace(study="small", data_root=str(tmp_path))) == tmp_path


def test_missing_unknown_and_broken_xml_say_what_to_do(tmp_path):
    with pytest.raises(
        StudyError, match=r"no file medical_meadow_wikidoc\.json of .*params/data\.md"
    ):
        sources.files(MEADOW, tmp_path)
    with pytest.raises(StudyError, match="there is no source 'wiki'; choose from medical_meadow_"):
        list(sources.read("wiki", tmp_path))
    (tmp_path / "medquad/a").mkdir(parents=True)
    (tmp_path / "medquad/a/1.xml").write_text("<Document><QAPairs>")
    with pytest.raises(StudyError, match=r"1\.xml is not readable XML"):
        list(sources.read("medquad", tmp_path, []))


def test_a_line_with_an_unknown_shape_is_named():
    line = {"name": "new", "what": "", "licence": "", "rows": "", "bytes": "", "hub": ""}
    line |= {"folder": "new", "shape": "rows", "files": "", "by_hand": ""}
    with pytest.raises(StudyError, match="line new: shape is 'rows'; choose from row, "):
        catalogue._source(line)
