"""What a notebook's rooms read of its parameters is declared in its parameters cell."""

import json

import pytest

from sm70lib.study import provenance
from sm70lib.study.cells import assigned
from sm70lib.study.params import ROOT
from tests.unit.study.followed import needed

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_reads_is_declared_in_its_cell(notebook):
    read = needed(notebook)
    lacking = {
        name: where for name, where in read.items() if name not in provenance.declared(notebook)
    }
    assert not lacking and len(read) >= 5


REACHED = {  # names that are read far from the notebook, each by another of the ways above
    "03_qlora_finetune": {
        "data_holdout",
        "train_launcher",
        "lora_rslora",
        "cpt_packing",
        "dpo_beta",
        "sft_steps",
        "dpo_rounds",
        "train_save_steps",
        "quant_double",
    },
    "04_eval": {
        "eval_limit",
        "eval_launcher",
        "eval_batch_tokens",
        "quant_compute_dtype",
        "eval_models",
    },
    "01_data": {
        "audit_label",
        "data_caps",
        "sft_loss",
        "cpt_sources",
        "train_stages",
        "data_template",
        "data_overlong",
    },
    "00_base": {"base_lr", "world_conditions", "base_kv_heads"},
}


@pytest.mark.parametrize("name", REACHED)
def test_what_lies_far_from_the_notebook_is_found(name):
    path = ROOT / f"notebooks/{name}.ipynb"
    read = needed(path)  # by the other cells: what the parameters cell declares plays no part
    assert REACHED[name] <= read.keys()
    cells = json.loads(path.read_text())["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    for gone in sorted(REACHED[name]):
        left = [line for line in cell["source"] if not line.startswith(f"{gone}:")]
        assert read.keys() - assigned("".join(left)).keys() == {gone}


def test_parameters_that_are_not_handed_on_are_not_read():
    assert "quant_type" not in needed(ROOT / "notebooks/00_base.ipynb"), (
        "model.load gets no p there"
    )


def test_a_stage_that_is_known_needs_no_parameters_of_another(tmp_path):
    path = ROOT / "notebooks/02_load_4bit.ipynb"
    assert {"sft_optimizer", "dpo_optimizer"} <= needed(path).keys(), "02 plans any stage"
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("(base, p, kind)", "(base, p)"))
    read = needed(copy)
    assert "sft_optimizer" in read and "dpo_optimizer" not in read, (
        "it would plan supervised tuning alone"
    )
