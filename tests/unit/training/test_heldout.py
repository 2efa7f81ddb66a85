"""The loss of each held-out row is the model's own, whatever rows it is padded with."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sm70lib.training import watch


@pytest.fixture
def trainer():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=50,
    )
    rows = []
    for length in (5, 12, 9, 30, 7, 8, 6, 11, 14, 4, 21):
        ids = torch.randint(0, 50, (length,)).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    model = LlamaForCausalLM(config).train()
    return SimpleNamespace(model=model, eval_dataset=rows, is_world_process_zero=lambda: True)


def test_losses_are_those_of_transformers_and_are_measured_once(trainer, tmp_path):
    documents = tmp_path / "holdout.csv"
    places = [1, 3, 0, 9, 2, 10, 4, 6, 8]
    pd.DataFrame({"place": places, "document": ["a", "b", "c"] * 3}).to_csv(documents, index=False)
    stage = tmp_path / "stage"
    stage.mkdir()
    watch.measure_documents(trainer, documents, stage, watch.BEFORE)
    found = pd.read_csv(stage / "holdout.csv")
    model = trainer.model
    for place, loss, targets in zip(places, found[watch.BEFORE], found["targets"]):
        row = trainer.eval_dataset[place]
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        theirs = model.eval()(input_ids=ids, labels=labels).loss.item()
        assert targets == (labels[:, 1:] != -100).sum()
        assert loss == pytest.approx(theirs * targets, rel=1e-4)
    model.lm_head.weight.data += 1
    watch.measure_documents(trainer, documents, stage, watch.BEFORE)
    assert pd.read_csv(stage / "holdout.csv").equals(found), (
        "a resumed run keeps the loss of step 0"
    )
    watch.measure_documents(trainer, documents, stage, watch.AFTER)
    assert list(pd.read_csv(stage / "holdout.csv"))[-1] == watch.AFTER


def test_without_documents_nothing_is_written(trainer, tmp_path):
    for documents in (tmp_path / "none.csv", None):  # None in a stage of pairs or of running text
        watch.measure_documents(trainer, documents, tmp_path, watch.BEFORE)
    assert not list(tmp_path.iterdir())
