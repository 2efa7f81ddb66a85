"""What is refused where all weights are trained, by FSDP, or at a learning rate with an end."""

import pytest
import yaml

from sm70lib.parameters import launchers
from sm70lib.steps import compared, keys
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from sm70lib.training import settings

TINY = yaml.safe_load((ROOT / "params/tiny.yml").read_text())
FULL = {"train_parameters": "full", "quant_type": "none"}
BY_FSDP = "accelerate launch --config_file params/accelerate/{} --num_processes 4"


def study(tmp_path, **changes):
    file = tmp_path / "study.yml"
    file.write_text(yaml.safe_dump(TINY | {"train_micro_batch_size": 1} | changes))
    return params.load(file)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"train_parameters": "full"}, "give none instead of quant_type nf4"),
        (FULL | {"train_merge": ["original"]}, "no adapter that could be merged: give []"),
        (FULL | {"full_dtype": "bf16"}, "bf16 has fewer bits than quant_compute_dtype float32"),
        ({"train_launcher": BY_FSDP.format("fsdp2-full.yml")}, "fsdp_version 2, by which every"),
        (
            FULL | {"train_launcher": BY_FSDP.format("fsdp-qlora.yml")},
            "fsdp_version 1, which was not tried with all weights: give fsdp_version 2",
        ),
        (
            FULL
            | {"full_dtype": "bf16", "quant_compute_dtype": "bfloat16"}
            | {"train_launcher": BY_FSDP.format("fsdp2-full.yml")},
            "bf16 is not what FSDP trains, which turns all weights to 32 bits",
        ),
        (
            {"eval_launcher": BY_FSDP.format("fsdp-qlora.yml")},
            "fsdp-qlora.yml --num_processes 4 asks for FSDP, by which only training shares a model",
        ),
        (FULL | {"eval_launcher": "accelerate launch --use_fsdp"}, "asks for FSDP"),
        ({"sft_min_lr": 0.1}, "is where a cosine ends; it must be 0 with sft_scheduler linear"),
        ({"sft_warmup": 351}, "sft_warmup 351.0 is more steps than sft_steps 350"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence_before_anything_is_loaded(tmp_path, changes, said):
    with pytest.raises(StudyError) as refusal:
        study(tmp_path, **changes)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["train_launcher", "eval_launcher"])
def test_the_file_that_a_launcher_names_is_looked_for_before_anything_runs(tmp_path, name):
    """03 and 04 found out, after hours. Relative paths start where they run, at the repository."""
    there = tmp_path / "of mine.yaml"
    there.write_text("num_processes: 2\n")
    named = ("params/accelerate/ddp.yml", f"'{there}'", f"nowhere.yaml --config_file='{there}'")
    for words in named:
        line = f"accelerate launch --config_file {words}"
        assert getattr(study(tmp_path, **{name: line}), name) == line
        assert launchers.processes(line) == 2
    for words in ("nowhere.yaml", str(tmp_path), "params/accelerate/ddp.yml --config-file=no.yml"):
        with pytest.raises(StudyError) as refusal:
            study(tmp_path, **{name: f"accelerate launch --config_file {words}"})
        said = str(refusal.value)
        assert f"{name} accelerate launch --config_file {words} names a --config_file" in said
        assert "that is not there" in said and "such as params/accelerate/ddp.yml" in said
    with pytest.raises(StudyError, match="names a --config_file that is not there"):
        study(tmp_path, **{name: f"accelerate launch --config_file {'x' * 300}"})


def test_a_warm_up_is_compared_with_the_lengths_that_rounds_have(tmp_path):
    """With `dpo_steps` only where `dpo_round_steps` gives no others."""
    rounds = {"train_stages": ["sft", "dpo", "dpo"], "dpo_sources": ["preference_pairs"]}
    rounds |= {"dpo_steps": 10, "dpo_warmup": 20}
    study(tmp_path, **rounds, dpo_round_steps=[20, 30])
    for lengths, said in (
        ([30, 19], r"dpo_warmup 20.0 is more steps than a round of dpo_round_steps \[30, 19\]"),
        ([], "dpo_warmup 20.0 is more steps than dpo_steps 10"),
    ):
        with pytest.raises(StudyError, match=said):
            study(tmp_path, **rounds, dpo_round_steps=lengths)


def test_a_study_with_all_weights_needs_no_adapter_and_one_with_an_adapter_no_type(tmp_path):
    lora = [name for name in TINY if name.startswith("lora_")]
    absent = {name: value for name, value in TINY.items() if name not in lora}
    file = tmp_path / "full.yml"
    file.write_text(yaml.safe_dump(absent | FULL))
    full = params.load(file)
    assert len(lora) == 7 and not full.model_dump().keys() & set(lora)
    assert full.full_dtype == "fp32" and not hasattr(study(tmp_path), "full_dtype")


@pytest.mark.parametrize(
    "launcher, version",
    [
        ("python", None),
        ("torchrun --nproc-per-node 8", None),
        ("accelerate launch --config_file params/accelerate/ddp.yml", None),
        ("accelerate launch --config_file params/accelerate/fsdp-qlora.yml", 1),
        ("accelerate launch --config_file params/accelerate/fsdp-qlora.yml --fsdp_version 2", 2),
        ("accelerate launch --config_file params/accelerate/fsdp2-full.yml", 2),
        ("accelerate launch --use_fsdp --fsdp_version=2", 2),
    ],
)
def test_a_launcher_says_by_which_fsdp_a_model_is_shared(launcher, version):
    assert launchers.fsdp_version(launcher) == version


def test_a_parameter_that_came_later_changes_no_key_until_it_says_something_else(tmp_path):
    plain = keys.of_step(keys.TUNING, study(tmp_path))
    assert not [name for name in plain["parameters"] if "adam" in name or "min_lr" in name]
    full = keys.of_step(keys.TUNING, study(tmp_path, **FULL))
    assert "train_parameters: adapter -> full" in compared.difference(plain, full)
    assert "train_parameters: full -> adapter" in compared.difference(full, plain)
    other = keys.of_step(keys.TUNING, study(tmp_path, sft_adam_beta2=0.95))
    assert compared.difference(plain, other) == "sft_adam_beta2: 0.999 -> 0.95"


def test_evaluation_reads_the_models_of_stages_where_there_is_no_adapter(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    for changes, wanted in (({}, {"adapter"}), (FULL, {"stages/*/model"})):
        inputs = keys.of_step(keys.EVALUATION, study(tmp_path, **changes))["inputs"]
        assert {path for path in inputs if not path.startswith(("base", "data"))} == wanted


def test_meditron_s_schedule_and_optimiser_reach_the_trainer(tmp_path):
    """2,000 steps of warm-up, a cosine to a tenth; AdamW .9, .95, 1e-5 (arXiv 2311.16079, 4)."""
    changes = {
        "sft_steps": 23000,
        "sft_warmup": 2000,
        "sft_scheduler": "cosine",
        "sft_min_lr": 0.1,
        "sft_adam_beta2": 0.95,
        "sft_adam_epsilon": 1e-5,
    }
    found = settings._optimisation(study(tmp_path, **changes), "sft")
    assert found["warmup_steps"] == 2000 and found["lr_scheduler_type"] == "cosine_with_min_lr"
    assert found["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}
    assert (found["adam_beta2"], found["adam_epsilon"]) == (0.95, 1e-5)
    plain = settings._optimisation(study(tmp_path), "sft")
    assert plain["warmup_steps"] == 10 and plain["lr_scheduler_type"] == "linear"
