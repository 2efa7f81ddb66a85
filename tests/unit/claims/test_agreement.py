"""One run is held against the runs before it, and only where these were made alike."""

import json

import pandas as pd
import pytest

from sm70lib.claims import agreement
from sm70lib.study.files import write_json

WORDING = {"wording": "abc"}
WORLDS = (1, 2, 3, 4)
ACCURACY = (80.0, 90.0, 85.0, 95.0)  # mean 87.5, SD 6.455, one run a world


@pytest.fixture
def places(tmp_path):
    """A study's folder and that of the evidence, made by the same recipe."""
    study, evidence = tmp_path / "tiny", tmp_path / "evidence"
    made = {"base_steps": 1800, "sft_lr": 0.003, "lora_r": 16}
    free = {"world_seed": 11, "eval_shots": [0], "train_save_steps": 9}
    absent = {"train_stages": ["sft"], "dpo_beta": 0.1}  # this study has no such stage
    write_json(study / "manifest.json", {"parameters": made | free | absent})
    write_json(study / "base/base.json", {"model": "base/model"} | WORDING)
    write_json(evidence / "about.json", {"recipe": made | {"train_stages": ["sft"]} | WORDING})
    rows = [[w, 0, "tuned", "medqa_4", "sm70-2023", acc] for w, acc in zip(WORLDS, ACCURACY)]
    names = ["world_seed", "tuning_seed", "arm", "benchmark", "protocol", "acc_pct"]
    pd.DataFrame(rows, columns=names).to_csv(evidence / "runs.csv", index=False)
    return study, evidence


def results(acc: float) -> pd.DataFrame:
    row = {"study": "tiny", "model": "tuned", "benchmark": "medqa_4", "protocol": "sm70-2023"}
    other = row | {"protocol": "harness"}  # which no run before was asked under
    return pd.DataFrame(
        [
            row | {"shots": 0, "subset": "all", "acc_pct": acc},
            other | {"shots": 0, "subset": "all", "acc_pct": 25.0},
        ]
    )


@pytest.mark.parametrize(("acc", "agrees"), [(87.5, "yes"), (65.0, "yes"), (64.0, "no")])
def test_a_run_agrees_where_one_further_run_may_lie(places, acc, agrees):
    """mean - t(3) s sqrt(1 + 1/4) = 87.5 - 3.182 x 6.455 x 1.118 = 64.5, worked out by hand."""
    (row,) = agreement.table(results(acc), *places).to_dict("records")
    assert row["agrees"] == agrees and (row["mean_pct"], row["worlds"]) == (87.5, 4)
    assert (
        row["expected_low_pct"] == pytest.approx(64.5, abs=0.06) and row["expected_high_pct"] == 100
    )
    said = agreement.sentence(agreement.table(results(acc), *places))
    assert said.startswith(f"{int(agrees == 'yes')} of 1 accuracies") and "weak evidence" in said


def test_usmle_is_counted_once_and_several_outside_are_too_many(places):
    """4 of 12 independent comparisons lie outside in 2 of 1,000 runs, and 3 in 2 of 100."""
    study, evidence = places
    runs = pd.read_csv(evidence / "runs.csv")
    every = ["usmle", "usmle_macro", "usmle_step1", "usmle_step2", "usmle_step3"]
    parts = [runs.assign(benchmark=name) for name in every]
    pd.concat([runs, *parts]).to_csv(evidence / "runs.csv", index=False)
    mine = pd.concat([results(87.5), *(results(87.5).assign(benchmark=name) for name in every)])
    assert list(agreement.table(mine, *places)["benchmark"]) == ["medqa_4", "usmle"]
    assert [agreement.too_many(n) for n in (1, 12, 28)] == [2, 3, 5]


def test_a_run_made_otherwise_is_held_against_nothing(places):
    study, evidence = places
    manifest = json.loads((study / "manifest.json").read_text())
    manifest["parameters"] |= {"base_steps": 900, "dpo_beta": 0.5}
    write_json(study / "manifest.json", manifest)
    why = agreement.other_recipe(study, evidence)
    assert why == "it was made with another base_steps"
    empty = agreement.table(results(87.5), study, evidence)
    assert empty.empty and "another base_steps" in agreement.sentence(empty, why)


def test_a_world_in_other_words_is_another_recipe(places):
    study, evidence = places
    write_json(study / "base/base.json", {"model": "base/model", "wording": "other"})
    assert agreement.other_recipe(study, evidence) == "it was made with another wording"


def test_without_evidence_a_sentence_says_so(places, tmp_path):
    study, evidence = places
    (study / "manifest.json").unlink()
    assert agreement.other_recipe(study, evidence) == "it has no manifest yet"
    assert "make evidence" in agreement.other_recipe(study, tmp_path / "nowhere")
