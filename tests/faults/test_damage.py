"""Damage to what steps wrote: it is named, put aside and made again, and nothing of it counts."""

import json
import os
import shutil

import pytest

from sm70lib import preflight, report
from sm70lib.records import damage
from sm70lib.steps import keys, replaced, steps
from sm70lib.study import files
from sm70lib.study.params import StudyError
from tests.toy import ran

TUNING = "03_qlora_finetune"
NAMES = list(steps.STEPS)


def content(folder) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for top in ("base", "data", "adapter", "stages", "predictions", "tables", "figures")
        for path in sorted((folder / top).rglob("*"))
        if path.is_file() and path.name != "adapter_config.json"  # the toy writes its process there
    }


DAMAGED = {  # a file of each step, and the output that is put aside
    "base/model/content.txt": "base/model",
    "data/train/content.txt": "data/train/content.txt",
    "memory.csv": "memory.csv",
    "adapter/adapter_model.safetensors": "adapter",
    "predictions/tuned/a.jsonl": "predictions/tuned/a.jsonl",
    "tables/errors.csv": "tables/errors.csv",
    "tables/main.csv": "tables/main.csv",
}


@pytest.mark.parametrize("file, aside", DAMAGED.items())
def test_what_is_damaged_is_put_aside_and_made_again(made, capsys, file, aside):
    before = content(made.toy.study)
    digests = {name: steps.mark(made.toy.study, name)["outputs"] for name in NAMES}
    path = made.toy.study / file
    path.write_bytes(b"damaged")
    maker = next(name for name in NAMES if any(aside.startswith(out) for out in digests[name]))
    assert "is not as it was" in made.why(maker)
    assert maker in made.all()
    assert content(made.toy.study) == before, "made again, and nothing of the damage is left"
    shas = {name: steps.mark(made.toy.study, name)["outputs"] for name in NAMES}
    for name in NAMES:
        for output, record in shas[name].items():
            assert record["sha256"] == digests[name][output]["sha256"]
    (put,) = (made.toy.study / "replaced" / maker).glob(f"damaged/{file}")
    assert put.read_bytes() == b"damaged"
    said = [line for line in capsys.readouterr().out.splitlines() if "put aside" in line]
    assert len(said) == 1 and said[0].startswith(f"{maker}: {aside} is not as written; put aside")


def test_only_the_damaged_file_of_several_is_put_aside(made, capsys):
    steps.write_text(made.toy.study / "predictions/tuned/b.jsonl", "other")
    step = steps.begin("04_eval", made.study)  # a file that 04 did not write is put aside too
    assert "predictions/tuned/b.jsonl is not as written" in capsys.readouterr().out
    steps.write_text(made.toy.study / "predictions/tuned/b.jsonl", "other")
    step.finish("predictions")
    (made.toy.study / "predictions/tuned/b.jsonl").write_text("damaged")
    steps.begin("04_eval", made.study)
    assert [path.name for path in (made.toy.study / "predictions/tuned").iterdir()] == ["a.jsonl"]


def test_a_changed_configuration_of_an_adapter_is_noticed(made):
    configuration = made.toy.study / "adapter/adapter_config.json"
    configuration.write_text(json.dumps({"lora_alpha": 32, "target_modules": ["a", "b"]}))
    os.utime(configuration, (0, 0))
    step = steps.begin(TUNING, made.study)  # the toy's own was put aside
    about = {"lora_alpha": 32, "target_modules": ["a", "b"], "base_model_name_or_path": "here"}
    steps.write_text(step.path("adapter/adapter_config.json"), json.dumps(about))
    steps.write_text(step.path("adapter/adapter_model.safetensors"), "16 350 0 1 2 ")
    step.finish("adapter", "stages/*/metrics.jsonl")
    about |= {"target_modules": ["b", "a"], "base_model_name_or_path": "elsewhere"}
    configuration.write_text(json.dumps(about))
    assert steps.status(TUNING, made.study)[0], "the order of layers and the place are no change"
    configuration.write_text(json.dumps(about | {"lora_alpha": 256}))
    assert made.why(TUNING) == "adapter is not as it was"
    with pytest.raises(StudyError, match="adapter_config.json is not as 03_qlora_finetune wrote"):
        steps.begin("04_eval", made.study)


def test_an_adapters_card_may_be_edited(made):
    (made.toy.study / "adapter/README.md").write_text("mine")
    assert made.all() == {}


@pytest.mark.parametrize("old", [False, True], ids=["new record", "record without contents"])
def test_damage_that_changes_no_time_is_found_by_the_next_step_and_made_again(made, old):
    if old:
        for name in NAMES:
            done = steps.mark(made.toy.study, name)
            for record in done["outputs"].values():
                record.pop("contents", None)
            steps.write_json(made.toy.study / "steps" / name / "done.json", done)
    weights = made.toy.study / "adapter/adapter_model.safetensors"
    good, times = weights.read_bytes(), weights.stat().st_mtime_ns
    weights.write_bytes(good[:-1] + b"!")
    os.utime(weights, ns=(times, times))
    assert made.all() == {}, "size and time are as they were"
    with pytest.raises(StudyError, match="run 03_qlora_finetune of study tiny again") as refused:
        steps.begin("04_eval", made.study)
    assert "(python -m sm70lib run params/tiny.yml)" in str(refused.value)
    assert made.why(TUNING) == "adapter is not as it was"
    assert list(made.all()) == [TUNING] and weights.read_bytes() == good


def test_a_record_of_an_earlier_version_holds_and_names_the_newer_file(made):
    for name in ("a", "b", "c"):
        steps.write_text(made.toy.study / f"predictions/tuned/{name}.jsonl", name)
    steps.begin("04_eval", made.study)
    for name in ("a", "b", "c"):
        steps.write_text(made.toy.study / f"predictions/tuned/{name}.jsonl", name)
    step = steps.begin("04_eval", made.study)
    step.finish("predictions")
    done = steps.mark(made.toy.study, "04_eval")
    del done["outputs"]["predictions"]["contents"]
    steps.write_json(made.toy.study / "steps/04_eval/done.json", done)
    assert steps.status("04_eval", made.study)[0]
    (made.toy.study / "predictions/tuned/b.jsonl").write_text("damaged")
    step = steps.begin("04_eval", made.study)
    left = sorted(path.name for path in (made.toy.study / "predictions/tuned").iterdir())
    assert left == ["a.jsonl", "c.jsonl"]
    steps.write_text(made.toy.study / "predictions/tuned/b.jsonl", "b")
    step.finish("predictions")
    now = steps.mark(made.toy.study, "04_eval")["outputs"]["predictions"]
    assert now["sha256"] == done["outputs"]["predictions"]["sha256"]
    assert set(now["contents"]) == {f"tuned/{name}.jsonl" for name in "abc"}


def test_a_record_keeps_its_digest_where_damage_changed_no_time(tmp_path):
    file = tmp_path / "f/x"
    steps.write_text(file, "good")
    for drop in ("contents", ""):
        known = files.record(tmp_path / "f")
        known.pop(drop, None)
        times = file.stat().st_mtime_ns
        file.write_text("evil")
        os.utime(file, ns=(times, times))
        assert files.record(tmp_path / "f", known)["sha256"] == known["sha256"]
        assert files.changed(tmp_path / "f", known, thorough=True)
        file.write_text("good")


# ---- marks ---------------------------------------------------------------------------------------

KEY = '{"parameters": {}, "inputs": {}, "code": {}}'
BROKEN = {
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "a text": b'"done"',
    "an empty object": b"{}",
    "cut short": b'{"key": {',
    "not UTF-8": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "key is a list": b'{"key": []}',
    "parts are missing": b'{"key": {"parameters": {}}, "outputs": {}}',
    "outputs is null": f'{{"key": {KEY}, "outputs": null}}'.encode(),
    "a record is a text": f'{{"key": {KEY}, "outputs": {{"adapter": "x"}}}}'.encode(),
    "a folder": None,
    "a dangling link": None,
}


@pytest.mark.parametrize("kind", ["done", "begun", "merged"])
def test_a_broken_mark_is_named_and_put_aside_and_nothing_else_is_lost(made, capsys, kind):
    before = content(made.toy.study)
    forms = [form for form in BROKEN if kind == "done" or "record" not in form]
    forms = [form for form in forms if kind == "done" or "outputs" not in form]
    if kind == "merged":
        forms.remove("an empty object")  # which no merged model leaves
    for form in forms:
        break_marks(made, kind, form)
        rows = preflight.outlook(made.study, NAMES, set(), "command")
        why = f"its mark steps/00_base/{kind}.json is broken"
        assert rows[0] == ("00_base", "runs", why), form
        assert not any(steps.status(name, made.study)[0] for name in NAMES), form
        assert len(made.all()) == (7 if kind == "done" else 0), form
        assert content(made.toy.study) == before, form
        assert capsys.readouterr().out.count("is not as written; put aside") == 7, form
    assert made.all() == {} and len(forms) >= 10


def break_marks(made, kind: str, form: str) -> None:
    """Damages a mark of every step."""
    for name in NAMES:
        path = made.toy.study / f"steps/{name}/{kind}.json"
        path.unlink(missing_ok=True)
        if form == "a folder":
            path.mkdir()
        elif form == "a dangling link":
            path.symlink_to("nowhere")
        else:
            path.write_bytes(BROKEN[form])


@pytest.mark.parametrize("place", ["steps", f"steps/{TUNING}"])
def test_a_file_in_the_place_of_marks_is_named_and_put_aside(made, place):
    shutil.rmtree(made.toy.study / place)
    (made.toy.study / place).write_text("x")
    assert made.why(TUNING if place != "steps" else "00_base").startswith("its mark steps")
    assert made.all()
    assert made.all() == {}


def test_list_names_a_broken_mark_and_nothing_is_a_traceback(made):
    (made.toy.study / f"steps/{TUNING}/done.json").write_text("[1]")
    ended = made.toy.run("--list")
    assert ended.returncode == 0 and ended.stderr == ""
    row = next(line for line in ended.stdout.splitlines() if line.startswith(TUNING))
    assert row.split()[1] == "runs" and "its mark steps/03_qlora_finetune/done.json" in row


def test_the_same_command_makes_again_what_is_damaged(made):
    """The runner names it on the terminal, in one sentence, and goes on by itself."""
    (made.toy.study / "predictions/tuned/a.jsonl").write_text("damaged")
    ended = made.toy.run()
    assert ended.returncode == 0 and ran(ended) == ["04"], ended.stderr
    assert (
        ended.stdout.count("04_eval: predictions/tuned/a.jsonl is not as written; put aside") == 1
    )
    assert (made.toy.study / "predictions/tuned/a.jsonl").read_text().startswith("16 350")


def test_the_report_refuses_a_table_that_is_not_as_it_was_recorded(made):
    report._require_as_written(made.toy.study)
    for file, name in (("tables/main.csv", NAMES[6]), ("tables/errors.csv", NAMES[5])):
        path = made.toy.study / file
        times = path.stat().st_mtime_ns
        path.write_bytes(b"~" * path.stat().st_size)
        os.utime(path, ns=(times, times))
        with pytest.raises(StudyError, match=f"{path.name} is not as {name} wrote it: run {name}"):
            report._require_as_written(made.toy.study)
        assert list(made.all()) == [name]
        report._require_as_written(made.toy.study)


def test_the_report_of_a_study_of_somebody_else_refuses_it_too(made, monkeypatch):
    """Its mark cannot be written, by which the next command would make the table again."""

    def no_permission(*_):
        raise PermissionError(13, "Permission denied", "done.json")

    (made.toy.study / "tables/main.csv").write_text("damaged")
    monkeypatch.setattr(damage, "distrust", no_permission)
    with pytest.raises(StudyError, match=f"main.csv is not as {NAMES[6]} wrote it"):
        report._require_as_written(made.toy.study)


def test_advice_names_a_command_that_exists(monkeypatch):
    monkeypatch.delenv(replaced.COMMAND, raising=False)
    assert replaced.runs("tiny") == "python -m sm70lib run params/tiny.yml"
    overlay = replaced.runs("sm70-7b-epochs")
    for word in overlay.split()[4:]:
        assert (steps.ROOT / word).is_file() or word == "FILE"
    assert replaced.runs("mine") == "python -m sm70lib run FILE"
    monkeypatch.setenv(replaced.COMMAND, "mine python -m sm70lib run a.yml -p study mine")
    assert replaced.runs("mine") == "python -m sm70lib run a.yml -p study mine"
    assert keys.maker("nowhere") == ""
