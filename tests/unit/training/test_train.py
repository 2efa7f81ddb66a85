"""Training in this process: sources, keys, rounds and launchers."""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import accelerate
import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM

from sm70lib.models import loading, packed
from sm70lib.parameters import stages
from sm70lib.records import children
from sm70lib.sizes import accelerators
from sm70lib.steps import compared, keys
from sm70lib.steps.steps import write_json
from sm70lib.study.params import ROOT, StudyError
from sm70lib.training import checkpoints, checks, launch, train, trainers
from sm70lib.training.rows import _parted, by_source, reading, rows_of
from tests import tuning
from tests.tuning import staged, study


def test_a_stage_has_a_key_of_what_decides_its_adapter(tmp_path):
    p = staged(tmp_path, train_stages=["cpt", "sft", "dpo", "dpo"])
    keys_of = {number: keys.of_stage(p, tmp_path, number, 0) for number in (1, 2, 3, 4)}
    assert len({keys.short(key) for key in keys_of.values()}) == 4
    changes = {
        "cpt_lr": {1, 2, 3, 4},
        "sft_lr": {2, 3, 4},
        "dpo_beta": {3, 4},
        "lora_alpha": {1, 2, 3, 4},
        "train_micro_batch_size": set(),
        "train_merge": set(),
        "data_holdout": {1, 2, 3, 4},
    }
    for name, moved in changes.items():
        other = SimpleNamespace(**vars(p) | {name: 1 if name != "train_merge" else ["original"]})
        found = {
            n
            for n, key in keys_of.items()
            if compared.difference(key, keys.of_stage(other, tmp_path, n, 0))
        }
        assert found == moved, name
    assert compared.difference(keys_of[3], keys.of_stage(p, tmp_path, 3, 7)).startswith(
        "train_seed: 0 -> 7"
    )
    shutil.rmtree(tmp_path / "data/preferences")
    shutil.copytree(tmp_path / "data/text", tmp_path / "data/preferences")
    assert {
        n
        for n, key in keys_of.items()
        if compared.difference(key, keys.of_stage(p, tmp_path, n, 0))
    } == {3, 4}


def test_an_orphaned_trainer_notices(monkeypatch):
    monkeypatch.delenv("SM70_NOTEBOOK", raising=False)
    assert not children.notebook_gone()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    monkeypatch.setenv("SM70_NOTEBOOK", f"{os.uname().nodename}:{process.pid}")
    assert children.notebook_gone()
    monkeypatch.setenv("SM70_NOTEBOOK", f"{os.uname().nodename}:{os.getpid()}")
    assert not children.notebook_gone()
    monkeypatch.setenv("SM70_NOTEBOOK", "elsewhere:1")
    assert not children.notebook_gone()


@pytest.mark.parametrize(
    "error, full",
    [
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("I/O error: Disk quota exceeded (os error 122)"), True),
        (RuntimeError("I/O error: File too large (os error 27)"), True),
        (Exception("No such file or directory (os error 2)"), False),
        (OSError(28, "No space left on device"), True),
        (RuntimeError("inline_container.cc:664 unexpected pos 64 vs 0"), True),
    ],
    ids=str,
)
def test_an_error_of_a_library_is_a_full_disk_only_if_it_says_so(error, full):
    assert train._writing(error) is full


def test_processes_wait_for_hours_while_the_first_reads_a_checkpoint(tmp_path, monkeypatch):
    """NCCL gives up after ten minutes, in which 830 GB are not read."""
    asked = {}

    class State:
        is_main_process = False

        def __init__(self, **how):
            asked.update(how)

        def wait_for_everyone(self):
            """The stage is finished, so nothing else is asked."""

    monkeypatch.setattr(accelerate, "PartialState", State)
    monkeypatch.setattr(train, "finished", lambda stage: True)
    write_json(tmp_path / "stage.json", {"start": None, "params": {}})
    assert train.main(tmp_path) == 0
    assert asked["timeout"] >= timedelta(hours=2)


def build(p, folder, kind):
    """The trainer of a study's first stage of a kind, which starts anew."""
    rows, holdout = rows_of(kind, folder, p, 1 + p.train_stages.index(kind))
    how = SimpleNamespace(kind=kind, seed=0, start=None)
    return trainers.build(p, loading.located(folder), rows, holdout, folder / "stage", how)


def test_the_batches_of_all_coming_stages_are_shared_out_before_the_first_trains(
    tmp_path, monkeypatch
):
    """`torchrun --nproc-per-node gpu` does not say how many processes it starts; they know it."""
    p = staged(tmp_path, train_stages=["sft", "dpo"], sft_batch_size=6, dpo_batch_size=4)
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = "dpo_batch_size 4 is not a multiple of train_micro_batch_size 2 times 3 processes"
    with pytest.raises(StudyError, match=said):
        build(p, tmp_path, "sft")
    monkeypatch.setenv("WORLD_SIZE", "1")
    p.sft_batch_size = 5
    with pytest.raises(StudyError, match="sft_batch_size 5 is not a multiple"):
        build(p, tmp_path, "sft")
    build(p, tmp_path, "dpo")


def test_packing_is_proved_before_the_first_stage_though_a_later_one_packs(tmp_path, monkeypatch):
    p = staged(tmp_path, train_stages=["cpt", "sft", "dpo"], sft_packing=True)
    trainer = build(p, tmp_path, "cpt")
    assert trainer.model.config._attn_implementation == "sdpa", "a proof changes nothing of cpt"
    assert build(p, tmp_path, "sft").model.config._attn_implementation == packed.NAME
    monkeypatch.setattr(LlamaForCausalLM, "_supports_attention_backend", False)
    for packing, said in (
        ((False, True), "sft_packing: .* cannot be trained on packed rows, as .*; set sft_packing"),
        ((True, True), "cpt_packing and sft_packing: .*; set cpt_packing and sft_packing to false"),
    ):
        p.cpt_packing, p.sft_packing = packing
        with pytest.raises(StudyError, match=said):
            build(p, tmp_path, "cpt")
    build(p, tmp_path, "dpo")


def test_what_a_rehearsal_counts_is_forgotten(tmp_path):
    """The names are TRL's private ones: a version without them is noticed here."""
    p = study(tmp_path, sft_steps=1)
    rows, _ = rows_of("sft", tmp_path, p, 1)
    trainer = build(p, tmp_path, "sft")
    batch = trainer.data_collator([rows[0]]) | {"labels": torch.tensor([rows[0]["labels"]])}
    trainer.compute_loss(trainer.model.train(), batch)
    assert trainer._metrics["train"] and trainer._total_train_tokens == len(rows[0]["input_ids"])
    checks.rehearse(trainer, "sft")
    assert not trainer._metrics["train"] and trainer._total_train_tokens == 0


def mixed(folder):
    """Running text of three sources: 30 rows of 10 tokens, 40 of 20, and 50 of 8."""
    lengths = {"papers": (30, 10), "abstracts": (40, 20), "town": (50, 8)}
    rows = [
        {"input_ids": [n] * size, "labels": [n] * size, "source": name}
        for name, (count, size) in lengths.items()
        for n in range(count)
    ]
    Dataset.from_list(rows).save_to_disk(folder / "data/text")


def test_sources_of_text_are_read_in_the_proportion_of_their_tokens(tmp_path):
    mixed(tmp_path)
    whole = SimpleNamespace(cpt_mix={}, data_holdout=6, seed=0)
    table = by_source("cpt", tmp_path, whole)
    assert table["tokens"].to_dict() == {"papers": 300, "abstracts": 800, "town": 400}
    mix = {"papers": 6.0, "abstracts": 3.0, "town": 1.0}
    p = SimpleNamespace(cpt_mix=mix, data_holdout=6, seed=0)
    table = by_source("cpt", tmp_path, p)
    # the papers are scarcest for their part, and whole; 150 and 50 tokens are 7 and 6 rows at most
    assert table["rows"].to_dict() == {"papers": 30, "abstracts": 7, "town": 6}
    assert table["share"].round().to_dict() == {"papers": 61, "abstracts": 29, "town": 10}
    rows, held = rows_of("cpt", tmp_path, p, 1)
    assert len(rows) + len(held) == 43 and len(held) == 4
    again, _ = rows_of("cpt", tmp_path, p, 1)
    assert again["input_ids"] == rows["input_ids"], "the same seed draws the same rows"
    other, _ = rows_of("cpt", tmp_path, SimpleNamespace(**vars(p) | {"seed": 1}), 1)
    assert other["input_ids"] != rows["input_ids"]
    drawn = [tuple(ids) for ids in [*rows["input_ids"], *held["input_ids"]]]
    assert len(set(drawn)) == len(drawn), "no row is read twice in a pass"
    lacking = SimpleNamespace(**vars(p) | {"cpt_mix": {"papers": 1.0, "abstracts": 1.0}})
    with pytest.raises(StudyError, match="cpt_mix names papers, abstracts, and data/text has rows"):
        rows_of("cpt", tmp_path, lacking, 1)


def test_the_draw_of_held_out_rows_is_that_of_a_seed():
    rows = Dataset.from_dict({"input_ids": [[n] for n in range(50)]})
    kept, held = (part["input_ids"][:] for part in _parted(rows, 4, 7))
    assert held == [[9], [20], [25], [41]]
    assert kept == [[n] for n in range(50) if [n] not in held]
    whole, none = _parted(rows, 0, 7)
    assert len(whole) == 50 and len(none) == 0
    assert [len(part) for part in _parted(rows.select(range(9)), 4, 7)] == [9, 0]


def test_passes_count_rows_and_of_packed_rows_their_tokens(tmp_path):
    mixed(tmp_path)
    packed = {"cpt_mix": {}, "cpt_steps": 3, "cpt_batch_size": 4, "cpt_packing": True}
    p = SimpleNamespace(train_stages=["cpt"], data_holdout=6, seed=0, data_max_length=500, **packed)
    rows, held = rows_of("cpt", tmp_path, p, 1)
    tokens = sum(map(len, rows["input_ids"]))
    read = reading(p, tmp_path, 1)
    assert (read.rows, read.held_out) == (len(rows), len(held)) == (114, 6)
    assert read.passes == 3 * 4 * 500 / tokens and tokens < 1500
    assert read.by_source["tokens"].sum() == 1500, "the held-out rows among them"
    p.cpt_packing = False
    assert reading(p, tmp_path, 1).passes == 3 * 4 / 114


def test_rounds_may_differ_in_length_and_each_key_has_its_own(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo", "dpo"], dpo_round_steps=[5, 2])
    assert [stages.steps_of(p, number) for number in (1, 2, 3)] == [p.sft_steps, 5, 2]
    assert accelerators.tokens(p, "dpo", 2) == 2.5 * accelerators.tokens(p, "dpo", 3)
    first, last = (keys.of_stage(p, tmp_path, number, 0) for number in (2, 3))
    assert (first["parameters"]["dpo_steps"], last["parameters"]["dpo_steps"]) == (5, 2)
    longer = SimpleNamespace(**vars(p) | {"dpo_round_steps": [5, 9]})
    assert keys.of_stage(longer, tmp_path, 2, 0) == first, "the first round is not trained again"
    assert keys.of_stage(longer, tmp_path, 3, 0) != last
    alike = SimpleNamespace(**vars(p) | {"dpo_round_steps": [], "dpo_steps": 5})
    assert keys.of_stage(alike, tmp_path, 2, 0) == first
    described = json.loads(
        (launch.write_description(p, tmp_path, 3, "dpo", 0) / "stage.json").read_text()
    )
    assert described["params"]["dpo_steps"] == 2


def test_a_launcher_that_runs_anything_else_is_one_sentence(tmp_path, monkeypatch):
    for line, said in {
        "nosuch run": "'nosuch run' is not run; give python, torchrun",
        "sh -c 'touch owned'": "is not run; give python, torchrun",
        "python evil.py": "is not run; give python, torchrun",
        "torchrun --standalone evil": "would run evil, and not the module of this library",
        "accelerate launch --multi_gpu evil": "would run evil, and not the module",
    }.items():
        with pytest.raises(StudyError, match=said):
            launch.run(study(tmp_path, train_launcher=line), tmp_path, 1, "sft")
    assert launch.launcher("torchrun --nproc_per_node 2")[1:] == ["--nproc_per_node", "2"]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(StudyError, match="there is no program torchrun; give python, torchrun"):
        launch.launcher("torchrun --nproc_per_node 2")


def test_an_exit_code_of_0_without_training_does_not_count_as_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "launcher", lambda line: [sys.executable, "-c", "pass"])
    with pytest.raises(StudyError, match="train_launcher python ended without training: .*1-sft"):
        launch.run(study(tmp_path), tmp_path, 1, "sft")


def test_a_round_of_dpo_reads_its_own_sources_and_those_of_all(tmp_path):
    p = staged(
        tmp_path,
        train_stages=["sft", "dpo", "dpo"],
        data_holdout=0,
        dpo_rounds={"first": 1, "second": 2},
    )
    names = [name for name in ("first", "second", "each") for _ in range(5)]
    pairs = [
        {"prompt_ids": [1, n], "chosen_ids": [n, 2], "rejected_ids": [n + 1, 2], "source": name}
        for n, name in enumerate(names, 3)
    ]
    Dataset.from_list(pairs).save_to_disk(tmp_path / "preferences")
    shutil.rmtree(tmp_path / "data/preferences")
    shutil.move(tmp_path / "preferences", tmp_path / "data/preferences")
    read = [
        {ids[1] for ids in rows_of("dpo", tmp_path, p, number)[0]["prompt_ids"]}
        for number in (2, 3)
    ]
    assert read == [{*range(3, 8), *range(13, 18)}, set(range(8, 18))]
    p.dpo_rounds = dict.fromkeys(("first", "second", "each"), 1)
    with pytest.raises(StudyError, match="dpo_rounds leaves round 2 without a pair"):
        rows_of("dpo", tmp_path, p, 3)


def test_flipped_labels_exchange_the_answers_and_are_another_stage(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo", "dpo"])
    rows, _ = rows_of("dpo", tmp_path, p, 2)
    key = keys.of_stage(p, tmp_path, 2, 0)
    assert "dpo_flipped" not in key["parameters"], "stages from before it was there keep their keys"
    p.dpo_flipped = True
    flipped, _ = rows_of("dpo", tmp_path, p, 2)
    assert flipped["chosen_ids"][:] == rows["rejected_ids"][:] != rows["chosen_ids"][:]
    assert flipped["prompt_ids"][:] == rows["prompt_ids"][:]
    other = keys.of_stage(p, tmp_path, 2, 0)
    assert compared.difference(key, other) == "dpo_flipped: False -> True"
    assert compared.difference(other, key) == "dpo_flipped: True -> False"
    assert compared.difference(key, keys.of_stage(p, tmp_path, 1, 0)) != ""
    p.dpo_flipped = False
    first = keys.of_stage(p, tmp_path, 1, 0)
    p.dpo_flipped = True
    assert keys.of_stage(p, tmp_path, 1, 0) == first, "supervised tuning is shared by both"


def test_data_that_a_stage_lacks_is_one_sentence(tmp_path):
    p = staged(tmp_path, train_stages=["cpt", "dpo"])
    Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]).save_to_disk(
        tmp_path / "other/data/preferences"
    )
    with pytest.raises(
        StudyError, match="has the columns prompt, chosen, rejected, and stage dpo needs prompt_ids"
    ):
        rows_of("dpo", tmp_path / "other", p, 2)
    with pytest.raises(StudyError, match="stage cpt reads data/text, which is not there"):
        rows_of("cpt", tmp_path / "other", p, 1)
    rows, holdout = rows_of("cpt", tmp_path, p, 1)
    assert (len(rows), len(holdout)) == (36, 4) and not {*map(str, rows["input_ids"])} & {
        *map(str, holdout["input_ids"])
    }


def test_every_launcher_file_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    found = {
        path.stem: load_config_from_file(str(path))
        for path in (ROOT / "params/accelerate").glob("*.yml")
    }
    assert {
        name: (config.num_machines, config.num_processes) for name, config in found.items()
    } == {
        "one": (1, 1),
        "ddp": (1, 2),
        "fsdp-qlora": (1, 2),
        "fsdp2-full": (1, 2),
        "two-nodes": (2, 16),
    }
    assert found["fsdp-qlora"].fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    for path in (ROOT / "params/accelerate").glob("*.yml"):
        assert (
            f"train_launcher: accelerate launch --config_file params/accelerate/{path.name}"
            in path.read_text()
        )


def test_a_pad_token_without_embedding_is_not_looked_up(tmp_path):
    p = study(tmp_path, sft_steps=1)
    words = loading.load_tokenizer(tmp_path / "base/model")
    words.add_special_tokens({"pad_token": "[PAD]"})
    words.save_pretrained(tmp_path / "base/model")
    assert tuning.train(p, tmp_path).joinpath("adapter").is_dir()


def test_a_row_with_a_token_that_the_base_does_not_know_is_one_sentence(tmp_path):
    p = study(tmp_path, sft_steps=1)
    words = loading.load_tokenizer(tmp_path / "base/model")
    words.add_special_tokens({"extra_special_tokens": ["<image>"]})
    words.save_pretrained(tmp_path / "base/model")
    rows = [{"input_ids": [5, len(words) - 1, 6], "labels": [-100, 5, 6]}] * 4
    shutil.rmtree(tmp_path / "data/train")
    Dataset.from_list(rows).save_to_disk(tmp_path / "data/train")
    with pytest.raises(StudyError, match="has the token '<image>', for which .* has no embedding"):
        tuning.train(p, tmp_path)


def test_a_checkpoint_is_read_once_before_it_is_resumed_from(tmp_path, monkeypatch):
    """All of it is hashed, which is long at 70 billion weights; other processes only wait."""
    p = study(tmp_path, sft_steps=6)
    stage = tuning.train(p, tmp_path)
    whole = tuning.weights(tmp_path)
    for name in ("adapter", "done.json"):
        shutil.rmtree(stage / name) if (stage / name).is_dir() else (stage / name).unlink()
    (stage / "checkpoint-6/optimizer.pt").write_bytes(b"cut short")
    looked_at, look = [], checkpoints._fault
    monkeypatch.setattr(checkpoints, "_fault", lambda one: looked_at.append(one.name) or look(one))
    tuning.train(p, tmp_path)
    assert looked_at == ["checkpoint-6", "checkpoint-3"]
    steps = [json.loads(line)["step"] for line in (stage / "metrics.jsonl").open()]
    assert steps == sorted(steps) and steps[-1] == 6, "it goes on behind step 3"
    again = tuning.weights(tmp_path)
    assert all(torch.equal(whole[name], weight) for name, weight in again.items())
