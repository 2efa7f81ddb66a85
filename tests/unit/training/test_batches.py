"""What is read at each step is what TRL's own preparation of the rows would give."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from sm70lib.models import loading
from sm70lib.training import methods, trainers
from sm70lib.training.rows import rows_of
from tests.tuning import staged


class Stopped(TrainerCallback):
    """Ends a run after step 3, as a kill behind a checkpoint would."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 3


def read(p, folder, kind, stop=False, resume=None):
    """Every batch that a stage trains and is evaluated on, its losses, and its final weights."""
    rows, holdout = rows_of(kind, folder, p, 1)
    how = SimpleNamespace(kind=kind, seed=0, start=None)
    trainer = trainers.build(p, loading.located(folder), rows, holdout, folder / "stage", how)
    seen = []

    def step(model, inputs, *args):
        seen.append(dict(inputs))
        return type(trainer).training_step(trainer, model, inputs, *args)

    trainer.training_step = step
    if stop:
        trainer.add_callback(Stopped())
    trainer.train(resume_from_checkpoint=resume)
    losses = {row["step"]: row["loss"] for row in trainer.state.log_history if "loss" in row}
    weights = {n: w.detach() for n, w in trainer.model.named_parameters() if w.requires_grad}
    return seen, [dict(batch) for batch in trainer.get_eval_dataloader()], losses, weights


def alike(one, other) -> bool:
    """Whether two values are the same: tensors, numbers, or lists and dictionaries of them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if torch.is_tensor(one):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("kind", ["cpt", "sft"])
def test_batches_losses_and_weights_are_those_of_trl_also_when_resumed(
    tmp_path, monkeypatch, kind, packing
):
    changes = {f"{kind}_{name}": value for name, value in (("steps", 6), ("packing", packing))}
    p = staged(tmp_path, train_stages=[kind], data_max_length=128, data_holdout=4, **changes)
    ours = read(p, tmp_path, kind)
    shutil.rmtree(tmp_path / "stage")
    read(p, tmp_path, kind, stop=True)
    resumed = read(p, tmp_path, kind, resume=str(tmp_path / "stage/checkpoint-3"))
    monkeypatch.setitem(methods.METHODS, kind, methods.Method("SFTTrainer", "SFTConfig"))
    monkeypatch.setattr(trainers, "prepared", lambda rows, settings: rows)
    theirs = read(p, tmp_path, kind)
    names = {"input_ids", "labels", *(("position_ids", "seq_idx") if packing else ())}
    assert names <= theirs[0][0].keys() and len(theirs[0]) >= 6 and theirs[1]
    assert alike(list(ours), list(theirs))
    half = len(theirs[0]) // 2
    assert alike(resumed[0], theirs[0][half:]) and alike(list(resumed[1:]), list(theirs[1:]))


def test_no_row_is_looked_at_in_python(tmp_path, monkeypatch):
    """A pass over 48 billion tokens would take hours at every start."""
    from datasets import Dataset

    p = staged(tmp_path, train_stages=["cpt"], data_max_length=128, cpt_packing=True)
    mapped, once = [], Dataset.map

    def noted(rows, function, *args, **kwargs):
        mapped.append(function.__name__)
        return once(rows, function, *args, **kwargs)

    monkeypatch.setattr(Dataset, "map", noted)
    for packing, expected in ((True, ["_pack_bfd"] * 2), (False, [])):
        p.cpt_packing, mapped[:] = packing, []
        rows, holdout = rows_of("cpt", tmp_path, p, 1)
        how = SimpleNamespace(kind="cpt", seed=0, start=None)
        trainers.build(p, loading.located(tmp_path), rows, holdout, tmp_path / "stage", how)
        assert mapped == expected
