"""What the tables of 01 count."""

import datasets
import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.composition import tables
from sm70lib.corpus import tokens
from sm70lib.presentation import found
from sm70lib.sources import Defect
from tests.composed import ASKED, FUNNEL, HELD, LENGTHS, NAMES

DEFECTS = [
    Defect("exam", "a.jsonl", 1, "same as item 0", "read", False),
    Defect("exam", "a.jsonl", 2, "same as item 1", "read", False),
    Defect("exam", "a.jsonl", 3, "no answer"),
]


def test_sources_have_what_their_publishers_state():
    table = tables.published(["medical_meadow_medqa", "practice_questions"])
    assert list(table) == tables.PUBLISHED and table["name"].tolist()[0] == "medical_meadow_medqa"
    assert table["rows"].tolist()[0] == 10178 and pd.isna(table["rows"].tolist()[1])


def test_the_rows_of_a_study_are_summed_over_its_sources():
    table = tables.holdings(HELD)
    assert table["sm70"].to_dict() == {"cord19": 900, "medqa": 100, "rows": 1000}
    assert table.index.name == "source" and table["sm70-small"].tolist() == [90, 0, 90]


def test_guessers_and_sizes_of_benchmarks():
    table = tables.guessers(ASKED)
    assert table.loc["medqa_4"].tolist()[:4] == [4, 4, 4, 50.0]
    assert table.loc["truthfulqa", "position_pct"] == 100
    assert table.loc["mmlu_pro", "most options"] == 10
    assert table.loc["medqa_4", "digest"] == benchmarks.items_digest(ASKED["medqa_4"])[:12]
    none = tables.guessers({})
    assert none.empty and list(none) == list(table)
    assert found.guessers(none) == "No benchmark of this study has an accuracy."


def test_answer_positions_are_shares_of_items():
    table = tables.answer_positions(ASKED)
    assert table.loc["medqa_4"].dropna().to_dict() == {1: 0.25, 2: 0.5, 4: 0.25}
    assert table.sum(axis=1).tolist() == [1, 1, 1] and list(table) == [1, 2, 3, 4, 10]
    assert tables.answer_positions({}).empty


def test_doubts_and_reasons_are_counted():
    noted = tables.doubts(DEFECTS)
    assert noted.to_numpy().tolist() == [["exam", "same", False, 2], ["exam", "no answer", True, 1]]
    assert tables.doubts([]).empty and tables.reasons([]).empty
    counted = tables.reasons([*DEFECTS, DEFECTS[2]])
    assert counted["rows"].tolist() == [2, 1, 1] and counted["reason"].iloc[0] == "no answer"
    assert list(tables.defects([])) == tables.DEFECT
    assert tables.defects(DEFECTS)["row"].tolist() == [1, 2, 3]


def test_leaked_fields_count_items_once():
    hits = pd.DataFrame(
        {"source": "s", "benchmark": "b", "field": ["question", "question", "options"]}
        | {"item_id": ["1", "1", "2"], "row": [5, 6, 6], "exact": [True, False, False]}
        | {"answer": [True, True, False]}
    )
    table = tables.leaked_fields(hits)
    assert table.loc["s", "b", "question"].tolist() == [1, 2, 1, 2]


def test_lengths_by_source_and_what_the_limit_took():
    table = tables.token_lengths(LENGTHS)
    assert list(table.index) == NAMES[::-1], "as they stand"
    assert table.loc[NAMES[0]].tolist() == [2, 17.5, 20, 1, 7]


def test_shares_are_of_rows_tokens_and_targets():
    """Running text has rows in the funnel, and no tokens."""
    text = FUNNEL.iloc[:1].rename(index={NAMES[0]: "guidelines (text)"})
    funnel = tables.with_tokens(pd.concat([FUNNEL, text]), LENGTHS, [*NAMES, "empty"])
    assert funnel["tokens"].tolist()[:2] == [35, 42] and pd.isna(funnel["targets"].iloc[2])
    assert funnel["rows"].tolist() == [4, 5, 4], "the funnel is as it was"
    shares = tables.source_shares(funnel)
    assert shares["targets"].tolist()[:2] == [0.7, 0.3] and list(shares) == tables.MEASURES
    assert shares.sum().tolist() == pytest.approx([1, 1, 1])


def test_seams_show_the_first_label_and_the_last(tokenizer):
    texts = [("ask " * 20, "say " * 10, (0, 0)), ("ask", "say", (0, 0))]
    [long, short] = tokens.encode_batch(texts, tokenizer, 999, "cut", "response")
    encoded = {"input_ids": [long.input_ids] * 2 + [short.input_ids]}
    encoded |= {"labels": [long.labels] * 2 + [short.labels], "source": [*NAMES[:1] * 2, NAMES[1]]}
    rows = tables.first_of_each(datasets.Dataset.from_dict(encoded), 3)
    assert rows["source"][:] == NAMES and rows["input_ids"][1] == short.input_ids
    table = tables.seams(rows, tokenizer)
    first, seam = table["wikidoc"], long.labels.count(tokens.IGNORED)
    assert len(first) == 2 * tables.AROUND + tables.LAST
    assert first["place"].tolist()[:2] == [str(seam - 6), str(seam - 5)]
    assert first["place"].tolist()[-1] == str(len(long.labels) - 1)
    assert first["label"].tolist()[5] == "" != first["label"].tolist()[6]
    assert first["label"].tolist()[-1] == "'</s>'", "the end is trained"
    assert (table[NAMES[1]]["place"] != "").sum() == len(short.labels), "no token twice"
