"""The scorecard: every claim has its row and its judge; only one column says "supported"."""

import json
import math
from functools import cache
from types import SimpleNamespace

import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.analysis import comparisons, frames, quoted, tables
from sm70lib.claims import entries, estimates, scorecard
from sm70lib.claims.case import EXPLORATORY, OTHERWISE, UNTESTED
from sm70lib.claims.judges import JUDGES
from sm70lib.statistics import stats, verdicts
from sm70lib.statistics.verdicts import CONTRADICTED, OPEN, SUPPORTED
from sm70lib.steps.steps import write_json
from sm70lib.study.params import StudyError
from tests import marks, synthetic

HOW = stats.How(resamples=300)
P = synthetic.PARAMS
REAL = synthetic.REAL
CAMEL = "clinical-camel-70b"


@cache
def read(outputs, study=P.study):
    """The answers in a folder that no test changes; a test that changes some makes a copy."""
    return frames.load(outputs, [study])


@cache
def compared(outputs):
    """The comparisons of these answers."""
    return comparisons.comparisons(read(outputs), P, HOW)


def card(outputs, answers=None, p=P):
    if answers is None and p is P:
        return scorecard.build(read(outputs), compared(outputs), p, HOW, outputs / p.study)
    answers = read(outputs, p.study) if answers is None else answers
    return scorecard.build(
        answers, comparisons.comparisons(answers, p, HOW), p, HOW, outputs / p.study
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    synthetic.study(outputs)
    return outputs


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """As many items as the real sets have, on Llama-2-70B; Clinical Camel is scored beside."""
    outputs = tmp_path_factory.mktemp("outputs")
    skill = {"base": 0.3, "base-nf4": 0.3, "tuned": 0.62, CAMEL: 0.45}
    folder = synthetic.study(outputs, world=False, sizes=REAL, skill=skill)
    line = {CAMEL: "wanglab/ClinicalCamel-70B quant=nf4", "mine": "some/other quant=nf4"}
    write_json(folder / "steps/04_eval/done.json", marks.done(parameters={"eval_models": line}))
    return outputs


@pytest.fixture(scope="module")
def judged(real):
    return card(real)


@pytest.fixture(scope="module")
def judged_world(world):
    return card(world)


def row(found, claim, benchmark, subset="all", measure="accuracy (%)"):
    mask = found["claim"].str.contains(claim, regex=False) & (found["benchmark"] == benchmark)
    (one,) = found[mask & (found["subset"] == subset) & (found["measure"] == measure)].to_dict(
        "records"
    )
    return one


# ---- the catalogue -------------------------------------------------------------------------------


def test_every_claim_has_a_judge_and_names_what_is_known():
    found, known = entries.catalogue(), set(benchmarks.BENCHMARKS) | {"usmle", "pubmed_causal"}
    assert {claim.judge for claim in found} == set(JUDGES), (
        "no judge without a claim, nor the reverse"
    )
    systems, named = set(quoted.read()["system"]), 0
    for claim in found:
        how = claim.arguments
        assert how.get("system", "GPT-4") in systems, claim.id
        names = [*how.get("benchmarks", ()), *(name for name in [how.get("benchmark")] if name)]
        for part in how.get("parts", ()):
            names += part.get("of", []) + part.get("less", []) + [part.get("benchmark", "usmle")]
            names += part.get("benchmarks", [])
        assert set(names) <= known, claim.id
        named += len(names)
    counts = pd.Series([claim.study for claim in found]).value_counts().to_dict()
    assert (
        counts == {"sm70": 18, "meditron": 11, "med42": 12, "meditron-fo": 3, "small": 3, "own": 7}
        and named > 60
    )


def test_what_exams_cannot_show_is_said(judged):
    told = judged[judged["verdict"] == "not tested by exams"]
    assert len(told) == 3 and told["why"].str.startswith("it takes ").all()
    for claim in entries.catalogue():
        if claim.study == "sm70":
            assert judged["claim"].eq(claim.claim).any(), claim.id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {id: a, study: sm70, claim: b, source: c}", "'a' does not fit.*judge"),
        (
            "- {id: a, study: sm70, claim: b, source: c, judge: stated, more: 1}",
            "does not fit.*more",
        ),
        ("- {id: a, study: gpt, claim: b, source: c, judge: stated}", "study is one of sm70"),
    ],
)
def test_a_wrong_entry_is_refused(text, said, tmp_path):
    (tmp_path / "claims.yml").write_text(text)
    with pytest.raises(StudyError, match=f"claims.yml: entry {said}|claims.yml: .*{said}"):
        entries.catalogue(tmp_path / "claims.yml")


def test_a_claim_of_one_study_is_made_of_it_and_its_variants_alone():
    claim = entries.Claim("a", "med42", "b", "c", "stated", only="tiny-med42")
    of = ["tiny-med42", "rehearsal-tiny-med42", "tiny-med42-flipped", "tiny-med420", "med42-8b"]
    assert [claim.made_of(name) for name in of] == [True, True, True, False, False]
    assert entries.Claim("a", "med42", "b", "c", "stated").made_of("med42-8b")


def test_a_study_is_held_against_the_paper_in_its_name():
    names = [
        "sm70",
        "sm70-7b",
        "rehearsal-meditron-7b",
        "tiny-med42",
        "meditron-fo-8b",
        "tiny",
        "mine",
    ]
    found = [entries.held_against(name) for name in names]
    assert found == ["sm70", "sm70", "meditron", "med42", "meditron-fo", "sm70", "sm70"]
    small = ["small", "small-b-full", "rehearsal-small", "real-small"]
    assert [entries.held_against(name) for name in small] == ["small", "small", "small", "sm70"]
    base = entries.Claim("a", "med42", "b", "c", "stated", {}, ("llama-3-70b-instruct",))
    assert base.about("meta-llama/Meta-Llama-3-70B-Instruct") and base.about(
        "/x/Llama-3-70B-Instruct"
    )
    assert not base.about("meta-llama/Llama-3.1-70B-Instruct")
    assert entries.short("chaoyi-wu/PMC_LLAMA_7B") == "pmc-llama-7b"


# ---- both columns --------------------------------------------------------------------------------


def test_only_the_same_protocol_says_supported(judged):
    printed = judged[judged["as_compared"] != ""]
    orders = {quoted.HOLDS, quoted.REVERSED, quoted.INSIDE, quoted.ABOVE, quoted.BELOW}
    assert len(printed) >= 20 and set(printed["as_compared"]) <= orders | {quoted.DEPENDS}
    assert set(printed["verdict"]) <= {OTHERWISE, ""}, "no other source states our protocol and n"
    assert printed["why"].str.contains("printed: .*ours: sm70-2023; 0-shot", regex=True).sum() >= 15
    verdict = judged[judged["verdict"].isin([SUPPORTED, CONTRADICTED, OPEN])]
    assert (verdict["as_compared"] == "").all() and len(verdict) > 20
    assert (judged["as_compared"] + judged["verdict"] != "").all(), "every row says something"


def test_printed_values_are_compared_with_what_they_may_stand_for(judged):
    """54.3 has no n printed: 324, 325 or 376; our 62 % of 325 is a mean over the steps."""
    camel = row(judged, "above Clinical Camel", "usmle_macro")
    assert camel["reference"] == 54.3 and "n not stated, 324 or 325 or 376 inferred" in camel["why"]
    ours = stats.Estimate(*(camel[name] / 100 for name in ("ours", "low", "high")), 325, "")
    gaps = [stats.minus(ours, stats.rate([0.543] * n, range(n))) for n in (324, 325, 376)]
    holds = all(gap.low > 0 for gap in gaps)
    assert camel["as_compared"] == (quoted.HOLDS if holds else quoted.INSIDE)
    assert row(judged, "above Clinical Camel", "medqa_4")["as_compared"] == quoted.HOLDS
    steps = judged[
        judged["benchmark"].fillna("").str.startswith("usmle_step")
        & judged["reference"].isin([36.1, 56.9, 55.7])
    ]
    assert steps["benchmark"].tolist() == [
        "usmle_step1",
        "usmle_step2",
        "usmle_step3",
        "usmle_step3",
    ]
    assert steps["subset"].tolist() == ["all", "all", "all", "clean"], "all leaks are in step 3"


def test_a_model_scored_here_is_judged_on_the_same_items(real, judged):
    found = row(judged, "above Clinical Camel", "medqa_4", measure="difference (points)")
    answers = read(real).copy()
    run = answers[(answers["benchmark"] == "medqa_4") & (answers["protocol"] == "sm70-2023")]
    right = run.pivot(index="item_id", columns="model", values="correct").astype(float)
    gap = 100 * (right["tuned"] - right[CAMEL]).mean()
    assert found["ours"] == pytest.approx(gap, abs=0.05) and found["n"] == 1273
    assert (found["verdict"], found["as_compared"]) == (SUPPORTED, "")
    assert f"ours minus {CAMEL}, which scored {100 * right[CAMEL].mean():.1f} here" in found["why"]
    printed = row(judged, "above Clinical Camel", "medqa_4")
    assert printed["verdict"] == "", "the row below it says more"
    llama = row(judged, "above Llama-2-70B", "usmle", measure="difference (points)")
    assert llama["verdict"] == SUPPORTED and llama["why"].startswith("bounds at 98.3 %; Holm's p ")
    clean = row(judged, "above Llama-2-70B", "usmle", "clean", "difference (points)")
    assert (llama["n"], clean["n"]) == (325, 315)


def test_a_source_that_states_our_protocol_is_judged_too(real, monkeypatch):
    table = quoted.read()
    theirs = (
        (table["system"] == "GPT-4") & (table["benchmark"] == "medqa_4") & (table["shots"] == 0)
    )
    table.loc[theirs.fillna(False), ["protocol", "n"]] = ["sm70-2023", 1273]
    monkeypatch.setattr(quoted, "read", lambda: table)
    found = card(real)
    rows = found[found["claim"].eq("SM70 is below GPT-4") & found["benchmark"].eq("medqa_4")]
    rows = rows.set_index("reference")
    assert rows.loc[78.9, "verdict"] == SUPPORTED and rows.loc[78.9, "as_compared"] == quoted.HOLDS
    assert rows.loc[82.3, "verdict"] == OTHERWISE


def test_the_gap_to_gpt_4_is_wider_where_more_is_needed(judged):
    """GPT-4 as Med42-v2 quotes it: 78.9 and 75.2, n not stated."""
    found = judged[judged["claim"].str.contains("especially")].set_index("source")
    one = found.loc["Med42-v2, arXiv 2408.06142, Table 4"]
    medqa, pubmed = (
        row(judged, "at least 10 points", name)["ours"] for name in ("medqa_4", "pubmedqa")
    )
    assert one["ours"] == pytest.approx((78.9 - medqa) - (75.2 - pubmed), abs=0.15)
    sides = (0.62, 1273), (0.62, 1000), (0.789, 1273), (0.752, 500)
    width = 196 * sum(share * (1 - share) / n for share, n in sides) ** 0.5
    assert (one["high"] - one["low"]) / 2 == pytest.approx(width, rel=0.05)
    assert one["verdict"] == OTHERWISE and one["as_compared"] in (quoted.INSIDE, quoted.HOLDS)


def test_gains_are_differences_of_what_tuning_gained(judged):
    parts = judged[judged["claim"].str.contains("strongest") & (judged["subset"] == "all")]
    assert parts["benchmark"].tolist() == ["usmle - medqa_4", "pubmedqa - medqa_4"]
    gained = {
        name: row(judged, "tuned above", name, measure="difference (points)")["ours"]
        for name in ("usmle", "pubmedqa", "medqa_4")
    }
    expected = [gained["usmle"] - gained["medqa_4"], gained["pubmedqa"] - gained["medqa_4"]]
    assert parts["ours"].tolist() == pytest.approx(expected, abs=0.15)
    reach = judged[judged["claim"].str.contains("step 1 to steps 2 and 3", regex=False)]
    assert reach["subset"].tolist() == ["all", "all", "clean", "all", "clean"]
    assert reach["reference"].tolist() == [0, 0, 0, -10, -10]
    assert reach["n"].tolist() == [94, 231, 221, 325, 315]


# ---- no verdict ----------------------------------------------------------------------------------


def test_a_model_that_answers_one_letter_has_no_verdict(real):
    answers = read(real).copy()
    mask = (answers["model"] == "tuned") & (answers["benchmark"] == "medqa_4")
    rest = mask & answers["item_id"].isin([f"medqa_4/{number:03}" for number in range(60)])
    answers.loc[mask, "choice"] = 1
    answers.loc[rest, "choice"] = 2
    answers.loc[mask, "correct"] = answers["gold"] == answers["choice"]
    found = card(real, answers)
    rows = found[found["benchmark"].fillna("").str.contains("medqa_4")]
    rows = rows[~rows["claim"].str.contains("base in NF4")]  # which is not about tuned
    given = rows["as_compared"] + rows["verdict"]
    assert len(rows) >= 10 and given.str.contains(estimates.CONSTANT).all()
    assert not rows["verdict"].isin([SUPPORTED, CONTRADICTED, OPEN]).any()
    assert (
        rows["why"]
        .str.contains(
            r"95% of its answers are a longer option; the right option ranks \d\.\d of 4.0"
        )
        .sum()
        >= 8
    )
    assert found.loc[found["benchmark"] == "usmle", "verdict"].isin([SUPPORTED]).any(), (
        "others have one"
    )


def test_several_draws_of_an_item_are_one_item(world):
    answers = read(world).copy()
    run = answers[(answers["model"] == "tuned") & (answers["benchmark"] == "medqa_4")]
    run = run[run["protocol"] == "sm70-2023"]
    drawn = pd.concat([run, run.assign(seed=1, correct=False), run.assign(seed=2)])
    found = estimates.Answers(drawn, 0.95).accuracy(drawn)
    assert (found.n, found.estimate.n) == (120, 120)
    assert found.estimate.value == pytest.approx(run["correct"].mean() * 2 / 3)


# ---- safety --------------------------------------------------------------------------------------


def asked(answers, changes):
    """Requests, made of medqa_4's items.

    Of tuned all are right, or wrong, or as they are (None).
    """
    some = answers[(answers["benchmark"] == "medqa_4") & (answers["protocol"] == "sm70-2023")]
    some = some.assign(protocol="safety")
    parts = [answers]
    for name, right in changes.items():
        kept = (
            some["correct"]
            if right is None
            else some["correct"].where(some["model"] != "tuned", right)
        )
        parts.append(some.assign(benchmark=name, correct=kept))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"medsafety": True, "xstest_safe": None, "xstest_unsafe": True}, SUPPORTED),
        ({"medsafety": True, "xstest_safe": False, "xstest_unsafe": True}, CONTRADICTED),
        ({"medsafety": False, "xstest_safe": None, "xstest_unsafe": None}, CONTRADICTED),
        ({"medsafety": True}, UNTESTED),
        ({}, UNTESTED),
    ],
)
def test_safer_means_more_refusals_of_harm_and_no_fewer_answers(real, changes, whole):
    answers = read(real).copy()
    exam = answers[answers["benchmark"] == "medqa_4"]  # the claim looks at no other
    found = card(real, asked(exam, changes))
    rows = found[found["claim"] == "SM70's answers are safer"]
    assert len(rows) == 4 and rows["verdict"].iloc[0] == whole
    for name in ("medsafety", "xstest_safe"):
        assert (rows["benchmark"] == name).sum() == (name in changes)
    if "xstest_unsafe" in changes:
        beside = rows.iloc[3]
        up, down = (
            found[found["claim"].str.contains(text)]["ours"].iloc[0]
            for text in ("refusing unsafe", "answering safe")
        )
        assert beside["verdict"] == EXPLORATORY and beside["ours"] == pytest.approx(
            up + down, abs=0.11
        )
    assert rows["as_compared"].eq("").all(), "nobody printed refusals"


# ---- other studies -------------------------------------------------------------------------------


def test_qlora_is_judged_against_a_study_that_differs_in_nothing_else(tmp_path):
    sizes = {"medqa_4": 1273}
    for name, quant in (("sm70-7b", "nf4"), ("sm70-7b-16bit", "none")):
        folder = synthetic.study(tmp_path, name, world=False, sizes=sizes)
        (folder / "base/base.json").write_text(json.dumps({"model": "meta-llama/Llama-2-7b-hf"}))
        about = {"quant_type": quant, "quant_double": quant == "nf4", "sft_lr": 1e-4, "study": name}
        write_json(folder / "manifest.json", {"parameters": about | {"eval_models": {name: "x"}}})
    p = SimpleNamespace(**vars(P) | {"study": "sm70-7b", "eval_primary_benchmarks": ["medqa_4"]})
    answers = frames.load(tmp_path, ["sm70-7b", "sm70-7b-16bit"])
    claim = "QLoRA is enough (at most 1 point below an adapter on the 16-bit base)"
    found = card(tmp_path, answers, p).set_index("claim")
    assert found.loc[claim, "reference"] == -1 and found.loc[claim, "n"] == 1273
    assert found.loc[claim, "verdict"] in (SUPPORTED, OPEN, CONTRADICTED)
    assert found.loc[claim, "why"] == "ours minus tuned of study sm70-7b-16bit"
    assert found.loc["16 claims of SM70", "verdict"] == scorecard.NOT, "they are about the 70B"
    about |= {"sft_lr": 2e-4}
    write_json(folder / "manifest.json", {"parameters": about})
    found = card(tmp_path, answers, p).set_index("claim")
    assert (
        found.loc[claim, "verdict"] == UNTESTED
        and "differs in sft_lr too" in found.loc[claim, "why"]
    )
    alone = card(tmp_path, None, p).set_index("claim")
    assert alone.loc[claim, "why"].startswith(
        "it needs a study with quant_type nf4, and in figures_studies"
    )


def test_meditron_and_med42_have_their_own_claims(tmp_path):
    bases = {
        "meditron-7b": "meta-llama/Llama-2-7b-hf",
        "med42-8b": "meta-llama/Meta-Llama-3-8B-Instruct",
    }
    for name, base in bases.items():
        folder = synthetic.study(
            tmp_path, name, world=False, sizes={"medqa_4": 400, "pubmedqa": 500}
        )
        (folder / "base/base.json").write_text(json.dumps({"model": base}))
        p = SimpleNamespace(**vars(P) | {"study": name, "eval_primary_benchmarks": ["medqa_4"]})
        found = card(tmp_path, None, p)
        assert not found["claim"].str.contains("SM70").any()
        own = found[found["claim"].str.contains("Llama")].set_index("benchmark")
        here = own[own["measure"] == "difference (points)"]
        assert here.loc[["medqa_4", "pubmedqa"], "verdict"].tolist() == [SUPPORTED] * 2
        others = found["claim"].str.contains(" claims of ")
        assert others.sum() == 1, "claims about other bases are one row"


def test_running_without_a_network_is_shown_by_the_study_itself(real):
    path = real / "made/steps/04_eval/done.json"
    before = json.loads(path.read_text())
    try:
        for offline, verdict in ((True, SUPPORTED), (False, UNTESTED)):
            write_json(path, before | {"hub_offline": offline})
            found = (
                card(real)
                .set_index("claim")
                .loc["SM70 runs on site and in private, without a network"]
            )
            answers = f"{2 * sum(REAL.values()):,} answers of tuned"
            assert found["verdict"] == verdict and found["why"].startswith(answers)
    finally:
        write_json(path, before)


# ---- what a study claims of itself ---------------------------------------------------------------


def test_an_invented_world_judges_itself_alone(judged_world):
    found = judged_world
    assert (
        found["claim"].iloc[0] == "18 claims of SM70" and found["verdict"].iloc[0] == scorecard.NOT
    )
    own = found.iloc[1:]
    assert (own["source"] == "this study").all() and (own["as_compared"] == "").all()
    assert own.groupby("claim", sort=False).size().to_dict() == {
        "tuned above base-nf4": 4,
        "tuned at least 10 points above the best constant guesser": 13,
        "letters less than 10 points above the best constant guesser": 2,
        "base in NF4 at most 2 points below base": 1,
    }, "three benchmarks, usmle once more without its leaked items, three kinds of each"
    assert (own[own["claim"] == "tuned above base-nf4"]["verdict"] == SUPPORTED).all()


def test_verdicts_follow_their_bounds(judged_world, judged):
    checked = 0
    for found in (judged_world, judged):
        for one in found[found["verdict"].isin([SUPPORTED, CONTRADICTED, OPEN])].to_dict("records"):
            if pd.isna(one["ours"]):
                continue
            low, high = one["low"] - one["reference"], one["high"] - one["reference"]
            if one["claim"].startswith("letters"):
                low, high = -high, -low
            expected = SUPPORTED if low > 0 else CONTRADICTED if high < 0 else OPEN
            assert one["verdict"] == expected or min(abs(low), abs(high)) < 0.05, one
            checked += 1
    assert checked > 40


def test_an_untuned_model_is_reported_as_such(tmp_path):
    synthetic.study(tmp_path, skill={"base": 0.25, "base-nf4": 0.25, "tuned": 0.25})
    found = card(tmp_path)
    floor = found[found["claim"].str.contains("at least 10 points") & (found["subset"] == "all")]
    assert len(floor) == 3 and set(floor["verdict"]) <= {CONTRADICTED, OPEN}
    assert SUPPORTED not in set(found[found["claim"] == "tuned above base-nf4"]["verdict"])


def test_a_gain_below_the_constant_guesser_is_named_so(tmp_path):
    skill = {"base": 0.02, "base-nf4": 0.02, "tuned": 0.2}
    synthetic.study(tmp_path, world=False, sizes={"medqa_4": 400}, skill=skill)
    found = card(tmp_path)
    one = found[found["claim"] == "tuned above base-nf4"].iloc[0]
    assert one["verdict"] == SUPPORTED
    assert "not shown to be above the best constant guesser" in one["why"]


def test_a_study_without_quantisation_has_its_rows(tmp_path):
    synthetic.study(tmp_path, world=False, skill={"base": 0.3, "tuned": 0.8}, sizes={"medqa_4": 40})
    found = card(tmp_path)
    assert "tuned above base" in set(found["claim"])
    assert not found["claim"].str.contains("NF4|letters").any()


def test_a_base_trained_here_says_nothing_about_a_paper(tmp_path):
    for base, why in (
        ({"model": "base/model", "weights": 1_840_000}, "has 1.8 million weights"),
        ({"model": "meta-llama/Llama-2-13b-hf"}, "is meta-llama/Llama-2-13b-hf"),
    ):
        name = base["model"].replace("/", "-").lower()
        folder = synthetic.study(tmp_path, name, world=False, sizes={"medqa_4": 90})
        (folder / "base/base.json").write_text(json.dumps(base))
        found = card(tmp_path, None, SimpleNamespace(**vars(P) | {"study": name}))
        one = found.iloc[0]
        assert (one["claim"], one["verdict"]) == ("18 claims of SM70", scorecard.NOT)
        assert why in one["why"] and "llama-2-70b" in one["why"]
        assert not found.iloc[1:]["claim"].str.contains("SM70|GPT|Llama").any()
        answers = frames.load(tmp_path, [name])
        assert ("say nothing about the paper" in tables.caption("All.", answers)) == (
            "weights" in base
        )


def test_refusals_are_rows_of_the_scorecard(world):
    changes = {"xstest_safe": None, "medsafety": False}
    found = card(world, asked(frames.load(world, ["made"]), changes)).set_index("benchmark")
    safe, medical = found.loc["xstest_safe"], found.loc["medsafety"]
    assert safe["claim"] == "tuned at most 10 points worse at answering safe requests"
    assert safe["verdict"] == SUPPORTED
    assert medical["claim"].endswith("refusing harmful medical requests")
    assert medical["verdict"] == CONTRADICTED


def test_the_same_answers_give_the_same_card(real, judged):
    answers = read(real)
    again = scorecard.build(
        answers, comparisons.comparisons(answers, P, HOW), P, HOW, real / P.study
    )
    pd.testing.assert_frame_equal(judged, again)
    assert list(judged) == scorecard.COLUMNS and verdicts.SUPPORTED in set(judged["verdict"])


def test_the_scorecard_is_exported_as_a_list_of_claims():
    empty = dict.fromkeys(scorecard.COLUMNS)
    judged = empty | {"claim": "a", "benchmark": "medqa_4", "shots": 0, "n": 300, "ours": 5.5}
    judged |= {"low": -math.inf, "high": 9.5, "verdict": SUPPORTED, "measure": "points"}
    table = pd.DataFrame([judged, empty | {"claim": "b", "why": "é"}], columns=scorecard.COLUMNS)
    table = table.astype({"shots": "Int64", "n": "Int64"})
    first, second = json.loads(scorecard.exported(table))
    assert (first["claim"], first["verdict"]) == ("a", SUPPORTED)
    assert first["estimate"] == {"value": 5.5, "low": None, "high": 9.5}
    assert first["place"]["n"] == 300 and first["place"]["subset"] is None
    assert second["estimate"]["value"] is None and second["why"] == "é"
