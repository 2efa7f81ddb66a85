"""Merged models: what they are, one base in memory at a time, and none half-written by a kill."""

import gc
import weakref

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from sm70lib.models import loading
from sm70lib.parameters import fields
from sm70lib.steps import keys, steps
from sm70lib.study import params
from sm70lib.study.files import digest
from sm70lib.training import merging
from tests import small
from tests.small import with_adapter

TUNING = "03_qlora_finetune"


def rows(count: int, length: int = 40) -> list[dict]:
    generator = torch.Generator().manual_seed(3)
    return [
        {
            "input_ids": (ids := torch.randint(3, 500, (length,), generator=generator).tolist()),
            "labels": [-100] * 20 + ids[20:],
        }
        for _ in range(count)
    ]


@pytest.fixture
def study(tmp_path):
    """A study's folder with a base, an adapter and rows held back; and its parameters."""
    p = small.base(tmp_path, train_merge=["dequantised", "original"])
    with_adapter(loading.load(tmp_path / "base/model", p)).save_pretrained(tmp_path / "adapter")
    for name in ("train", "holdout"):
        Dataset.from_list(rows(8)).save_to_disk(tmp_path / "data" / name)
    return tmp_path, p


def test_merged_into_the_dequantised_base_it_is_the_model_that_was_trained(study):
    folder, p = study
    found = merging.all_wanted(p, folder)
    assert list(found.index) == p.train_merge and list(found.columns) == merging.COLUMNS
    assert found["items"].tolist() == [8, 8] and found["tokens"].tolist() == [8 * 20] * 2
    same, moved = (found.loc[into] for into in p.train_merge)
    assert same["flips"] == 0 and same["largest_logit_difference"] < 1e-4
    assert moved["largest_logit_difference"] > 1e-2, "what quantisation moved is not in that base"
    assert loading.load_tokenizer(folder / "merged/original").bos_token_id is not None


def test_no_two_models_are_in_memory(study, monkeypatch):
    folder, p = study
    alive, counts, load = [], [], loading.load

    def counted(*given, **named):
        gc.collect()
        counts.append(sum(one() is not None for one in alive))
        loaded = load(*given, **named)
        base = loaded.get_base_model() if hasattr(loaded, "get_base_model") else loaded
        alive.extend(weakref.ref(weight) for weight in (base.get_input_embeddings().weight,))
        return loaded

    monkeypatch.setattr(loading, "load", counted)
    merging.all_wanted(p, folder)
    assert counts == [0] * 5, "the tuned one, then for each base: to merge into, and merged"


def test_what_is_merged_is_left_what_is_not_asked_moves_aside_and_comes_back(study, monkeypatch):
    folder, p = study
    first = merging.all_wanted(p, folder)
    weights = digest(folder / "merged/original")
    monkeypatch.setattr(loading, "load", None)  # nothing is loaded from here on
    assert merging.all_wanted(p, folder).equals(first)
    p.train_merge = []
    assert merging.all_wanted(p, folder).empty and not list(folder.glob("merged/*"))
    p.train_merge = ["original"]
    found = merging.all_wanted(p, folder)
    assert found.equals(first.loc[["original"]]) and digest(folder / "merged/original") == weights
    assert [path.name for path in folder.glob("merged/*")] == ["original"]


def test_a_merge_of_another_adapter_is_stale(study):
    folder, p = study
    p.train_merge = ["original"]
    merging.all_wanted(p, folder)
    before = digest(folder / "merged/original")
    with_adapter(loading.load(folder / "base/model", p)).save_pretrained(folder / "other")
    weights = load_file(folder / "adapter/adapter_model.safetensors")
    save_file(
        {name: weight * 2 for name, weight in weights.items()},
        folder / "adapter/adapter_model.safetensors",
    )
    merging.all_wanted(p, folder)
    (stale,) = folder.glob(f"replaced/{TUNING}/*/merged/original")
    assert digest(folder / "merged/original") != before == digest(stale)


@pytest.mark.parametrize("at", ["merge", "parity", "note"])
def test_a_killed_merge_leaves_nothing_half_written_and_is_made_again(study, monkeypatch, at):
    folder, p = study
    p.train_merge = ["original"]

    class Killed(BaseException):
        pass

    def kill(*given, **named):
        if at == "merge":
            (folder / "merging").mkdir()
            (folder / "merging/model.safetensors").write_text("half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if at == "note":
            patch.setattr(merging.os, "replace", kill)
        else:
            patch.setattr(merging, at, kill)
        merging.all_wanted(p, folder)
    assert not (folder / "merged/original").exists()
    found = merging.all_wanted(p, folder)
    assert found["tokens"].tolist() == [160] and not (folder / "merging").exists()
    assert (folder / "merged/original/model.safetensors").exists()


def test_few_targets_are_kept_however_long_the_rows(study, monkeypatch):
    folder, p = study
    monkeypatch.setattr(merging, "COMPARED", 50)
    some = merging.compared_rows(p, folder)
    assert [len(row["input_ids"]) for row in some] == [40, 40, 30]
    found = merging.logits_of(folder / "base/model", p, folder / "adapter", some)
    assert [tuple(logits.shape) for logits in found] == [(20, 600), (20, 600), (10, 600)]
    assert {logits.dtype for logits in found} == {torch.float32}


def test_pairs_are_compared_by_their_chosen_answer(study):
    folder, p = study
    p.train_stages = ["sft", "dpo"]
    pairs = [
        {"prompt_ids": [1, 5, 6], "chosen_ids": [7, 2], "rejected_ids": [8, 2], "source": "s"}
    ] * 40
    Dataset.from_list(pairs).save_to_disk(folder / "data/preferences")
    some = merging.compared_rows(p, folder)
    assert (
        some
        == [{"input_ids": [1, 5, 6, 7, 2], "labels": [-100, -100, -100, 7, 2]}] * p.data_holdout
    )


# ---- merging and step 03 ------------------------------------------------------------------------


def test_a_merge_added_or_taken_out_trains_nothing_again(study, monkeypatch):
    folder, small_study = study
    monkeypatch.setenv("SM70_OUTPUTS", str(folder.parent))

    def wanted(*merges: str) -> fields.Study:
        given = {"study": folder.name.replace("_", "-"), "train_merge": list(merges)}
        return params.load(params.ROOT / "params/tiny.yml", overrides=given)

    def run(p) -> tuple[bool, str]:
        step = steps.begin(TUNING, p)
        merging.all_wanted(p, folder)
        step.finish("adapter", *[f"merged/{into}" for into in p.train_merge])
        return steps.status(TUNING, p)

    folder = folder.rename(folder.parent / wanted().study)
    for name, wrote in (("00_base", "base/*"), ("01_data", "data/*")):
        steps.Step(name, wanted(), folder, keys.of_step(name, wanted()), {}, 0.0, None).finish(
            wrote
        )
    finished = (True, "finished")
    assert run(wanted()) == finished
    adapter, key = digest(folder / "adapter"), steps.mark(folder, TUNING)["key"]
    assert steps.status(TUNING, wanted("original")) == (False, "merged/original is not there yet")
    assert run(wanted("original")) == finished
    done = steps.mark(folder, TUNING)
    assert done["key"] == key and set(done["outputs"]) == {"adapter", "merged/original"}
    assert done["parameters"]["train_merge"] == ["original"]
    assert steps.status(TUNING, wanted()) == (False, "merged/original is no longer asked for")
    assert run(wanted()) == finished and digest(folder / "adapter") == adapter
    assert set(steps.mark(folder, TUNING)["outputs"]) == {"adapter"}
