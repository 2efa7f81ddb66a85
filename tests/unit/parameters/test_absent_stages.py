"""Parameters that play no part in a study: they may be left out, and are outside every key."""

import json

import pytest
import yaml

from sm70lib.parameters import fields, launchers, stages
from sm70lib.steps import compared, keys, steps
from sm70lib.study import params, used
from sm70lib.study.params import ROOT, StudyError

TINY = yaml.safe_load((ROOT / "params/tiny.yml").read_text())
KINDS = ("cpt", "sft", "dpo")
SOURCES = {"cpt_sources": ["gazetteer"], "dpo_sources": ["preference_pairs"]}
MODEL = {"base_model": "some/model", "data_root": "hub"}


def file_of(folder, drop=(), **changes):
    """A study file: tiny's values with changes, without the names that begin with `drop`."""
    given = TINY | {"study": "mine"} | changes
    kept = {name: given[name] for name in given if not name.startswith(tuple(drop))}
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump(kept))
    return path


def refusal(path) -> str:
    with pytest.raises(StudyError) as said:
        params.load(path)
    return str(said.value)


def test_a_stage_is_declared_once_and_expanded():
    shared = set(stages.Stage.model_fields)
    assert len(shared) == 11
    for kind in KINDS:
        own = {name[4:] for name in fields.FIELDS if name.startswith(f"{kind}_")}
        assert shared < own, kind
    assert fields.FIELDS["dpo_steps"].description == "length of each preference round"
    assert fields.FIELDS["sft_steps"].description == "length of supervised tuning"


@pytest.mark.parametrize(
    "named", [["cpt"], ["sft"], ["dpo"], ["sft", "dpo", "dpo"], ["cpt", "sft"]]
)
def test_a_file_may_leave_out_the_stages_that_it_does_not_have(tmp_path, named):
    absent = [f"{kind}_" for kind in KINDS if kind not in named]
    study = params.load(file_of(tmp_path, absent, train_stages=named, **SOURCES))
    given = params.load(file_of(tmp_path, train_stages=named, **SOURCES))
    assert study.model_dump() == given.model_dump()
    left = {name for name in fields.FIELDS if name.startswith(tuple(absent))}
    assert len(left) >= 10 and left.isdisjoint(study.model_dump())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_that_is_named_has_to_be_complete(tmp_path, kind):
    own = [name for name in fields.FIELDS if name.startswith(f"{kind}_")]
    lacking = [name for name in own if name not in fields.BEFORE]
    assert len(lacking) >= 9
    for name in lacking:
        said = refusal(file_of(tmp_path, [name], train_stages=[kind], **SOURCES))
        assert said.endswith(f"lacks {name} (needed by a stage {kind} in train_stages)")


def test_each_reason_is_named_once(tmp_path):
    said = refusal(file_of(tmp_path, ["seed", "sft_lr", "sft_loss", "base_lr", "world_"]))
    assert "this one lacks seed; " in said
    assert "world_seed, world_conditions (needed by data_root world)" in said
    assert "base_lr (needed by base_model null)" in said
    assert "sft_lr, sft_loss (needed by a stage sft in train_stages)" in said


def test_what_is_given_all_the_same_is_still_read(tmp_path):
    assert "dpo_lr is 'fast'" in refusal(file_of(tmp_path, dpo_lr="fast"))
    assert "there is no parameter dpo_lrr" in refusal(file_of(tmp_path, dpo_lrr=1))


def test_a_base_that_is_named_needs_no_small_one_nor_a_world(tmp_path):
    absent = [name for name in TINY if name.startswith(("base_", "world_"))]
    absent.remove("base_model")
    study = params.load(file_of(tmp_path, absent, **MODEL))
    assert len(absent) >= 15 and set(absent).isdisjoint(study.model_dump())
    assert study.base_model == "some/model"


# ---- what is checked before anything runs --------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_sources_of_every_named_stage_are_checked(tmp_path, kind):
    batch = {f"{kind}_batch_size": 24, "train_micro_batch_size": 16}
    named = {"train_stages": [kind]} | SOURCES
    said = refusal(file_of(tmp_path, **named | batch))
    assert f"{kind}_batch_size 24 is not a multiple of train_micro_batch_size 16" in said
    launcher = {"train_launcher": "torchrun --nproc-per-node 3", "train_micro_batch_size": 1}
    said = refusal(file_of(tmp_path, **named | launcher))
    assert f"{kind}_batch_size 16 cannot be shared out evenly among the processes" in said
    other = {"train_stages": ["sft" if kind != "sft" else "cpt"]} | SOURCES
    others = {f"{name}_batch_size": 16 for name in KINDS if name != kind}
    assert params.load(file_of(tmp_path, **other | batch | others)), "it plays no part there"


@pytest.mark.parametrize("kind", ["cpt", "dpo"])
def test_a_stage_without_sources_is_refused(tmp_path, kind):
    said = refusal(file_of(tmp_path, train_stages=[kind]))
    assert f"has a stage {kind}, and there is nothing in {kind}_sources" in said


def test_a_stage_sft_without_sources_is_refused(tmp_path):
    assert "data_sources is []" in refusal(file_of(tmp_path, data_sources=[]))


def test_sources_of_preferences_hold_pairs_and_each_round_has_one(tmp_path):
    twice = {"train_stages": ["sft", "dpo", "dpo"]}
    said = refusal(file_of(tmp_path, **twice, dpo_sources=["medquad"]))
    assert "holds no pairs of answers; allowed are ultrafeedback" in said
    one = {"dpo_sources": ["snorkel_1"], "dpo_rounds": {"snorkel_1": 1}}
    assert "leaves a round of dpo without a source" in refusal(file_of(tmp_path, **twice, **one))
    one["dpo_sources"] = ["snorkel_1", "snorkel_2"]
    assert params.load(file_of(tmp_path, **twice, **one)), "snorkel_2 is in each round"


@pytest.mark.parametrize(
    "launcher, processes",
    [
        ("python", 1),
        ("torchrun --nproc-per-node 8", 8),
        ("torchrun --standalone --nproc_per_node=2", 2),
        ("torchrun --nnodes 2 --nproc-per-node 4", 8),
        ("torchrun --nproc-per-node gpu", 1),
        ("accelerate launch --config_file params/accelerate/ddp.yml --num_processes 4", 4),
        ("accelerate launch --config_file params/accelerate/ddp.yml", 2),
        ("accelerate launch --config_file params/accelerate/two-nodes.yml", 16),
        ("accelerate launch --config_file nowhere.yml", 1),
    ],
)
def test_a_launcher_says_how_many_processes_it_starts(launcher, processes):
    assert launchers.processes(launcher) == processes


# ---- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", steps.STEPS)
def test_what_plays_no_part_is_outside_the_key(tmp_path, name):
    absent = ("cpt_", "dpo_", "base_v", "base_lr", "world_")
    with_them = params.load(file_of(tmp_path, **MODEL, cpt_lr=0.5, dpo_sources=["snorkel_1"]))
    without = params.load(file_of(tmp_path, absent, **MODEL))
    key = keys.of_step(name, without)
    assert key == keys.of_step(name, with_them)
    assert not [n for n in key["parameters"] if n.startswith(absent)]


def test_a_mark_of_an_earlier_version_still_counts(tmp_path):
    """It has the parameters, and may have the data, of stages that the study does not have."""
    now = keys.of_step(keys.TUNING, params.load(file_of(tmp_path)))
    old = now | {"parameters": now["parameters"] | {"cpt_lr": 9.0, "dpo_beta": 9.0}}
    old["inputs"] = now["inputs"] | {"data/preferences": "a", "data/text": "b"}
    assert compared.difference(old, now) == ""
    more = params.load(file_of(tmp_path, train_stages=["sft", "dpo"], **SOURCES))
    said = compared.difference(old, keys.of_step(keys.TUNING, more))
    assert "train_stages: ['sft'] -> ['sft', 'dpo']" in said
    assert "dpo_beta: 9.0 -> 0.1" in said and "data/preferences changed" in said


def test_the_committed_results_are_still_those_of_tiny():
    """Only code may differ: 01, 05 and 06 are made again with other code."""
    study = params.load(ROOT / "params/tiny.yml")
    checked = 0
    for done in sorted((ROOT / "outputs/reference/tiny/steps").glob("*/done.json")):
        then = json.loads(done.read_text())["key"]
        now = keys.of_step(done.parent.name, study)
        assert (
            compared.difference(then | {"inputs": {}, "code": {}}, now | {"inputs": {}, "code": {}})
            == ""
        )
        checked += len(then["parameters"].keys() & now["parameters"].keys())
    assert checked > 60


def test_how_often_there_is_a_stage_concerns_training_alone(tmp_path):
    once, twice = (
        params.load(file_of(tmp_path, train_stages=["sft", *["dpo"] * n], **SOURCES))
        for n in (1, 2)
    )
    for name in steps.STEPS:
        same = keys.of_step(name, once) == keys.of_step(name, twice)
        assert same == (name != keys.TUNING), name


def test_the_sources_of_a_study_are_those_of_its_stages(tmp_path):
    named = params.load(file_of(tmp_path, train_stages=["cpt", "sft"], **SOURCES))
    assert used.sources_of(named) == [*TINY["data_sources"], "gazetteer"]
    alone = params.load(file_of(tmp_path, ["sft_"], train_stages=["cpt"], **SOURCES))
    assert used.loss_of(alone) == "response"
