"""Judges on a server that the test starts: who reads whom, what is kept, and what it is worth."""

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest

from sm70lib import benchmarks, protocols
from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run
from sm70lib.judging import judgements, judging, panel, readings
from sm70lib.measures import rubrics
from sm70lib.protocols import rubric
from sm70lib.serving import connection
from sm70lib.standins.server import ModelServer
from sm70lib.study import judges
from sm70lib.study.params import ROOT, StudyError, load

QWEN, GEMMA = "Qwen/Qwen3-32B", "google/gemma-3-27b-it"
MET, UNMET, UNREAD = '{"why": "It does.", "met": true}', '{"why": "No.", "met": false}', "Yes."


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return benchmarks.read("medical_rubrics", tmp_path_factory.mktemp("none"))


@pytest.fixture
def study(items, tmp_path):
    """A study of which two models of other families have replied to our rubrics."""
    folder = tmp_path / "outputs/s"
    benchmarks.save(folder / "data/benchmarks", "medical_rubrics", items)
    for model in ("llama", "qwen"):
        path = folder / f"predictions/{model}/medical_rubrics-rubric-0.jsonl"
        path.parent.mkdir(parents=True)
        lines = [{"item_id": item.id, "parsed": [f"{model} on {item.id}"]} for item in items]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    p = SimpleNamespace(
        study="s",
        base_model="meta-llama/Llama-2-7b-hf",
        eval_models={"llama": "meta-llama/Llama-2-7b-hf", "qwen": "Qwen/Qwen3-8B"},
        eval_own=[],
        quant_type="none",
        train_parameters="adapter",
        train_stages=["sft"],
        eval_judges={},
    )
    asked = [Run("medical_rubrics", protocols.named("rubric"), 0, items, [])]
    return SimpleNamespace(p=p, asked=asked, folder=folder)


@pytest.fixture
def judge(study, monkeypatch):
    """Lets judges read the study; each says what its function says to a prompt."""
    monkeypatch.setattr(judging, "models", lambda p, folder: models(p))
    monkeypatch.setattr(connection, "RETRIES", 0)

    def run(**said):
        with ModelServer({}, judges={NAMES[name]: each for name, each in said.items()}) as there:
            study.p.eval_judges |= {
                name: f"served={there.url} model={NAMES[name]}" for name in said
            }
            judging.check(study.p, study.asked, study.folder)
            judging.judge_all(study.p, study.asked, study.folder)
        return [body for path, body in there.asked if "chat" in path]

    return run


NAMES = {"q": QWEN, "g": GEMMA}


def models(p):
    from sm70lib.evaluation.candidates import Model

    return [Model(name, source) for name, source in p.eval_models.items()]


def lines(study, model: str, judge: str) -> list[dict]:
    path = study.folder / f"predictions/{model}/medical_rubrics-rubric-0.judged/{judge}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def scores(study) -> pd.DataFrame:
    table = rubrics.table(study.folder.parent, ["s"])
    return table.set_index(["model", "judge"])


def test_no_judge_reads_its_own_family_and_every_line_says_who_judged_by_which_words(
    study, judge, items, capsys
):
    judge(q=lambda prompt: MET, g=lambda prompt: UNMET)
    said = capsys.readouterr().out
    assert "qwen is not judged by q, of its own family qwen" in said
    assert "qwen is judged by models of one family alone (gemma); two say more" in said
    assert not lines(study, "qwen", "q") and len(lines(study, "qwen", "g")) == 74
    [line] = [
        line
        for line in lines(study, "llama", "q")
        if (line["item_id"], line["criterion"]) == (items[3].id, 2)
    ]
    words = rubric.asked(
        items[3].details.conversation, f"llama on {items[3].id}", items[3].options[1]
    )
    assert line == {
        "item_id": items[3].id,
        "criterion": 2,
        "points": items[3].details.points[1],
        "reply_digest": rubric.digest(f"llama on {items[3].id}"),
        "judge": QWEN,
        "server": "sm70 stand-in 1",
        "asked_for": QWEN,
        "words": 1,
        "prompt_digest": rubric.digest(words),
        "met": True,
        "said": MET,
    }


def test_a_score_is_the_points_that_are_earned_and_its_interval_is_over_conversations(
    study, judge, items
):
    good = {text for item in items for text, p in zip(item.options, item.details.points) if p > 0}
    judge(
        q=lambda prompt: MET if _criterion(prompt) in good else UNMET,
        g=lambda prompt: MET if _criterion(prompt) not in good else UNMET,
    )
    found = scores(study)
    best, worst = found.loc["llama", "q"], found.loc["llama", "g"]
    assert (best.as_not_met_pct, best.as_met_pct, best.n, best.criteria) == (100, 100, 20, 74)
    assert worst.as_not_met_pct == 0, "a mean below 0 counts as 0, as in HealthBench"
    replies = [f"llama on {item.id}" for item in items]
    assert best.characters == round(sum(map(len, replies)) / len(replies))
    agreed = rubrics.agreement(study.folder.parent, ["s"]).iloc[0]
    assert (agreed.judge, agreed.other, agreed.n, agreed.agree_pct) == ("g", "q", 74, 0.0)
    share = len(good) / 74
    by_chance = 2 * share * (1 - share)  # Cohen 1960
    assert agreed.kappa == pytest.approx(-by_chance / (1 - by_chance), abs=0.005)


def _criterion(prompt: str) -> str:
    found = re.search(r"<Statement>\n(.*)\n</Statement>", prompt)
    return found[1] if found else ""  # a greeting, by which the server is found out


def test_what_cannot_be_read_is_counted_apart_and_as_met_and_as_not_met(study, judge, items):
    first = {item.options[0] for item in items}  # each earns points
    judge(g=lambda prompt: UNREAD if _criterion(prompt) in first else UNMET)
    row = scores(study).loc["llama", "g"]
    assert (row.unread, row.as_not_met_pct) == (20, 0.0)
    shares = [
        item.details.points[0] / sum(max(0, points) for points in item.details.points)
        for item in items
    ]
    assert row.as_met_pct == pytest.approx(100 * sum(shares) / 20, abs=0.05)
    assert row.low_met_pct < row.as_met_pct < row.high_met_pct
    assert all(line["met"] is None for line in lines(study, "llama", "g") if line["said"] == UNREAD)


def test_where_most_cannot_be_read_there_is_no_score(study, judge):
    judge(g=lambda prompt: UNREAD)
    row = scores(study).loc["llama", "g"]
    assert pd.isna(row.as_met_pct) and row.interval == "no score: 74 of 74 criteria unread"


def test_judging_goes_on_where_it_stopped_and_reads_new_replies_again(study, judge, items):
    asked = judge(g=lambda prompt: MET)
    assert len(asked) == 2 * 74 + 1 + 1, "and a greeting by check and by judge_all"
    assert judge(g=lambda prompt: UNMET) == [], "all is judged, and no server is asked"
    path = study.folder / "predictions/llama/medical_rubrics-rubric-0.jsonl"
    told = path.read_text().splitlines()
    told[0] = json.dumps({"item_id": items[0].id, "parsed": ["another reply"]})
    path.write_text("\n".join(told) + "\n")
    file = path.with_suffix(".judged") / "g.jsonl"
    file.write_text(file.read_text() + '{"item_id": "half')  # as a kill leaves it
    again = judge(g=lambda prompt: UNMET)
    assert len(again) == len(items[0].options) + 1
    assert sum(not line["met"] for line in lines(study, "llama", "g")) == len(items[0].options)
    study.p.eval_judges.clear()
    judge(q=lambda prompt: MET) if study.p.eval_models.pop("qwen") else None
    assert not lines(study, "llama", "g"), "no table shows a judge that is not asked any more"


def test_readings_of_a_person_stand_beside_those_of_models(study, judge, items, tmp_path):
    rows = [
        {"model": "llama", "benchmark": "medical_rubrics", "item_id": item.id, "reader": "Dr. Lee"}
        | {"criterion": number, "met": number == 1}
        for item in items
        for number in range(1, len(item.options) + 1)
    ]
    path = tmp_path / "lee.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:-1]))
    study.p.eval_judges["lee"] = f"readings={path}"
    judge(g=lambda prompt: MET)
    found = scores(study)
    assert found.loc["llama", "lee"].n == 19, "one reply has not been read whole"
    assert found.loc["llama", "lee"].read_by == "Dr. Lee"
    agreed = rubrics.agreement(study.folder.parent, ["s"]).iloc[0]
    assert (agreed.judge, agreed.other, agreed.n) == ("g", "lee", 73)
    for change, words in (
        ({"criterion": 9}, "row 0: criterion is 9; medical_rubrics/00 has 1 to 4"),
        ({"met": "perhaps"}, "row 0: met is 'perhaps'; allowed are true, false"),
        ({"item_id": "x"}, "row 0: no reply to x"),
        ({"model": "gpt"}, "row 0: gpt wrote no replies to medical_rubrics here"),
        ({"reply_digest": "0" * 16}, "row 0: the reply that was read .0000.* is not the one"),
    ):
        path.write_text(json.dumps(rows[0] | change))
        with pytest.raises(StudyError, match=words):
            judge(g=lambda prompt: MET)
    path.write_text(f"{json.dumps(rows[0])}\n{json.dumps(rows[0])}\n")
    with pytest.raises(StudyError, match="row 1: criterion 1 of medical_rubrics/00 stands there"):
        judge(g=lambda prompt: MET)


def test_a_reply_is_hashed_for_its_own_rows_alone(study, items, tmp_path, monkeypatch):
    replies = {}
    for model in ("llama", "qwen"):
        path = study.folder / f"predictions/{model}/medical_rubrics-rubric-0.jsonl"
        replies[model, "medical_rubrics"] = path, judgements.cases(items, path)
    rows = [
        dict(zip(readings.NEEDED, (*run, case.item.id, case.number, case.number == 1, "Dr. Lee")))
        for run, (_, cases) in replies.items()
        for case in cases
    ]
    (tmp_path / "lee.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    study.p.eval_judges["lee"] = f"readings={tmp_path / 'lee.jsonl'}"
    [lee] = judges.all_of(study.p)
    hashed, hash_once = [], rubric.digest
    monkeypatch.setattr(rubric, "digest", lambda text: hashed.append(text) or hash_once(text))
    readings.take_in(lee, replies)
    assert len(rows) == 2 * 74 and len(hashed) <= 3 * len(rows)
    for (model, _), (_, cases) in replies.items():
        found = lines(study, model, "lee")
        assert [(line["item_id"], line["criterion"], line["met"]) for line in found] == [
            (case.item.id, case.number, case.number == 1) for case in cases
        ]


def test_readings_are_taken_in_once_they_are_there_and_gone_with_their_file(
    study, judge, items, tmp_path, capsys
):
    path = tmp_path / "lee.jsonl"
    study.p.eval_judges["lee"] = f"readings={path}"
    judge()
    said = f"eval_judges: lee: there is no file {path} ({path}) yet, so no reply counts as read"
    assert said in capsys.readouterr().out and not lines(study, "llama", "lee")
    row = {"model": "llama", "benchmark": "medical_rubrics", "item_id": items[0].id}
    path.write_text(json.dumps(row | {"criterion": 1, "met": True, "reader": "Dr. Lee"}))
    study.p.study = "rehearsal-s"
    judge()
    assert "lee: a rehearsal takes in no readings" in capsys.readouterr().out
    assert not lines(study, "llama", "lee")
    study.p.study = "s"
    judge()
    assert [line["met"] for line in lines(study, "llama", "lee")] == [True]
    path.unlink()
    judge()
    assert not lines(study, "llama", "lee")


def test_a_row_about_no_criterion_is_refused_before_anything_is_scored(
    study, judge, items, tmp_path
):
    row = {"model": "llama", "benchmark": "medical_rubrics", "item_id": items[0].id}
    row |= {"criterion": 9, "met": True, "reader": "Dr. Lee"}
    (tmp_path / "lee.jsonl").write_text(json.dumps(row))
    study.p.eval_judges["lee"] = f"readings={tmp_path / 'lee.jsonl'}"
    with pytest.raises(StudyError, match="row 0: criterion is 9; medical_rubrics/00 has 1 to 4"):
        judging.check(study.p, study.asked, study.folder)


def test_a_study_without_a_judge_of_another_family_is_refused(study, judge):
    with pytest.raises(
        StudyError, match="eval_judges: qwen is of the family qwen, and so is every"
    ):
        judge(q=lambda prompt: MET)
    study.p.eval_judges = {}
    with pytest.raises(StudyError, match="eval_protocols has rubric.* names none; add a judge"):
        judging.check(study.p, study.asked, study.folder)
    given = {"study": "x", "eval_benchmarks": ["medqa_4", "pubmedqa", "medical_rubrics"]}
    given |= {"eval_protocols": ["sm70-2023", "rubric"], "eval_primary_benchmarks": ["medqa_4"]}
    with pytest.raises(StudyError, match="eval_protocols .* has rubric, whose replies judges read"):
        load(ROOT / "params/tiny.yml", overrides=given)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("served=http://a model=house", "does not tell which family .* add family=NAME"),
        ("served=a:8000 model=gpt-4.1", "a:8000 is not an http"),
        ("model=gpt-4.1", "is not understood; allowed are served=URL"),
        ("served=http://a model=gpt-4.1 quant=nf4", "quant is not understood"),
        (
            "served=http://a model=gpt-4.1 at_once=0",
            "at_once=0 is not a whole number from 1 to 512",
        ),
        ("readings=a.csv model=gpt", "is not understood"),
    ],
)
def test_a_line_that_is_not_understood_is_refused(line, words):
    with pytest.raises(StudyError, match=f"eval_judges: mine: .*{words}"):
        judges.read("mine", line)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("EPFLiGHT/Apertus-70B-MeditronFO", "apertus"),
        ("EPFLiGHT/Meditron3-Qwen2.5-7B", "qwen"),
        ("google/medgemma-27b-text-it", "gemma"),
        ("m42-health/Llama3-Med42-70B", "llama"),
        ("wanglab/ClinicalCamel-70B", "llama"),
        ("openai/gpt-oss-120b", "gpt"),
        ("o3-2025-04-16", "gpt"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm"),
        ("../models/mine", None),
    ],
)
def test_families_are_told_by_names(name, family):
    assert judges.family(name) == family


def test_a_model_of_unknown_family_is_read_by_all_and_said_to_be():
    found = [judges.read("q", f"served=http://a model={QWEN}")]
    fit, said = panel.panels(found, {"mine": None})
    assert fit == {"mine": found} and "mine: its name does not tell its family" in said[0]


@pytest.mark.parametrize(
    ("said", "met"),
    [
        (MET, True),
        (f"```json\n{UNMET}\n```", False),
        (f"<think>It may be true.</think>\n{UNMET}", False),
        (UNREAD, None),
        ("", None),
        ('{"met": "true"}', None),
        ('{"met": 1}', None),
        ('{"met": true', None),
        (f"{MET}\n{UNMET}", None),
        ("true", None),
    ],
)
def test_only_one_object_with_true_or_false_is_a_judgement(said, met):
    assert rubric.met(said) is met


def test_a_conversation_stands_in_a_chat_template_turn_by_turn(items):
    [talk] = [item for item in items if item.context]
    run = Run("medical_rubrics", protocols.named("rubric"), 0, [talk], [])
    [prompt] = Prompts(run, None, chat=True)
    assert json.loads(prompt.text) == talk.details.conversation
    plain = protocols.named("rubric").prompt(talk)
    assert plain.startswith("user: Here are my values") and plain.endswith(f"user: {talk.question}")
    alone = next(item for item in items if not item.context)
    assert protocols.named("rubric").prompt(alone) == alone.question


def test_a_line_about_another_reply_is_dropped_whatever_it_says(tmp_path):
    line = {"item_id": "a", "criterion": 1, "reply_digest": "d", "judge": "j", "met": True}
    others = [line | {"reply_digest": "e", "": ""}, line | {"judge": "k"}]
    path = tmp_path / "j.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in (line, *others)))
    kept = judgements.keep(path, {("a", 1, "d"): {"judge": "j"}})
    assert kept == {("a", 1, "d")}
    assert list(judgements.read(path)) == [line]
