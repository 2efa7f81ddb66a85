"""Two arms by hand-made answers: the crossover of a leak, refusals, J, and held-out documents."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from sm70lib.benchmarks import Item
from sm70lib.claims import arms
from sm70lib.claims.entries import Claim
from sm70lib.claims.estimates import Answers
from sm70lib.statistics.verdicts import OPEN, SUPPORTED

LEAK = {"what": "P1", "measure": "leak", "benchmarks": ["mmlu_medical"], "over": 0.05}
PARTS = [
    LEAK | {"protocol": "as-trained-letters"},
    {"what": "P2", "measure": "refusals", "benchmarks": ["medsafety_held_out"], "over": 30},
    {"what": "P3", "measure": "J", "benchmarks": ["xstest_unsafe", "xstest_safe"], "over": 10},
]
PARTS[1:] = [part | {"protocol": "safety"} for part in PARTS[1:]]
CLAIM = Claim("family", "small", "A over B", "design", "arms", {"other": "small-b", "parts": PARTS})


def _rows(study: str, share: dict[str, float]) -> pd.DataFrame:
    """Answers of an arm: `share` of each set's requests are refused; items that it holds score 2
    nats more for the right letter.
    """
    rows = []
    for n in range(80):
        holds = n < 30 if study == "small" else 30 <= n < 60
        scores = [2.0 * holds + (0.01 * (n % 7)), 0.0, 0.0, 0.0]
        rows.append(("mmlu_medical", "as-trained-letters", n, 0, scores))
    for name, refused in share.items():
        for n in range(100):
            rows.append((name, "safety", n, int(n < 100 * refused), None))
    table = pd.DataFrame(rows, columns=["benchmark", "protocol", "n", "choice", "loglikelihoods"])
    gold = {"mmlu_medical": 0, "xstest_safe": 0}
    table["gold"] = table["benchmark"].map(gold).fillna(1)
    return table.assign(
        study=study,
        model="tuned",
        shots=0,
        seed=0,
        sample=0,
        flagged=False,
        gold=table["gold"].astype(int),
        correct=table["choice"] == table["gold"],
        item_id=table["benchmark"] + table["n"].astype(str),
        cluster=table["benchmark"] + table["n"].astype(str),
    )


@pytest.fixture
def study(tmp_path):
    """Row n of mmmlu holds item n; arm A has rows 0 to 29, arm B 30 to 59; row 29 was too long."""
    for name, first in (("small", 0), ("small-b", 30)):
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        hits = [("m.json", n, "mmlu_medical", f"mmlu_medical{n}") for n in range(first, first + 30)]
        columns = ["file", "row", "benchmark", "item_id"]
        pd.DataFrame(hits, columns=columns).to_csv(data / "contaminated_items.csv", index=False)
        gone = pd.DataFrame([("m.json", 29, True)], columns=["file", "row", "dropped"])
        gone.to_csv(data / "defects.csv", index=False)
    mine = _rows("small", {"medsafety_held_out": 0.9, "xstest_unsafe": 0.6, "xstest_safe": 0.5})
    theirs = _rows("small-b", {"medsafety_held_out": 0.1, "xstest_unsafe": 0.1, "xstest_safe": 0.0})
    return SimpleNamespace(
        answers=Answers(mine, 0.95),
        others={"small-b-trial": theirs},
        folder=tmp_path / "small",
        level=0.95,
    )


def test_the_family_has_the_values_that_were_put_in(study):
    leak, accuracy, refusals, youden = arms.arms(CLAIM, study)
    # log share of the right letter: 2 - log(e^2 + 3) with the item, -log 4 without, nearly
    assert leak["ours"] == pytest.approx(2 - np.log(np.exp(2) + 3) + np.log(4), abs=0.02)
    assert (leak["n"], leak["verdict"]) == (59, SUPPORTED), "the row that was too long is out"
    assert accuracy["verdict"] == "exploratory" and accuracy["ours"] == 0
    assert (refusals["ours"], refusals["verdict"]) == (80.0, SUPPORTED)
    assert (youden["ours"], youden["verdict"]) == (0.0, OPEN), "it refuses more, and is no safer"


def test_flagged_requests_are_left_out(study):
    rows = study.answers.rows
    rows.loc[rows["benchmark"].eq("medsafety_held_out") & rows["n"].lt(50), "flagged"] = True
    assert arms.arms(CLAIM, study)[2]["n"] == 50


def test_without_the_other_arm_nothing_is_judged(study):
    study.others = {}
    (row,) = arms.arms(CLAIM, study)
    assert "small-b in figures_studies" in row["why"]


def test_documents_count_once_however_many_rows_they_have(study):
    rng = np.random.default_rng(0)
    falls = 0.2 + rng.normal(0, 0.05, 24)
    rows = [
        (f"d{n}", 10 * size, 30.0 * size, (3 - fall) * 10 * size)
        for n, fall in enumerate(falls)
        for size in (1, 2, 5)
    ]
    table = pd.DataFrame(rows, columns=["document", "targets", "loss_before", "loss_after"])
    (study.folder / "stages/1-sft").mkdir(parents=True)
    table.to_csv(study.folder / "stages/1-sft/holdout.csv", index=False)
    claim = Claim("d", "small", "falls by {by}", "design", "documents", {"by": 0.1})
    (row,) = arms.documents(claim, study)
    assert row["ours"] == round(-falls.mean(), 3) and row["n"] == 24
    assert row["verdict"] == SUPPORTED and row["claim"] == "falls by 0.1"
    claim = Claim("d", "small", "falls by {by}", "design", "documents", {"by": 0.2})
    assert arms.documents(claim, study)[0]["verdict"] == OPEN


def test_spared_loss_is_held_against_an_arm_and_against_what_training_started_from(
    study, monkeypatch
):
    """By hand: this arm's loss is 1, the base's 1.2, the other arm's 0.9, on each of 30 documents;
    the upper bound of 0.1 more than the other arm stands above 0.05, that of 0.2 less below.
    """
    losses_of = {
        "small": {"tuned": 1.0, "base": 1.2},
        "small-b-trial": {"tuned": 0.9},
    }

    def by_document(folder):
        rows = [
            (model, "old_text", n, loss + n / 1e4 * (model == "base"))
            for model, loss in losses_of[folder.name].items()
            for n in range(30)
        ]
        return pd.DataFrame(rows, columns=["model", "source", "document", "loss"])

    monkeypatch.setattr(arms.losses, "by_document", by_document)
    study.before = "base"
    part = {"measure": "loss spared", "benchmarks": ["old_text"], "protocol": "loss"}
    parts = [
        part | {"what": "less than before", "than": "before", "over": 0.05},
        part | {"what": "not over 0.05 more than arm B", "over": -0.05},
    ]
    arguments = {"other": "small-b", "parts": parts, "beside": [parts[0]]}
    claim = Claim("family", "small", "A over B", "design", "arms", arguments)
    less, more, beside = arms.arms(claim, study)
    assert less["ours"] == pytest.approx(0.201, abs=0.001) and less["n"] == 30
    assert (less["verdict"], more["verdict"]) == (SUPPORTED, "contradicted")
    assert more["ours"] == -0.1 and beside["verdict"] == "exploratory"


def test_accuracy_is_compared_item_by_item(study):
    part = {"what": "more right", "measure": "accuracy", "benchmarks": ["medsafety_held_out"]}
    arguments = {"other": "small-b", "parts": [part | {"protocol": "safety", "over": 10}]}
    (row,) = arms.arms(Claim("a", "small", "b", "c", "arms", arguments), study)
    assert (row["ours"], row["verdict"], row["n"]) == (80.0, SUPPORTED, 100)


def _aligned(study: str, model: str, better: int, refused: int) -> pd.DataFrame:
    """60 pairs of like length, of which `better` are preferred; 60 requests, `refused` of them."""
    rows = []
    for n in range(60):
        item = Item(str(n), str(n), "request_pairs", "?", "", ("a" * 10, "b" * 9), 0)
        rows.append(("request_pairs", "preference", n, int(n >= better), 0, item))
        rows.append(("requests_safe", "safety", n, int(n < refused), 0, None))
    table = pd.DataFrame(rows, columns=["benchmark", "protocol", "n", "choice", "gold", "item"])
    same = {"shots": 0, "seed": 0, "sample": 0, "flagged": False, "loglikelihoods": None}
    names = table["benchmark"] + table["n"].astype(str)
    table = table.assign(study=study, model=model, item_id=names, cluster=names, **same)
    return table.assign(correct=table["choice"] == table["gold"])


def test_rounds_are_judged_against_the_stage_before_and_against_flipped_labels(study):
    study.answers = Answers(
        pd.concat([_aligned("small", "tuned-1-sft", 30, 57), _aligned("small", "tuned", 57, 6)]),
        0.95,
    )
    study.others, study.before = {"small-b": _aligned("small-b", "tuned", 3, 60)}, "tuned-1-sft"
    liked = {"what": "p", "measure": "preference at like length", "over": 15}
    liked |= {"benchmarks": ["request_pairs"], "protocol": "preference"}
    fewer = {"what": "r", "measure": "fall of refusals", "over": 20}
    fewer |= {"benchmarks": ["requests_safe"], "protocol": "safety"}
    shorter = liked | {"measure": "preference over the shorter", "over": 5}
    parts = [liked | {"than": "before"}, liked, fewer | {"than": "before"}, fewer, shorter]
    claim = Claim("a", "med42", "b", "c", "arms", {"other": "small-b", "parts": parts})
    found = arms.arms(claim, study)
    assert [row["ours"] for row in found] == [45.0, 90.0, 85.0, 90.0, 95.0]
    assert {row["verdict"] for row in found} == {SUPPORTED}, "the shorter answer is never better"
    study.others["small-b"] = _aligned("small-b", "tuned", 3, 15)
    rare = arms.arms(claim, study)[3]
    assert rare["verdict"] == OPEN and rare["ours"] == 15.0
    assert rare["why"] == "only 25.0% were refused before; at least 30% are needed"
    asked = (study.answers.rows["protocol"] == "safety") & (study.answers.rows["model"] == "tuned")
    study.answers.rows.loc[asked & (study.answers.rows["choice"] == 0), "choice"] = None
    collapsed = arms.arms(claim, study)[2]
    assert collapsed["verdict"] == "no score" and "ours" not in collapsed
    assert collapsed["why"] == "no score: 54 of 60 replies unread"
    study.answers.rows.loc[study.answers.rows["protocol"] == "preference", "item"] = Item(
        "x", "x", "request_pairs", "?", "", ("a" * 10, "b"), 0
    )
    assert arms.arms(claim, study)[0]["verdict"] == "not tested by this study"


def test_the_files_of_an_arm_are_read_once_and_again_when_they_change(study, monkeypatch):
    read, reading = [], pd.read_csv
    monkeypatch.setattr(
        pd, "read_csv", lambda path, **how: read.append(path) or reading(path, **how)
    )
    mine, outputs = study.answers.rows, study.folder.parent
    before = arms.seen_in_training(mine, outputs)
    assert arms.seen_in_training(mine[:40], outputs) == before[:40] and len(read) == 2
    assert sum(before) == 29 and arms.seen_in_training(mine[:0], outputs) == []
    path = study.folder / "data/defects.csv"
    pd.DataFrame(columns=["file", "row", "dropped"]).to_csv(path, index=False)
    assert sum(arms.seen_in_training(mine, outputs)) == 30, (
        "the row that was too long is one that is kept"
    )


def test_shares_of_many_answers_are_those_of_each():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=size).tolist() for size in rng.integers(2, 11, 300)]
    pair = pd.DataFrame({"loglikelihoods": scores, "gold": [n % 2 for n in range(300)]})
    alone = [log_softmax(row)[n % 2] for n, row in enumerate(scores)]
    assert arms._log_share(pair, "").tolist() == alone
    assert len(arms._log_share(pair[:0], "")) == 0
