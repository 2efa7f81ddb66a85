"""The way through: every study file is run whole, through its notebooks to the report."""

import json
import os
import re
import resource
import subprocess
import sys

import pandas as pd
import pytest

from sm70lib.claims import entries
from sm70lib.rehearsal import rehearsal
from sm70lib.sizes import known
from sm70lib.standins import stand_in_tokenizers
from sm70lib.steps.keys import EVALUATION
from sm70lib.steps.steps import mark
from sm70lib.study import params, variants
from sm70lib.study.params import ROOT, StudyError
from tests.chain.rehearsed import check, rehearse

# Rehearsed elsewhere: tiny in tests/chain/test_pipeline.py, with two seeds and both kinds of merge;
# small-b before small, whose other arm it is.
ELSEWHERE = {"tiny", "small-b"}
STUDIES = sorted({path.stem for path in (ROOT / "params").glob("*.yml")} - ELSEWHERE)
# What a rehearsal shall cost: seconds of one core, and so much more for each process that trains.
# The test prints what it did cost, and fails where a busy machine cannot be the reason: at SLACK
# times that.
SECONDS, TRAINING_SECONDS, SLACK = 50, 12, 3


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_comes_through_to_its_report(study, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = rehearse(tmp_path, f"params/{study}.yml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / f"rehearsal-{study}", done.stdout)
    _check_arms(tmp_path / f"rehearsal-{study}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    p = params.load(ROOT / f"params/{study}.yml")
    allowed = SECONDS + TRAINING_SECONDS * len(p.train_seeds) * len(p.train_stages)
    print(f"{study}: {used:.0f} s of one core, {allowed} allowed")
    assert used < SLACK * allowed


def _check_arms(folder):
    """Other arms are scored first, and every part of the family declared for them is judged."""
    manifest = json.loads((folder / "manifest.json").read_text())
    arms = manifest["parameters"]["figures_studies"]
    if not arms:
        return
    assert all(mark(folder.parent / arm, EVALUATION) for arm in arms)
    card = pd.read_csv(folder / "tables/scorecard.csv")
    family = entries.held_against(folder.name)
    mine = [claim for claim in entries.catalogue() if claim.made_of(folder.name)]
    own = [claim for claim in mine if claim.study == family]
    for claim in own:
        for part in claim.arguments["parts"] if claim.judge == "arms" else []:
            row = card[card["claim"] == part["what"]].iloc[0]
            assert row["n"] > 0, f"{part['what']}: {row['why']}"


def test_every_kind_of_stage_launcher_and_protocol_comes_through(tmp_path):
    done = rehearse(tmp_path, "params/sm70-7b.yml", "tests/chain/stages.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "rehearsal-stages"
    check(folder, done.stdout)
    p = params.load(ROOT / "params/sm70-7b.yml", ROOT / "tests/chain/stages.yml")
    assert [path.name for path in sorted((folder / "stages").iterdir())] == [
        "1-cpt",
        "2-sft",
        "3-dpo",
        "4-dpo",
    ]
    results = pd.read_csv(folder / "tables/results.csv")
    assert set(results["protocol"]) == set(p.eval_protocols) and set(results["model"]) >= {
        "base",
        "base-nf4",
        "tuned-1-cpt",
        "tuned-2-sft",
        "tuned-3-dpo",
        "tuned",
        "merged-original",
    }
    assert (
        "train_launcher torchrun --nproc-per-node 8 -> torchrun --standalone --nproc-per-node 1"
        in done.stdout
    )
    files = [
        path
        for kind in ("generate", "generate-vote", "safety")
        for path in folder.glob(f"predictions/*/*-{kind}-0.jsonl")
    ]
    written = [json.loads(line) for path in files for line in path.open()]
    read = sum(line["choice"] is not None for line in written)
    assert 0 < read < len(written), (
        "stand-ins write replies that can be read, and others that cannot"
    )


def test_all_weights_are_trained_in_every_kind_of_stage_and_scored(tmp_path):
    done = rehearse(tmp_path, "params/sm70-7b.yml", "tests/chain/full.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "rehearsal-full"
    check(folder, done.stdout)
    kinds = ["1-cpt", "2-sft", "3-dpo"]
    models = [folder / "stages" / kind / "model/model.safetensors" for kind in kinds]
    assert all(model.is_file() for model in models) and not (folder / "adapter").exists()
    assert "train_parameters" not in done.stdout.partition("cut: ")[2].partition("\n")[0]
    results = pd.read_csv(folder / "tables/results.csv")
    assert set(results["model"]) == {"base", "tuned-1-cpt", "tuned-2-sft", "tuned"}


def test_every_overlay_takes_its_first_step_on_the_study_it_belongs_to(tmp_path):
    pairs = {overlay.stem: study.stem for study, overlay in variants.overlays()}
    assert (
        sum(name.startswith("grid-") and study == "sm70-7b" for name, study in pairs.items()) == 8
    )
    assert (
        pairs["sm70-clean"] == "sm70"
        and pairs["grid-lr1e-4-sm70-all"] == "sm70-7b"
        and pairs["tiny-control"] == "tiny"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sm70lib", "overlays"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"SM70_OUTPUTS": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    took = dict(re.findall(r"^(\S+): (\d+) rows, first step", done.stdout, re.MULTILINE))
    assert len(took) == len(pairs) == len(list((ROOT / "params/overlays").glob("*.yml"))) >= 15
    assert int(took["sm70-clean"]) < int(took["sm70-100k"]) and int(took["sm70-medqa"]) < 30
    print(f"{len(took)} overlays")


def test_what_is_cut_is_what_is_larger():
    p = params.load(ROOT / "params/sm70.yml")
    cut = rehearsal.cuts(p)
    assert cut["study"] == "rehearsal-sm70" and cut["sft_steps"] == 2 and cut["data_holdout"] == 4
    assert not cut.keys() & {
        "dpo_steps",
        "base_steps",
        "world_conditions",
    }, "not in use"
    kept = {
        "data_template",
        "data_max_length",
        "eval_models",
        "eval_shots",
        "eval_protocols",
        "train_merge",
        "sft_optimizer",
        "quant_compute_dtype",
        "lora_r",
        "train_seeds",
        "data_root",
        "audit_leak",
    }
    assert not cut.keys() & kept


@pytest.mark.parametrize(
    "line, one",
    [
        ("python", "python"),
        ("sh -c x", "sh -c x"),
        ("torchrun --nproc-per-node 4", "torchrun --standalone --nproc-per-node 1"),
        (
            "accelerate launch --config_file params/accelerate/fsdp-qlora.yml --num_processes 4",
            "accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no",
        ),
    ],
)
def test_launchers_keep_their_kind_with_one_process(line, one):
    assert rehearsal.one_process(line) == one


@pytest.mark.parametrize(
    "what, name", [("vocabulary", "unigram"), ("chat_template", "chat-of-others")]
)
def test_a_known_model_of_an_unknown_kind_is_refused(what, name):
    """Else a stand-in would be rehearsed without the template that the real model has."""
    llama = known.MODELS["meta-llama/Meta-Llama-3-8B-Instruct"]
    with pytest.raises(StudyError, match=f"known_models.yml: {what} is '{name}'; choose from"):
        stand_in_tokenizers.tokenizer(llama.model_copy(update={what: name}), ["a text"])
