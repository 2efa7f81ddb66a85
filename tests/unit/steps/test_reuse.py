"""A new study takes over what it would make alike, and nothing leaves the old one."""

import json
import os
import shutil

import pytest

from sm70lib.parameters import fields
from sm70lib.steps import keys, reuse, steps
from sm70lib.study import files, params
from sm70lib.training import launch
from tests.toy import TOY, Toy, tree

TUNING = "03_qlora_finetune"
QUICK = ("05_error_analysis", "06_figures")


def variant(toy: Toy, **changes) -> fields.Study:
    """The parameters of a new study."""
    return params.load(toy.file, overrides={"study": "new"} | changes)


def train(folder, study, number: int, seed: int, text: str) -> None:
    """A finished stage, as the trainer leaves it."""
    stage = keys.stage_folder(study, folder, number, seed)
    key = keys.of_stage(study, folder, number, seed)
    steps.write_json(stage / "stage.json", {"key": key})
    steps.write_json(stage / "done.json", {"steps": 3})
    steps.write_text(stage / "adapter/adapter_model.safetensors", text)
    steps.write_text(stage / "checkpoint-3/optimizer.pt", "large")


def test_what_agrees_is_taken_and_what_differs_is_not(made, capsys):
    before = tree(made.toy.study)
    new, study = made.toy.study.parent / "new", variant(made.toy, lora_r=8)
    reuse.take_over(study, ["tiny"], list(steps.STEPS))
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [f"{name}: taken over from tiny" for name in list(steps.STEPS)[:3]]
    assert said[3] == f"{TUNING}: not taken over (lora_r: 16 -> 8)"
    later = ", ".join(list(steps.STEPS)[4:])
    assert said[4:] == [f"{later}: decided in turn, when what is read there is made"]
    assert [steps.status(name, study)[0] for name in steps.STEPS] == [True] * 3 + [False] * 4
    assert (new / "base/model/content.txt").read_text() == (
        made.toy.study / "base/model/content.txt"
    ).read_text()
    done = steps.mark(new, "00_base")
    assert (done["study"], done["parameters"]["study"], done["taken_from"]) == (
        "new",
        "new",
        "tiny",
    )
    assert set(json.loads((new / "manifest.json").read_text())["steps"]) == set(
        list(steps.STEPS)[:3]
    )
    assert tree(made.toy.study) == before


def test_all_of_a_study_is_taken_where_only_looks_differ(made):
    study = variant(made.toy, figures_dpi=200)
    reuse.take_over(study, ["tiny"], list(steps.STEPS))
    assert [name for name in steps.STEPS if not steps.status(name, study)[0]] == ["06_figures"]


def test_weights_and_arrow_files_are_shared_and_all_else_is_copied(made):
    files = {
        "adapter/adapter_model.safetensors": True,
        "data/train/content.txt": False,
        "data/train/data.arrow": True,
    }
    step = steps.begin("01_data", made.study)
    steps.write_text(made.toy.study / "data/train/data.arrow", "rows")
    step.finish("data/train", "data/holdout", "data/benchmarks", "data/*.csv")
    made.run(TUNING, anew=True)
    study = variant(made.toy)
    reuse.take_over(study, ["tiny"], list(steps.STEPS))
    for name, shared in files.items():
        one, other = made.toy.study / name, made.toy.study.parent / "new" / name
        assert os.path.samefile(one, other) == shared and one.read_bytes() == other.read_bytes(), (
            name
        )
    assert steps.status(TUNING, study)[0]


def test_without_hard_links_weights_are_copied(made, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    reuse.take_over(variant(made.toy), ["tiny"], list(steps.STEPS))
    name = "adapter/adapter_model.safetensors"
    assert not os.path.samefile(made.toy.study / name, made.toy.study.parent / "new" / name)
    assert steps.status(TUNING, variant(made.toy))[0]


STAGED = {
    "train_stages": ["cpt", "sft", "dpo"],
    "cpt_sources": ["gazetteer"],
    "dpo_sources": ["preference_pairs", "snorkel_1", "snorkel_2"],
}


@pytest.fixture
def staged(made, monkeypatch):
    """A finished study `old` with three stages, each trained with two seeds."""
    monkeypatch.delenv("SM70_NOTEBOOKS")  # the real 03 declares what its stages' keys are made of
    given = {"study": "old", "train_seeds": [0, 1]} | STAGED
    old = params.load(made.toy.file, overrides=given)
    for name in list(steps.STEPS)[:3]:
        step = steps.begin(name, old)
        exec(TOY[name][1], {"step": step, "steps": steps, "p": old})
    folder = steps.outputs() / "old"
    for seed in (0, 1):
        for number in (1, 2, 3):
            train(folder, old, number, seed, f"{seed} {number}")
    step = steps.begin(TUNING, old)
    steps.write_text(step.path("adapter/adapter_model.safetensors"), "0 3")
    step.finish("adapter", "stages/*/adapter")
    return made


def test_stages_are_taken_one_by_one_where_03_differs(staged, capsys):
    made, shared = staged, STAGED
    for changes, taken in (
        (
            {"dpo_beta": 0.5, "train_seeds": [0, 1]},
            ["1-cpt", "2-sft", "1-cpt-seed1", "2-sft-seed1"],
        ),
        ({"sft_lr": 0.5, "train_seeds": [1]}, ["1-cpt"]),  # which was 1-cpt-seed1
        ({"train_seeds": [0, 2]}, ["1-cpt", "2-sft", "3-dpo"]),
        ({"lora_alpha": 64, "train_seeds": [0, 1]}, []),
    ):
        study = variant(made.toy, **shared | changes)
        capsys.readouterr()
        reuse.take_over(study, ["old"], list(steps.STEPS)[:4])
        new = steps.outputs() / "new"
        assert sorted(path.name for path in new.glob("stages/*")) == sorted(taken), changes
        said = capsys.readouterr().out.splitlines()[-1]
        assert said.startswith(f"{TUNING}: not taken over (")
        assert said.endswith(f"; {', '.join(taken)} taken over from old" if taken else ")")
        assert not list(new.glob("stages/*/checkpoint-*")), "what is finished needs none"
        for path in new.glob("stages/*"):
            seed = study.train_seeds[0] if "seed" not in path.name else int(path.name[-1])
            weights = (path / "adapter/adapter_model.safetensors").read_text()
            assert weights == f"{seed} {path.name[0]}"
        shutil.rmtree(new)


@pytest.mark.parametrize(
    "stages, taken",
    [
        (["cpt", "sft", "dpo", "dpo"], ["1-cpt", "2-sft", "3-dpo"]),  # added at the end
        (["cpt", "sft"], ["1-cpt", "2-sft"]),  # taken from the end
        (["cpt", "dpo"], ["1-cpt"]),  # taken from the middle
        (["sft", "dpo"], []),  # taken from the beginning, on which all others depend
    ],
    ids=",".join,
)
def test_a_stage_added_or_removed_trains_only_what_comes_after_it(staged, stages, taken):
    study = variant(staged.toy, **STAGED | {"train_stages": stages})
    new = steps.outputs() / "new"
    reuse.take_over(study, ["old"], ["00_base"])
    shutil.copytree(steps.outputs() / "old/data", new / "data")  # 01 runs again, for the same rows
    reuse.take_over_in_turn(study, ["old"], TUNING)
    assert sorted(path.name for path in new.glob("stages/*")) == taken
    for number in range(len(taken) + 1, len(stages) + 1):
        stage = launch.write_description(study, new, number, stages[number - 1], 0)
        before = f"stages/{number - 1}-{stages[number - 2]}/adapter"
        start = json.loads((stage / "stage.json").read_text())["start"]
        assert start == (before.removeprefix("stages/") if number > 1 else None)
        assert (new / before).is_dir() == (1 < number == len(taken) + 1), "or it comes first"


def test_rounds_in_another_order_train_again_from_the_first_of_them(staged):
    rounds = {"train_stages": ["cpt", "sft", "dpo", "dpo"]}
    first = {"dpo_rounds": {"snorkel_1": 1, "snorkel_2": 2}}
    swapped = {"dpo_rounds": {"snorkel_1": 2, "snorkel_2": 1}}
    one, other = (variant(staged.toy, **STAGED | rounds | each) for each in (first, swapped))
    folder = steps.outputs() / "old"
    keys_of = [
        [keys.of_stage(p, folder, number, 0) for number in range(1, 5)] for p in (one, other)
    ]
    assert [mine == theirs for mine, theirs in zip(*keys_of)] == [True, True, False, False]


def test_a_step_that_the_new_study_has_is_left(made, capsys):
    study = variant(made.toy, world_seed=12)
    step = steps.begin("00_base", study)
    exec(TOY["00_base"][1], {"step": step, "steps": steps, "p": study})
    before = tree(steps.outputs() / "new")
    reuse.take_over(study, ["tiny"], ["00_base"])
    assert tree(steps.outputs() / "new" / "base") == {
        n.removeprefix("base/"): v for n, v in before.items() if n.startswith("base/")
    }
    assert capsys.readouterr().out == "00_base: new has its own\n"


def test_what_was_spoilt_since_is_not_taken(made, capsys):
    (made.toy.study / "base/model/content.txt").write_text("other")
    reuse.take_over(variant(made.toy), ["tiny"], ["00_base"])
    assert capsys.readouterr().out == "00_base: not taken over (not as it was written)\n"
    assert not (steps.outputs() / "new/base").exists()


def test_a_result_that_was_replaced_is_taken_too(made):
    made.run(TUNING)
    made.toy.change("lora_r", 8)
    made.all(again=(TUNING,))
    made.toy.change("lora_r", 16)
    reuse.take_over(variant(made.toy), ["tiny"], list(steps.STEPS)[:4])
    assert (steps.outputs() / "new/adapter/adapter_model.safetensors").read_text().startswith("16 ")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            ("-p", "study", "new", "--from", "nosuch"),
            "--from nosuch: there is no such study; these have results: tiny",
        ),
        (
            ("--from", "tiny"),
            "--from tiny names the study itself: give the new one a name (-p study NAME)",
        ),
        (("-p", "study", "new", "--from", "tiny", "--list"), "--list takes nothing over"),
    ],
)
def test_wrong_words_are_one_sentence(made, words, sentence):
    ended = made.toy.run(*words)
    assert ended.returncode == 2 and sentence in ended.stderr and ended.stderr.count("\n") == 1
    assert not (steps.outputs() / "new").exists()


def test_stages_are_taken_over_when_what_they_read_is_known(made, capsys):
    """01 differs, so the rows of a stage are not known until it is made anew."""
    new = made.toy.study.parent / "new"
    study = variant(made.toy, data_limit=5)
    train(made.toy.study, study, 1, 0, "tuned")
    reuse.take_over(study, ["tiny"], list(steps.STEPS))
    assert not (new / "stages").exists()
    for part in ("train", "holdout"):  # what 01 makes happens to be the same rows
        shutil.copytree(made.toy.study / f"data/{part}", new / f"data/{part}")
    reuse.take_over_in_turn(study, ["none", "tiny"], TUNING)
    assert "1-sft taken over from tiny" in capsys.readouterr().out
    assert (new / "stages/1-sft/adapter/adapter_model.safetensors").read_text() == "tuned"


@pytest.mark.parametrize("rank, taken", [(8, False), (16, True)])
def test_only_predictions_of_equal_models_are_taken(made, capsys, rank, taken):
    """04 differs either way; a tuned model that was trained differently scores its items anew."""
    study = variant(made.toy, lora_r=rank, eval_limit=4)
    reuse.take_over(study, ["tiny"], list(steps.STEPS))
    if not steps.status(TUNING, study)[0]:
        step = steps.begin(TUNING, study)
        exec(TOY[TUNING][1], {"step": step, "steps": steps, "p": study})
        reuse.take_over_in_turn(study, ["tiny"], "04_eval")
    assert ("1 prediction files taken over from tiny" in capsys.readouterr().out) == taken
    assert (steps.outputs() / "new/predictions/tuned/a.jsonl").exists() == taken


def test_a_step_that_was_begun_is_not_taken_over(made, capsys):
    new, study = made.toy.study.parent / "new", variant(made.toy)
    steps.write_json(new / "steps/02_load_4bit/begun.json", {"key": {}})
    reuse.take_over_in_turn(study, ["tiny"], "02_load_4bit")
    assert capsys.readouterr().out == "" and not (new / "memory.csv").exists()


def test_a_damaged_stage_is_not_taken_over(toy, monkeypatch):
    monkeypatch.delenv("SM70_NOTEBOOKS")
    study = params.load(toy.file)
    train(toy.study, study, 1, 0, "good")
    stage = keys.stage_folder(study, toy.study, 1, 0)
    left = {"steps": 3, "left": files.record(stage / "adapter")}
    steps.write_json(stage / "done.json", left)
    assert list(reuse._finished_stages(toy.study)) == [stage]
    steps.write_text(stage / "adapter/adapter_model.safetensors", "damaged")
    assert reuse._finished_stages(toy.study) == {}
    steps.write_text(stage / "adapter/adapter_model.safetensors", "good")
    assert list(reuse._finished_stages(toy.study)) == [stage]
    steps.write_json(stage / "stage.json", {"key": []})
    assert reuse._finished_stages(toy.study) == {}
