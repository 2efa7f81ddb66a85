"""The plan agrees with what is measured, and the verdict names what to change."""

import pytest

from sm70lib import model, plan
from tests import small


@pytest.mark.parametrize("double", [True, False])
def test_plan_equals_measurement_part_by_part(tmp_path, double):
    p = small.base(tmp_path, quant_double=double)
    both = plan.plan(tmp_path / "base/model", p).merge(plan.measure(model.load(tmp_path / "base/model", p)), on="part")
    assert list(both["part"]) == ["NF4 weights", "quantisation constants", "other weights"]
    for row in both.itertuples():
        assert row.planned_mb == pytest.approx(row.measured_mb, rel=0.02), row.part


def test_what_does_not_fit_says_what_to_change(tmp_path, monkeypatch):
    p = small.base(tmp_path)
    planned = plan.plan(tmp_path / "base/model", p)
    assert "fits" in plan.verdict(planned) and "does not" not in plan.verdict(planned)
    monkeypatch.setattr(plan, "_available_bytes", lambda: 1000)
    assert "does not fit; lower lora_r" in plan.verdict(planned)


def test_every_linear_layer_but_the_head_is_quantised(tmp_path):
    p = small.base(tmp_path)
    table = plan.layers(model.load(tmp_path / "base/model", p))
    quantised = table[table["class"] == "Linear4bit"]
    assert set(quantised["layer"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert quantised["count"].sum() == 14 and set(quantised["stored_as"]) == {"uint8"}


def test_quantisation_error_is_nothing_for_the_same_model(tmp_path):
    small.base(tmp_path)
    found = plan.quantisation_error(str(tmp_path / "base/model"), model.load(tmp_path / "base/model"))
    assert found["kl_nats"] == pytest.approx(0, abs=1e-5) and found["agreement_pct"] == 100
