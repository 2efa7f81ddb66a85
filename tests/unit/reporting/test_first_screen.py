"""The first screen: what was repeated, the result, how to read it, the scorecard, the run card."""

import json

import pandas as pd
import pytest

from sm70lib.claims import scorecard as claims
from sm70lib.reporting import about, agreed, made, reading, result, runcard, scorecard
from sm70lib.study import params
from sm70lib.study.params import ROOT

COLUMNS = claims.COLUMNS
TINY = params.load(ROOT / "params/tiny.yml").model_dump()
PLACE = {"protocol": "sm70-2023", "shots": 0, "n": 300, "source": "this study"}


def row(claim, benchmark, verdict, ours, reference, measure="difference (points)", subset="all"):
    numbers = {"ours": ours, "low": ours - 5, "high": ours + 5, "reference": reference}
    cells = {"claim": claim, "benchmark": benchmark, "subset": subset, "verdict": verdict}
    return PLACE | cells | numbers | {"measure": measure}


FLOOR = "tuned at least 10 points above the best constant guesser"
LETTERS = "letters less than 10 points above the best constant guesser"
CARD = [
    {
        "claim": "18 claims of SM70",
        "verdict": "not comparable",
        "why": "invented",
        "source": "SM70",
    },
    row("tuned above base-nf4", "medqa_4", "supported", 50.3, 0),
    row("tuned above base-nf4", "pubmedqa", "undecidable at this n", 1.2, 0),
    row(FLOOR, "medqa_4", "supported", 80.3, 35, "accuracy (%)"),
    row(FLOOR, "medqa_4", "supported", 71, 37, "accuracy (%)", "condition"),
    row(LETTERS, "medqa_4", "supported", 24, 35, "accuracy (%)"),
    row("SM70 is below GPT-4", "medqa_4", "", 60, 81.4, "accuracy (%)")
    | {"as_compared": "order holds", "source": "a model card"},
]


@pytest.fixture
def study(tmp_path):
    """A study with a scorecard, a manifest and few other tables."""
    folder = tmp_path / "tiny"
    (folder / "tables").mkdir(parents=True)
    (folder / "base").mkdir()
    pd.DataFrame(CARD, columns=COLUMNS).to_csv(folder / "tables/scorecard.csv", index=False)
    found = [("base-nf4", 30.0), ("tuned", 80.3)]
    rows = [PLACE | {"study": "tiny", "model": model, "acc_pct": value} for model, value in found]
    results = pd.DataFrame(rows).assign(benchmark="medqa_4", subset="all")
    results.to_csv(folder / "tables/results.csv", index=False)
    steps = {
        "00_base": {"seconds": 60, "peak_memory_gb": 0.5, "energy_kwh": None, "commit": "abc"},
        "03_qlora_finetune": {"seconds": 7200, "peak_memory_gb": 41, "energy_kwh": 1.25}
        | {"commit": "def"},
    }
    manifest = {
        "finished": "2026-11-26T16:44:59+00:00",
        "hardware": {"cpu": "AMD", "cores": 2, "gpus": ["A100"]},
        "parameters": TINY | {"lora_r": 64, "figures_dpi": 80},
        "seeds": {"seed": 0},
        "steps": steps,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "base/base.json").write_text('{"model": "base/model", "weights": 1049728}')
    return made.Made(folder)


def test_one_sentence_says_what_was_repeated(study):
    said = about.sentence(study)
    for part in ("SM70 (arXiv 2312.06974)", "invented medicine", "1.0 million weights", "QLoRA"):
        assert part in said
    assert "rank 64" in said and "twins of MedQA, PubMedQA and USMLE" in said
    assert "sm70-2023, 0-shot" in said and said.endswith(".")
    assert about.paper("meditron-7b").startswith("Meditron (arXiv ")


def test_a_study_without_a_declared_comparison_names_no_protocol_for_all_that_it_asked(study):
    path = study.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parameters"]["eval_primary_benchmarks"] = []
    path.write_text(json.dumps(manifest))
    said = about.sentence(made.Made(study.folder))
    assert "USMLE step 3 and TruthfulQA" in said and "protocol" not in said


def test_the_result_is_the_declared_family_with_scores_before_and_after(study):
    first, second = result.lines(study)
    assert first == result.Line(
        "MedQA",
        "+50.3 [45.3, 55.3] points",
        "30.0 % before, 80.3 % after; n = 300",
        "supported",
    )
    assert (second.what, second.detail) == ("PubMedQA", "n = 300"), "no scores of it in the results"


def test_a_declared_claim_says_where_and_under_which_protocol_it_was_asked(study):
    claim = "P2: arm A refuses over 30 points more of the harmful medical requests held out"
    asked = row(claim, "medsafety_held_out", "supported", 96.7, 30, "refusals (points)")
    card = pd.DataFrame([asked | {"protocol": "safety", "n": 60, "why": "bounds"}])
    card.reindex(columns=COLUMNS).to_csv(study.folder / "tables/scorecard.csv", index=False)
    (line,) = result.lines(study)
    assert line.gap == "+96.7 [91.7, 101.7] points"
    where = "MedSafetyBench (held out), protocol safety"
    assert line.detail == f"to exceed: 30; n = 60; {where}; bounds"


def test_a_number_without_bounds_says_so():
    measured = {
        "ours": -0.004,
        "low": -float("inf"),
        "high": float("inf"),
        "measure": "loss (nats)",
    }
    assert result.gap(measured) == "-0.004 nats, no bounds"
    assert result.gap(measured | {"low": -0.1, "high": 0.2}) == "-0.004 [-0.100, 0.200] nats"
    assert result.gap({"ours": None}) == ""


def test_three_sentences_say_how_to_read_it(study):
    (_, moved), (_, unmoved), (_, limits) = reading.sentences(study, result.lines(study))
    assert moved == "Supported: MedQA (+50.3 points)."
    assert unmoved == "PubMedQA: undecidable at this n (+1.2 [-3.8, 6.2] points)."
    assert "invented" in limits and "one seed" in limits and "not judged here" in limits
    nothing = [line for line in result.lines(study) if line.what == "PubMedQA"]
    assert reading.sentences(study, nothing)[0][1] == "No declared comparison is supported."


def test_what_tuning_did_not_change_is_said_with_the_reason(study):
    rows = [
        ("medqa_4", "harness", "no verdict: base-nf4 chose A in 100% of its answers", 5.1),
        ("truthfulqa", "harness", "not distinguishable at n=300", 9.2),
        ("usmle_step1", "harness", "not distinguishable at n=120", 17.0),
        ("medmcqa", "harness", "no verdict: 12 clusters, at least 20 needed", 9.9),
        ("pubmedqa", "generate", "no score: 9 of 9 replies unread", None),
    ]
    names = ["benchmark", "protocol", "reading", "detectable_pts"]
    table = pd.DataFrame(rows, columns=names).assign(
        study="tiny", before="base-nf4", after="tuned", family="exploratory", p=0.5
    )
    table.to_csv(study.folder / "tables/comparisons.csv", index=False)
    said = reading.sentences(study, [])[1][1]
    assert "No difference was found on TruthfulQA (harness)" in said and "9.2 points" in said
    assert "no verdict on MedQA (harness), because a model chose the same option" in said
    assert "no verdict on MedMCQA (harness), because the questions come from too few" in said
    assert "no score on PubMedQA (generate), because most replies could not be read" in said
    assert "step" not in said


def test_the_studys_own_claims_come_first_and_slices_apart(study):
    card = scorecard.scorecard(study)
    assert [group.claim for group in card.own] == ["tuned above base (NF4)", FLOOR, LETTERS]
    assert [group.claim for group in card.paper] == ["SM70 is below GPT-4"]
    floor = card.own[1]
    assert [row["place"] for row in floor.rows] == ["MedQA"]
    assert [row["place"] for row in floor.slices] == ["MedQA, condition: never mentioned"]
    assert card.folded == ["18 claims of SM70: not comparable (invented)"]


def test_the_guesser_and_the_margin_stand_apart(study):
    own = scorecard.scorecard(study).own
    assert [group.rows[0]["limit"] for group in own] == ["0", "25.0 + 10", "under 25.0 + 10"]


def test_a_slice_of_fewer_than_ten_items_is_not_judged():
    slim = row(FLOOR, "medqa_4", "supported", 71, 37, "accuracy (%)", "condition")
    slim |= {"n": 9, "entry": None}
    assert scorecard.badge(slim) == ("not judged: fewer than 10 items", "")
    assert scorecard.badge(slim | {"n": 10})[0] == "supported"
    assert scorecard.badge(slim | {"subset": "all"})[0] == "supported"


def test_an_expected_failure_is_no_green_badge(study):
    card = scorecard.scorecard(study)
    assert card.own[1].rows[0]["badge"] == ("supported", "supported")
    assert card.own[2].rows[0]["badge"] == ("fails as expected", "expected")
    counts = dict(card.tally)
    assert counts == {
        "supported": 2,
        "undecidable at this n": 1,
        "fails as expected": 1,
        "order holds": 1,
    }


def test_this_run_beside_the_committed_ones(study):
    assert agreed.agreement(study) is None
    columns = ["benchmark", "protocol", "model", "this_run_pct", "expected_low_pct"]
    rows = [("medqa_4", "sm70-2023", "tuned", 80.3, 63.7, 100, "yes")]
    rows += [("usmle", "as-trained", "base-nf4", 74.7, 81.6, 97, "no")]
    table = pd.DataFrame(rows, columns=[*columns, "expected_high_pct", "agrees"])
    table.to_csv(study.folder / "tables/agreement.csv", index=False)
    (study.folder / "tables/agreement.md").write_text("1 of 2 agree. That is weak.\n\n| a |\n")
    found = agreed.agreement(study)
    assert (found.inside, found.of) == (1, 2)
    assert "0 of 1 under as-trained and 1 of 1 under sm70-2023" in found.words
    assert "base (NF4) on USMLE (as-trained), 74.7 where 81.6 to 97" in found.words
    assert found.words.endswith("That is weak.")


def test_the_run_card_says_what_it_took_and_what_differs(study):
    card = dict(runcard.runcard(study))
    assert card["Finished"] == "2026-11-26, 16:44 UTC"
    assert card["Took"].startswith("2.0 h in all; 03_qlora_finetune 2.0 h, 00_base 60 s")
    assert card["Peak memory"] == "41 GB, in 03_qlora_finetune"
    assert card["Energy"].startswith("1.25 kWh by the GPUs; CO2 not estimated")
    assert card["Commit"] == "abc (00); def (03)" and card["Machine"] == "AMD, 2 cores, A100"
    assert card["Differs from the study file"] == "lora_r 16 → 64; figures_dpi 150 → 80"


def test_a_study_without_a_file_or_a_manifest_says_so(tmp_path, study):
    assert runcard.runcard(made.Made(tmp_path)) == [] and about.sentence(made.Made(tmp_path)) == ""
    other = study.folder.rename(tmp_path / "elsewhere")
    card = dict(runcard.runcard(made.Made(other)))
    assert "no params/elsewhere.yml" in card["Differs from the study file"]


def test_energy_without_a_meter_is_an_estimate_from_the_stated_power_or_nothing(study):
    steps = study.manifest["steps"]
    for step in steps.values():
        step["energy_kwh"] = None
    assert runcard.energy(study).startswith("not measured: no meter")
    study.parameters["plan_watts"] = 300.0  # for 7,260 s
    said = runcard.energy(study)
    assert said.startswith("0.605 kWh (an estimate: 2 h at 300 W)") and "CO2 not estimated" in said
    study.parameters["plan_grams_per_kwh"] = 400.0
    assert runcard.energy(study).endswith(", 0.242 kg of CO2 at 400 g/kWh")
    steps["00_base"]["energy_kwh"] = 2.0
    assert runcard.energy(study) == "2 kWh by the GPUs, 0.8 kg of CO2 at 400 g/kWh"


def test_an_exam_beside_a_declared_family_is_spoken_of_too():
    study = made.Made(ROOT / "outputs/reference/small-meditron")
    lines = result.lines(study)
    assert {line.verdict for line in lines} == {"supported"} and len(lines) == 3
    assert "No verdict on MMLU (medical)" in reading.sentences(study, lines)[1][1]
