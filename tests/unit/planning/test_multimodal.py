"""A base whose text stands beside a vision tower is planned as it is trained and scored."""

import pytest
from peft import get_peft_model

from sm70lib.models import loading
from sm70lib.planning import needs
from sm70lib.sizes import activations, budget, budget_scoring, measured, shapes
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from sm70lib.training import trainers
from tests import multimodal, small

TARGETS = (
    "all-linear",
    r".*\.(q_proj|v_proj)",  # which the tower has too
    r".*(mlp\..*_proj|fc1)",
    r"model\.language_model\.layers\.0\..*_proj",
    "lm_head",
)


def test_every_step_of_a_study_on_such_a_base_is_planned(tmp_path):
    small.base(tmp_path)
    base = multimodal.put(tmp_path)
    p = params.load(ROOT / "params/tiny.yml", overrides={"study": "tiny-gemma", "base_model": base})
    rows = {row.part: row for row in needs.rows(p)}
    for part in ("the full base, compared", "stage 1 sft", "base", "tuned"):
        assert rows[part].device_gb > 0, part


@pytest.mark.parametrize("kind", ["nf4", "none"])
def test_what_is_loaded_agrees_with_the_plan(tmp_path, kind):
    p = small.base(tmp_path, quant_type=kind)
    base = multimodal.put(tmp_path)
    both = budget.plan(base, p).merge(measured.parts(loading.load(base, p)), on="part")
    for row in both.itertuples():  # one matrix of the tower stays as it is, of 87,000 weights
        assert row.planned_mb == pytest.approx(row.measured_mb, rel=0.05), row.part
    before = measured.sample_with_logprobs(base)
    assert measured.quantisation_error(before, measured.quantised(base, p))["kl_nats"] >= 0
    entries = shapes.configuration(base).get_text_config().vocab_size
    logits = budget_scoring.compared(base) - budget_scoring.loaded(base, None)
    assert logits == 2 * 4 * 8 * 129 * entries


@pytest.mark.parametrize("targets", TARGETS)
def test_the_plan_and_training_adapt_the_same_layers_of_the_language_model(tmp_path, targets):
    p = small.base(tmp_path, lora_targets=targets)
    base = multimodal.put(tmp_path)
    tuned = get_peft_model(loading.load(base, p), trainers._new_adapter(p, base))
    trained = {name: each for name, each in tuned.named_parameters() if each.requires_grad}
    planned = budget.plan(base, p).set_index("part").loc["LoRA weights", "parameters"]
    assert planned == sum(each.numel() for each in trained.values()) > 0
    assert not any(multimodal.TOWER in name for name in trained)


@pytest.mark.parametrize("targets", ["all-linear", r".*\.(q_proj|v_proj)", r".*layers\.0\..*_proj"])
def test_a_pass_keeps_as_much_as_one_of_the_language_model_alone(tmp_path, targets):
    p = small.base(tmp_path, lora_targets=targets)
    config = shapes.configuration(multimodal.put(tmp_path))
    alone = activations.activations(config.get_text_config(), p)
    assert activations.activations(config, p) == alone
    assert alone["activations"] > 0


def test_targets_in_the_tower_alone_are_one_sentence(tmp_path):
    p = small.base(tmp_path, lora_targets=r".*\.fc1")
    with pytest.raises(StudyError, match=r"fits .* no layer, such as model\.language_model\."):
        budget.plan(multimodal.put(tmp_path), p)


def test_the_adapter_of_a_model_of_text_is_told_to_peft_as_the_study_says(tmp_path):
    """Its adapter_config.json stays as it was, and with it the digest of finished studies."""
    for targets in ("all-linear", r".*\.(q_proj|v_proj)"):
        p = small.base(tmp_path, lora_targets=targets)
        config = trainers._new_adapter(p, str(tmp_path / "base/model"))
        assert config.target_modules == targets and config.exclude_modules is None
