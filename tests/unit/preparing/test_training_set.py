"""The training set: one pass over every source, the same bytes each time, nothing finished done
twice.
"""

import json
from types import SimpleNamespace

import datasets
import pytest

from sm70lib import sources
from sm70lib.benchmarks import Item
from sm70lib.corpus.audit import CHECKS
from sm70lib.corpus.tokens import IGNORED
from sm70lib.preparing import training_set
from sm70lib.steps.steps import digest
from sm70lib.study.params import ROOT, StudyError

NAMES = ["medical_meadow_wikidoc", "medical_meadow_mediqa"]
STUDY = {
    "study": "small",
    "seed": 0,
    "data_sources": NAMES,
    "data_limit": None,
    "data_caps": {},
    "data_parts": {},
    "data_leaks": {},
    "data_repeats": {},
    "data_holdout_documents": {},
    "data_template": "medalpaca",
    "data_max_length": 130,
    "data_overlong": "cut",
    "data_holdout": 10,
    "train_stages": ["cpt", "sft", "dpo"],
    "cpt_sources": [],
    "cpt_near_duplicates": "none",
    "dpo_sources": [],
    "sft_loss": "response",
    **{f"audit_{check}": "drop" for check in ("duplicate", "personal", "label", "leak")},
}


def prepare(root, folder, tokenizer, **changes):
    return training_set.prepare(SimpleNamespace(**STUDY | changes), root, [], tokenizer, folder)


def parts(folder) -> list[datasets.Dataset]:
    return [datasets.load_from_disk(folder / part) for part in ("train", "holdout")]


STATE = """{
 "_data_files": [
  {
   "filename": "data-00000-of-00001.arrow"
  }
 ],
 "_fingerprint": "train",
 "_format_columns": null,
 "_format_kwargs": {},
 "_format_type": null,
 "_output_all_columns": false,
 "_split": null
}
"""


def test_the_files_beside_the_rows_keep_their_bytes(root, tmp_path, tokenizer):
    """Studies that were finished before have their digests in the key of 03."""
    prepare(root, tmp_path, tokenizer)
    value = '{"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}'
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [
        "data-00000-of-00001.arrow",
        "dataset_info.json",
        "state.json",
    ]
    assert (tmp_path / "train/state.json").read_text() == STATE
    assert (tmp_path / "train/dataset_info.json").read_text() == (
        '{"description": "", "citation": "", "homepage": "", "license": "", "features": '
        f'{{"input_ids": {value}, "labels": {value}, '
        '"source": {"dtype": "string", "_type": "Value"}}}'
    )


def test_rows_are_counted_split_and_the_same_each_time(root, tmp_path, tokenizer):
    audit, lengths = prepare(root, tmp_path / "a", tokenizer)
    train, holdout = parts(tmp_path / "a")
    assert (
        audit.funnel()[["rows", "read", "duplicate", "kept"]].to_numpy().tolist()
        == [[60, 9, 1, 50]] * 2
    )
    assert (len(train), len(holdout), len(lengths)) == (90, 10, 100)
    assert (
        train.column_names == ["input_ids", "labels", "source"] and train.unique("source") == NAMES
    )
    total = sum(map(len, train["input_ids"])) + sum(map(len, holdout["input_ids"]))
    assert (
        total == lengths["tokens"].sum()
        and lengths["tokens"].max() == 130
        and lengths["cut"].sum() > 0
    )
    kept = sum(
        label != IGNORED
        for part in (train, holdout)
        for labels in part["labels"]
        for label in labels
    )
    assert kept == lengths["targets"].sum()
    assert set(map(str, train["input_ids"])).isdisjoint(map(str, holdout["input_ids"]))
    prepare(root, tmp_path / "b", tokenizer)
    prepare(root, tmp_path / "a", tokenizer)  # over what is there
    for part in ("train", "holdout"):
        assert digest(tmp_path / "a" / part) == digest(tmp_path / "b" / part)


def test_what_cannot_fit_is_counted_and_tables_add_up(root, tmp_path, tokenizer):
    audit, lengths = prepare(root, tmp_path, tokenizer, data_overlong="drop")
    funnel = audit.funnel()
    assert (funnel["rows"] - funnel[CHECKS].sum(axis=1)).equals(funnel["kept"]) and funnel[
        "length"
    ].sum() > 20
    assert len(lengths) == funnel["kept"].sum() and (lengths["cut"] == 0).all()
    assert training_set.fits(lengths).to_numpy().tolist() == [[100.0] * 4] * 2


def test_a_finished_source_is_not_done_again_and_the_set_is_the_same(
    root, tmp_path, tokenizer, monkeypatch
):
    prepare(root, tmp_path / "whole", tokenizer)
    read, asked = sources.read, []

    def dying(name, *more, **how):
        asked.append(name)
        if name == NAMES[1] and len(asked) == 2:
            raise KeyboardInterrupt
        return read(name, *more, **how)

    monkeypatch.setattr(sources, "read", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, tmp_path / "cut", tokenizer)
    prepare(root, tmp_path / "cut", tokenizer)
    assert asked == [*NAMES, NAMES[1]]
    for part in ("train", "holdout"):
        assert digest(tmp_path / "cut" / part) == digest(tmp_path / "whole" / part)
    path = root / NAMES[0] / f"{NAMES[0]}.json"
    path.write_text(path.read_text().replace("58", "57"))
    prepare(root, tmp_path / "cut", tokenizer)
    assert asked[3:] == NAMES[:1]  # its file is another one now
    item = Item("i", "i", "medqa_4", "What is asked?", "", ("a", "b"), 0)
    training_set.prepare(SimpleNamespace(**STUDY), root, [item], tokenizer, tmp_path / "cut")
    assert asked[4:] == NAMES  # there is another question to look for
    assert digest(tmp_path / "cut/train") != digest(tmp_path / "whole/train")


def test_copies_across_sources_are_found_also_after_a_kill(root, tmp_path, tokenizer):
    (root / NAMES[1] / f"{NAMES[1]}.json").write_bytes(
        (root / NAMES[0] / f"{NAMES[0]}.json").read_bytes()
    )
    for _ in range(2):
        audit, _ = prepare(root, tmp_path, tokenizer)
        assert audit.funnel()["kept"].tolist() == [50, 0]


def test_rows_are_drawn_by_seed_from_the_whole_source(root, tmp_path, tokenizer):
    drawn = {
        seed: [row.row for row in sources.read(NAMES[0], root, [], 10, seed)] for seed in (0, 0, 1)
    }
    assert drawn[0] != drawn[1] and all(
        rows == sorted(set(rows)) and len(rows) == 10 for rows in drawn.values()
    )
    assert max(drawn[0]) > 30
    audit, _ = prepare(
        root, tmp_path, tokenizer, data_limit=20, data_caps={NAMES[1]: 5}, data_holdout=0
    )
    assert [found.rows for found in audit.found.values()] == [20, 5]
    assert len(parts(tmp_path)[1]) == 0


def test_too_few_rows_is_one_sentence(root, tmp_path, tokenizer):
    with pytest.raises(
        StudyError, match="data_holdout: 100 rows cannot be kept back of 100 usable; lower it"
    ):
        prepare(root, tmp_path, tokenizer, data_holdout=100)
    with pytest.raises(StudyError, match="not one row is left that can be trained on"):
        prepare(root, tmp_path / "short", tokenizer, data_overlong="drop", data_max_length=5)


def test_documents_are_cut_into_pieces_and_pairs_share_their_prompt(root, tmp_path, tokenizer):
    (root / "guidelines").mkdir()
    texts = ["Give fluids and rest. " * 40, "Wash hands."]
    (root / "guidelines/open_guidelines.jsonl").write_text(
        "\n".join(json.dumps({"clean_text": text}) for text in texts)
    )
    (root / "preference_pairs/own").mkdir(parents=True)
    pairs = [
        {"instruction": "Ask", "input": "", "chosen": "good " * n, "rejected": "bad"}
        for n in (2, 3, 400)
    ]
    (root / "preference_pairs/own/pairs.json").write_text(json.dumps(pairs))
    audit, _ = prepare(
        root, tmp_path, tokenizer, cpt_sources=["guidelines"], dpo_sources=["preference_pairs"]
    )
    text, preferences = (
        datasets.load_from_disk(tmp_path / name) for name in ("text", "preferences")
    )
    ids = [token for piece in text["input_ids"] for token in piece]
    assert (
        tokenizer.decode(ids, skip_special_tokens=True) == "".join(texts)
        and max(map(len, text["input_ids"])) == 130
    )
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 2
    assert text.column_names == ["input_ids", "source"]
    assert text[1]["input_ids"][0] != tokenizer.bos_token_id, "it stands in the first piece only"
    assert len(preferences) == 2 and preferences.column_names == [
        "prompt_ids",
        "chosen_ids",
        "rejected_ids",
        "source",
    ]
    for row, pair in zip(preferences, pairs):
        assert (
            tokenizer.decode(row["prompt_ids"]).endswith("### Response:\n")
            and row["prompt_ids"][0] == 0
        )
        said = [tokenizer.decode(row[name]) for name in ("chosen_ids", "rejected_ids")]
        assert said == [pair["chosen"] + "</s>", "bad</s>"]
    assert audit.funnel()["kept"].to_dict() == {
        NAMES[0]: 50,
        NAMES[1]: 50,
        "guidelines (text)": 2,
        "preference_pairs (preferences)": 2,
    }


def test_the_sources_of_a_study_stand_beside_those_of_its_own_overlays():
    """The overlays of tiny-med42 and tiny-meditron begin with "tiny-" too."""
    found = training_set.holdings(ROOT / "params/tiny.yml")
    assert found.index.tolist() == ["tiny", "tiny-control", "tiny-evidence"]
