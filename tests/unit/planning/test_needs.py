"""The plan of every step: which models and files a study needs, what fits where, and what the
runner says first.
"""

import json
import math
import re

import pytest

from sm70lib.__main__ import main
from sm70lib.evaluation import candidates
from sm70lib.planning import byhand, forecast, needs
from sm70lib.sizes import budget
from sm70lib.study import memory, params
from sm70lib.study.params import ROOT, StudyError
from tests import small

SM70 = params.load(ROOT / "params/sm70.yml")
# A stage dpo, which sm70.yml does not have
DPO = {name: value for name, value in small.PARAMETERS.items() if name.startswith("dpo_")}
del DPO["dpo_packing"]  # which pairs do not have
DPO |= {"dpo_sources": ["preference_pairs"], "dpo_batch_size": 64}
EVAL = {
    "eval_benchmarks": ["medqa_4"],
    "eval_protocols": ["sm70-2023"],
    "eval_shots": [0],
    "eval_limit": None,
    "eval_caps": {},
    "eval_batch_tokens": 300,
    "eval_models": {},
    "eval_own": ["base", "base-nf4", "stages", "merged", "tuned"],
    "eval_launcher": "python",
}


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch, tmp_path):
    """Neither downloads nor a hub, whatever the machine holds."""
    monkeypatch.setenv("SM70_HUB", str(tmp_path / "hub"))
    monkeypatch.setattr(byhand, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.delenv(memory.LIMIT, raising=False)


def fitting(gb: float, p=SM70) -> dict[str, str]:
    return {row.part: row.fits(gb) for row in needs.rows(p)}


# ---- sm70 on four cards ------------------------------------------------

QUANTISED = ("base-nf4", "llama-2-70b-chat", "clinical-camel-70b", "med42-70b", "meditron-70b")
WHOLE = ("the full base, compared", "base", "merged-original")
LOADED = ("loading the base in NF4", "stage 1 sft", "base with adapter, by hand")


def test_24_gb_hold_nothing_of_a_70b():
    found = fitting(24)
    assert {found[part] for part in (*QUANTISED, *WHOLE, *LOADED, "tuned")} == {"no"}
    assert {found[part] for part in ("error analysis", "tables, figures")} == {"yes"}


def test_48_gb_train_and_score_in_four_bits():
    assert fitting(48)["stage 1 sft"] == "no", "as declared, four sequences a pass"
    one = params.load(ROOT / "params/sm70.yml", overrides={"train_micro_batch_size": 1})
    found = fitting(48, one)
    assert {found[part] for part in (*QUANTISED, *LOADED)} == {"yes"} and found["tuned"] == "yes*"
    assert {found[part] for part in WHOLE} == {"no"}


def test_80_gb_do_the_same_in_whole_batches():
    found = fitting(80)
    assert {found[part] for part in (*QUANTISED, *LOADED, "tuned")} == {"yes"}
    assert {found[part] for part in WHOLE} == {"no"}


def test_141_gb_hold_the_whole_base_too():
    found = fitting(141)
    assert {found[part] for part in (*QUANTISED, *LOADED, "tuned", WHOLE[0])} == {"yes"}
    assert {found[part] for part in WHOLE[1:]} == {"yes*"}


def test_sizes_follow_from_the_shape():
    """138 GB in 16 bits, 36.4 in NF4 (papers: 36.4), 828 million weights of adapter."""
    rows = {row.part: row for row in needs.rows(SM70)}
    assert len(rows) == 17
    assert rows["download of meta-llama/Llama-2-70b-hf"].disk_gb == pytest.approx(137.95, abs=0.01)
    assert rows["loading the base in NF4"].device_gb == pytest.approx(
        36.4 + 8192 * 28672 * 2 / 1e9, abs=0.05
    )
    assert 137.95 < rows["base"].smaller_gb < 141 < rows["base"].device_gb < 150
    assert rows["tuned"].device_gb - rows["base-nf4"].device_gb > 828e6 * 4 / 1e9
    merging = rows["merging into the original base"]
    assert (
        merging.device_gb == 0
        and 141 < merging.ram_gb < 144
        and merging.disk_gb == pytest.approx(137.95, abs=0.01)
    )
    assert (
        merging.fits(12) == "yes"
        and merging.fits(12, 128) == "no"
        and merging.fits(12, 256) == "yes"
    )
    stage = rows["stage 1 sft"]
    assert (
        stage.disk_gb == pytest.approx(828.4e6 * (3 * (2 + 2) + 2 * 2) / 1e9, rel=0.01)
        and stage.hours is None
    )
    assert "FSDP" in stage.advice(24e9) and stage.advice(80e9) == "fits"
    assert stage.advice(48e9) == "does not fit; change to train_micro_batch_size 1"
    data = rows["9 sources, 8 benchmarks"]
    assert data.ram_gb == 0.78 and data.disk_gb == pytest.approx(
        898_199 * 2048 * 16 / 1e9, rel=0.06
    )


def test_the_plan_of_70b_covers_what_was_measured_on_an_h100():
    """The plan must not promise less memory than training took, nor much more."""
    [measured] = json.loads((ROOT / "outputs/reference/benchmarks/gpu_70b.json").read_text())
    compared = 0
    for row in measured["results"]:
        way = (row["recipe"], row["length"], row["checkpointing"], row["layout"])
        if way != ("ours", 2048, True, "packed"):
            continue
        overrides = {"train_micro_batch_size": row["sequences"]}
        p = params.load(ROOT / "params/sm70.yml", overrides=overrides)
        planned = {part.part: part for part in needs.rows(p)}["stage 1 sft"].device_gb
        taken = row["peak_gib"] * 2**30 / 1e9
        assert taken < planned < 1.15 * taken, (row["sequences"], taken, planned)
        compared += 1
    assert compared == 3


def test_the_speed_of_an_h100_is_the_measured_one():
    [measured] = json.loads((ROOT / "outputs/reference/benchmarks/gpu_70b.json").read_text())
    assert needs.speed(memory.Memory(80, measured["hardware"]["gpu"], True)) == measured["ours"]


def test_hours_and_dollars_are_those_of_a_published_speed_or_missing(monkeypatch):
    for device, tokens in (
        ("NVIDIA H100 80GB HBM3", 1044.7),
        ("NVIDIA A100-SXM4-80GB", 275),
        ("NVIDIA GeForce RTX 4090", 238.5),
        ("NVIDIA A100-PCIE-40GB", 390),
        ("NVIDIA H200", None),
        ("Tesla T4", None),
    ):
        speed = needs.speed(memory.Memory(80, device, True))
        hours = {row.part: row.hours for row in needs.rows(SM70, speed)}["stage 1 sft"]
        if tokens is None:
            assert hours is None, device
        else:
            assert hours == pytest.approx(
                3000 * 64 * 2048 / (tokens * 70e9 / 68_976_648_192) / 3600
            ), device
    p = params.load(ROOT / "params/sm70.yml", overrides={"plan_dollars_per_hour": 2.0})
    monkeypatch.setattr(memory, "at_hand", lambda: memory.Memory(80, "NVIDIA H100 80GB HBM3", True))
    row = next(line for line in forecast.text(p).splitlines() if "stage 1 sft" in line)
    assert row.split()[-4:] == ["13.3", "103", "206", "yes"]
    assert "H100 80 GB 103 (206 dollars)" in forecast.text(p, [80.0]) and "T4" not in forecast.text(
        p, [16.0]
    )


def test_every_stage_has_its_own_row(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    p = small.base(
        tmp_path / "small",
        train_stages=["cpt", "sft", "dpo", "dpo"],
        train_seeds=[0, 1],
        cpt_optimizer="rmsprop",
        lora_r=256,
        data_sources=["medical_meadow_medqa"],
        cpt_sources=[],
        dpo_sources=[],
        data_caps={},
        data_parts={},
        data_leaks={},
        data_repeats={},
        data_holdout_documents={},
        data_limit=None,
        train_merge=["original"],
        **EVAL,
    )
    rows = {row.part: row for row in needs.rows(p)}
    sizes = [
        rows[f"stage {n} {kind}, 2 seeds"].device_gb for n, kind in enumerate(p.train_stages, 1)
    ]
    assert len(set(sizes)) == 3 and sizes[2] == sizes[3] > sizes[1] > sizes[0]
    assert sizes[1] == memory.rounded_up(budget.needed(tmp_path / "small/base/model", p, "sft"))


def test_the_models_that_are_planned_are_those_that_will_be_scored(tmp_path):
    p = small.base(
        tmp_path,
        train_stages=["cpt", "sft", "dpo"],
        train_seeds=[3, 5],
        train_merge=["original", "dequantised"],
        **EVAL | {"eval_models": {"other": f"{tmp_path / 'base/model'} quant=nf4"}},
    )
    for _, suffix in ((3, ""), (5, "-seed5")):
        for number, kind in enumerate(p.train_stages, 1):
            (tmp_path / f"stages/{number}-{kind}{suffix}/adapter").mkdir(parents=True)
    for into in p.train_merge:
        (tmp_path / f"merged/{into}").mkdir(parents=True)
    there = {
        one.name: (one.quantised, one.adapter is None) for one in candidates.models(p, tmp_path)
    }
    planned = {one.name: (one.quantised, one.adapter is None) for one in needs.expected(p, "base")}
    assert planned == there and len(planned) == 11


# ---- what is fetched by hand, whom to ask ------------------------------------------------


def test_what_is_not_on_the_hub_is_named_until_it_is_there(tmp_path):
    clean = params.load(
        ROOT / "params/sm70.yml",
        ROOT / "params/overlays/sm70-clean.yml",
        overrides=DPO | {"study": "x", "train_stages": ["sft", "dpo"]},
    )
    names = [one.reader for one in byhand.wanted(clean, ["01_data"])]
    assert names == ["medsafety", "preference_pairs", "pubmedqa", "audit_label repair"]
    assert byhand.wanted(clean, ["02_load_4bit"]) == []
    with pytest.raises(StudyError) as said:
        byhand.require(clean, ["01_data"])
    for words in (
        "medsafety: ",
        "hub/med_safety_bench/datasets/",
        "from github:AI4LIFE-GROUP/med-safety-bench",
        "hub/pubmedqa/test_ground_truth.json from github:pubmedqa/pubmedqa",
        "hub/pubmed_causal_reference/*.csv",
    ):
        assert words in str(said.value)
    for file in (
        "med_safety_bench/datasets/test/gpt4/med_category_1.csv",
        "preference_pairs/a/b.json",
        "pubmedqa/test_ground_truth.json",
        "pubmed_causal_reference/original.csv",
    ):
        path = tmp_path / "hub" / file
        path.parent.mkdir(parents=True)
        path.touch()
    byhand.require(clean, ["01_data"])


def test_everything_without_an_address_on_the_hub_has_one_elsewhere():
    from sm70lib.benchmarks import BENCHMARKS
    from sm70lib.sources import SOURCES

    without = [one for one in (*BENCHMARKS.values(), *SOURCES.values()) if not one.hub]
    assert len(without) >= 9 and not [one for one in without if not one.by_hand]


def test_gated_models_are_named_once_and_only_until_they_are_here(monkeypatch):
    assert byhand.gated(SM70) == [
        "meta-llama/Llama-2-70b-hf",
        "meta-llama/Llama-2-70b-chat-hf",
        "m42-health/med42-70b",
        "epfl-llm/meditron-70b",
    ]
    monkeypatch.setattr(
        byhand, "try_to_load_from_cache", lambda name, file: "x" if "med" in name else None
    )
    assert byhand.gated(SM70) == ["meta-llama/Llama-2-70b-hf", "meta-llama/Llama-2-70b-chat-hf"]


# ---- as a user meets it ------------------------------------------------


def test_a_limit_is_the_one_column_and_wrong_words_are_one_sentence(monkeypatch, capsys):
    plan = ["plan", str(ROOT / "params/tiny.yml"), "-p", "study", "x"]
    monkeypatch.setenv(memory.LIMIT, "0.05")
    assert main([*plan, "-p", "lora_r", "8"]) == 0
    said = capsys.readouterr().out
    row = {
        line.split("  ")[1]: line.split()[-1]
        for line in said.splitlines()
        if re.match(r"0\d  ", line)
    }
    assert (
        row["loading the base in NF4"] == "yes"
        and row["stage 1 sft"] == "no"
        and " 24 GB" not in said
    )
    assert "03 stage 1 sft, here: does not fit; " in said
    for words, limit, sentence in (
        (("-p", "lora_targets", "q_proj"), "0.05", "fits the whole name of"),
        ((), "much", "SM70_MEMORY_GB is 'much'"),
    ):
        monkeypatch.setenv(memory.LIMIT, limit)
        assert main([*plan, *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and sentence in said and said.count("\n") == 1


def test_the_runner_says_what_will_not_fit_before_it_starts(monkeypatch):
    monkeypatch.setenv(memory.LIMIT, "0.01")
    said = forecast.short(SM70, ["02_load_4bit", "03_qlora_finetune", "04_eval"])
    assert said[0] == "02 loading the base in NF4 needs 36.8 GB, 0.010 GB are here, and is left out"
    assert any(
        line.startswith("03 stage 1 sft needs 58.9 GB, 0.010 GB are here: does not fit; ")
        for line in said
    )
    (left,) = [line for line in said if line.startswith("04 will leave out")]
    assert left.count("(") - 1 == 8 and "base (140 GB)" in left and "meditron-70b (39.3 GB)" in left
    assert said[-1].startswith("gated, ask for access") and len(said) <= 9
    assert not [line for line in forecast.short(SM70, ["05_error_analysis"]) if line]


def test_a_plan_never_shows_a_number_that_is_not_one():
    assert [forecast._number(value) for value in (None, 0, 0.004, 3.14, 1234)] == [
        "",
        "-",
        "0.004",
        "3.1",
        "1,234",
    ]
    assert "nan" not in forecast.text(SM70).lower() and math.isfinite(json.loads("1"))
