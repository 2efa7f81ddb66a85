"""Damaged prediction files: nothing wrong counts, and what is wrong is scored again."""

import json
import os
import shutil

import pytest
import torch

from sm70lib.asking import runs
from sm70lib.evaluation import first_look, one_model, scoring
from sm70lib.models import loading
from sm70lib.records import jsonlines
from sm70lib.study.params import StudyError
from tests.asked import kept, study_with_items
from tests.small import with_adapter

RUN = "medqa_4-sm70-2023-0"


class Scored:
    """A finished evaluation of a base and of an adapter from elsewhere."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.p = study_with_items(folder)
        adapter = folder / "elsewhere"
        with_adapter(loading.load(folder / "base/model")).save_pretrained(adapter)
        shutil.copytree(adapter, folder / "adapter")
        self.p.eval_protocols, self.p.eval_own = ["sm70-2023"], ["base"]
        self.p.eval_models = {"other": f"{folder / 'base/model'} adapter={adapter}"}
        self.asked = runs.runs(self.p, folder / "data/benchmarks")
        self.base = folder / f"predictions/base/{RUN}.jsonl"
        self.scored: list[int] = []
        found = one_model.Local.loglikelihoods
        monkeypatch.setattr(
            one_model.Local,
            "loglikelihoods",
            lambda *given: self.scored.append(len(given[1])) or found(*given),
        )
        self.again()
        self.good = {path: kept(path) for path in sorted(folder.glob("predictions/*/*.jsonl"))}
        assert len(self.good) == 2

    def again(self) -> int:
        """Scores what is left; returns how many items that were."""
        self.scored.clear()
        scoring.score_all(self.p, self.asked, self.folder)
        return sum(self.scored)

    def unfinished(self) -> None:
        """Makes the base's file one that is still under way, as a kill leaves it."""
        meta = self.base.with_suffix(".meta.json")
        about = json.loads(meta.read_text())
        for name in ("lines_sha256", "n_scored", "skipped", "cut"):
            del about[name]
        meta.write_text(json.dumps(about))

    def as_before(self) -> bool:
        """Whether all predictions are what they were, but for their seconds."""
        return {path: kept(path) for path in self.good} == self.good


@pytest.fixture
def study(tmp_path, monkeypatch):
    return Scored(tmp_path, monkeypatch)


def test_a_changed_line_of_a_finished_file_is_never_taken_over(study, capsys):
    found = [json.loads(line) for line in study.base.read_text().splitlines()]
    wrong = "".join(json.dumps(line | {"correct": True}) + "\n" for line in found)
    study.base.write_text(wrong)
    assert study.again() == 30 and study.as_before()
    said = capsys.readouterr().out
    assert f"04_eval: predictions/base/{RUN}.jsonl is not as written; put aside in" in said
    (put,) = study.folder.glob(f"replaced/04_eval/damaged/predictions/base/{RUN}.jsonl")
    assert put.read_text() == wrong
    assert study.again() == 0, "and it does not come back"


def test_a_broken_line_of_a_file_under_way_is_named_and_scored_again(study, capsys):
    study.unfinished()
    found = study.base.read_text().splitlines(True)
    found[6] = found[6][:40] + "\n"
    found[9] = "[]\n"
    study.base.write_text("".join(found) + '{"half": ')
    assert study.again() > 0 and study.as_before()
    said = capsys.readouterr().out
    for number in (7, 10):
        assert f"base/{RUN}.jsonl: line {number} is not a prediction and is dropped" in said
    assert said.count("is not a prediction") == 2
    assert study.again() == 0


@pytest.mark.parametrize("differs", [False, True], ids=["equal", "different"])
def test_a_line_twice_counts_once_or_is_scored_again(study, capsys, differs):
    study.unfinished()
    found = study.base.read_text().splitlines(True)
    twice = json.loads(found[4]) | {"seconds": 9.0}
    if differs:
        twice["correct"] = not twice["correct"]
    study.base.write_text("".join(found) + json.dumps(twice) + "\n")
    study.again()
    assert study.as_before()
    said = capsys.readouterr().out
    item = twice["item_id"]
    if differs:
        assert f"lines 5 and 31 differ about item {item}, as if two processes" in said
    else:
        assert f"line 31 repeats line 5 ({item}); one is kept" in said


def test_what_is_not_asked_is_dropped_and_said(study, capsys):
    study.unfinished()
    strange = json.loads(study.base.read_text().splitlines()[0]) | {"item_id": "strange"}
    study.base.write_text(study.base.read_text() + json.dumps(strange) + "\n")
    study.again()
    assert study.as_before() and "item strange is not asked" in capsys.readouterr().out


def test_another_configuration_of_an_adapter_is_another_model(study):
    path = study.folder / "elsewhere/adapter_config.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"base_model_name_or_path": "moved"}))
    assert study.again() == 0
    path.write_text(json.dumps(about | {"lora_alpha": 256}))
    assert study.again() == 30 and not study.as_before()
    path.write_text(json.dumps(about))
    assert study.again() == 0 and study.as_before(), "the old predictions come back"


def test_a_base_that_was_trained_again_is_another_model_in_the_same_process(study):
    model = study.folder / "base/model"
    loaded = loading.load(model)
    with torch.no_grad():
        loaded.get_input_embeddings().weight.mul_(2)
    loaded.save_pretrained(model)
    assert study.again() == 60 and not study.as_before(), "the base, and the adapter on it"


def test_files_of_an_earlier_version_are_finished_as_they_are(study):
    for path in study.good:
        meta = path.with_suffix(".meta.json")
        about = json.loads(meta.read_text())
        about.pop("lines_sha256"), about.pop("adapter_config", None)
        meta.write_text(json.dumps(about))
    before = {path: path.read_bytes() for path in study.folder.glob("predictions/*/*.json*")}
    assert study.again() == 0
    assert {path: path.read_bytes() for path in before} == before, "their digests stay"
    study.base.write_text(study.base.read_text().replace("{", "", 1))
    assert study.again() > 0 and study.as_before()


def test_a_meta_file_that_is_none_is_no_traceback(study):
    for text in (
        "",
        "[]",
        "null",
        '"x"',
        "{",
        '{"model_digest": 7}',
        '{"model_digest": "../../x"}',
    ):
        study.base.with_suffix(".meta.json").write_text(text)
        assert study.again() == 30 and study.as_before()
    (study.base.parent / "batch_1.json").write_text("[")
    study.again()
    assert first_look.rescored(study.folder / "predictions")["base"]["items"] > 0


def test_damage_to_a_stored_file_keeps_it_from_coming_back(study):
    study.p.eval_own = ["tuned"]
    study.again()
    (stored,) = study.folder.glob(f"replaced/04_eval/*/predictions/base/{RUN}.jsonl")
    stored.write_text(stored.read_text().replace("true", "false"))
    study.p.eval_own = ["base"]
    assert study.again() == 30 and study.as_before()


def test_tables_refuse_an_item_that_is_there_twice(study):
    """As in a study that two processes finished before there was one writer."""
    first = study.base.read_text().splitlines(True)[0]
    study.base.write_text(study.base.read_text() + first)
    with pytest.raises(StudyError, match=f"base/{RUN}.jsonl, lines 1 and 31: item m/.* twice"):
        jsonlines.rows(study.base)
    study.base.write_text("7\n")
    with pytest.raises(StudyError, match="line 1 is not a prediction: run 04_eval again"):
        jsonlines.rows(study.base)


def test_lines_are_read_whatever_they_hold(tmp_path):
    path = tmp_path / "x.jsonl"
    good = {"item_id": "a", "seed": 0, "correct": True}
    path.write_bytes(
        b"\xff\xfe\n\nnull\n7\n" + b"[" * 100_000 + b"\n" + json.dumps(good).encode() + b"\n{"
    )
    found = jsonlines.read(path)
    assert list(found.kept) == [("a", 0)] and len(found.faults) == 5 and not found.whole
    assert jsonlines.mend(path) == {("a", 0)} and jsonlines.read(path).whole
    assert os.listdir(tmp_path) == ["x.jsonl"]
    assert jsonlines.mend(tmp_path / "none.jsonl") == set()
