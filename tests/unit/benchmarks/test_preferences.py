"""Preference pairs are items whose right option is the better answer."""

import json

from sm70lib import benchmarks

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}


def test_pairs_of_every_layout_are_items_and_what_does_not_fit_is_listed(tmp_path):
    turns = [{"role": "user", "content": text} for text in ("Hi", "Why?")]
    system = {"role": "system", "content": "Be brief."}
    rows = [PAIR | {"prompt": f"Why {n}?", "chosen": f"Because {n}."} for n in range(40)]
    rows += [
        PAIR | {"prompt": [system, turns[1]]},
        PAIR | {"prompt": [turns[0], {"role": "assistant", "content": "Hi"}, turns[1]]},
        PAIR | {"rejected": "Because."},
    ]
    path = tmp_path / "preference_pairs/mine/pairs.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows))
    defects = []
    items = benchmarks.read("public_pairs", tmp_path, defects=defects)
    assert len(items) == 41 and items[40].question == "Be brief.\n\nWhy?"
    assert all(item.options[item.answer].startswith("Because") for item in items)
    assert 10 < sum(item.answer for item in items) < 30, "the place is drawn"
    assert [defect.reason for defect in defects] == [
        "several turns, for which an item has no place",
        "a tie: both answers are the same",
    ]


def test_real_pairs_have_their_numbers(shared_data):
    for name, count in (("public_pairs", 1572), ("medquad_pairs", 217)):
        defects = []
        assert len(benchmarks.read(name, shared_data, defects=defects)) == count
        assert defects and all(defect.reason for defect in defects)
