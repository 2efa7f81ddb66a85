"""The way through: every study file is run whole, through its notebooks to the report; and broken on purpose."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sm70lib.rehearsal import rehearsal, variants
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from tests.chain.rehearsed import check, rehearse

# The tiny study is rehearsed in tests/chain/test_pipeline.py, with two seeds and both kinds of merge.
STUDIES = sorted({path.stem for path in (ROOT / "params").glob("*.yml")} - {"tiny"})
# What a rehearsal shall cost: seconds of one core, and so much more for each process that trains. The test prints
# what it did cost, and fails where a busy machine cannot be the reason: at SLACK times that.
SECONDS, TRAINING_SECONDS, SLACK = 50, 12, 3


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_comes_through_to_its_report(study, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = rehearse(tmp_path, f"params/{study}.yml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / f"rehearsal-{study}", done.stdout)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    p = params.load(ROOT / f"params/{study}.yml")
    allowed = SECONDS + TRAINING_SECONDS * len(p.train_seeds) * len(p.train_stages)
    print(f"{study}: {used:.0f} s of one core, {allowed} allowed")
    assert used < SLACK * allowed


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
        "train_micro_batch_size",
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


def test_a_rehearsal_is_no_study(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sm70lib", "run", "params/tiny.yml", "-p", "study", "rehearsal-x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"SM70_OUTPUTS": str(tmp_path)},
    )
    assert done.returncode == 2 and "kept for rehearsals" in done.stderr
    with pytest.raises(StudyError, match="figures_studies .'rehearsal-sm70'. names a rehearsal"):
        params.load(ROOT / "params/tiny.yml", overrides={"figures_studies": ["rehearsal-sm70"]})


def test_a_model_of_which_nothing_is_known_is_named(tmp_path):
    done = rehearse(
        tmp_path, "params/sm70-7b.yml", "-p", "base_model", "nobody/knows", "-p", "study", "x"
    )
    assert done.returncode == 2 and "known_models.yml says nothing of nobody/knows" in done.stderr


# ---- broken on purpose ------------------------------------------------------------------------------

SMALL = [
    "params/sm70-7b.yml",
    "-p",
    "study",
    "small",
    "-p",
    "train_seeds",
    "[0]",
    "-p",
    "data_sources",
    "[medical_meadow_medqa, medical_meadow_mmmlu]",
    "-p",
    "eval_benchmarks",
    "[medqa_4, pubmedqa, medsafety]",
    "-p",
    "eval_protocols",
    "[harness, safety]",
    "-p",
    "eval_primary_protocol",
    "harness",
    "-p",
    "eval_primary_benchmarks",
    "[medqa_4, pubmedqa]",
]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of library, notebooks and studies, to be broken."""
    root = tmp_path / "copy"
    for name in ("sm70lib", "notebooks", "params"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def change(path: Path, pattern: str, text: str) -> None:
    was = path.read_text()
    now = re.sub(pattern, text, was, count=1)
    assert now != was, f"{pattern} is not in {path}"
    path.write_text(now)


def test_an_undeclared_parameter_ends_the_rehearsal(copy, tmp_path):
    change(copy / "notebooks/03_qlora_finetune.ipynb", r'    "data_max_length: int[^"]*",\n', "")
    done = rehearse(tmp_path, *SMALL, root=copy)
    assert done.returncode == 1 and "03_qlora_finetune failed in cell" in done.stderr
    assert "data_max_length" in done.stderr


def test_a_benchmark_file_that_is_missing_ends_the_rehearsal_before_anything_runs(copy, tmp_path):
    change(
        copy / "sm70lib/standins/items.py",
        '"medsafety": _medsafety',
        '"medsafety": lambda writer: {}',
    )
    done = rehearse(tmp_path, *SMALL, root=copy)
    assert done.returncode == 2 and "00_base: runs" not in done.stdout
    assert "medsafety" in done.stderr and "by hand" in done.stderr


def test_a_stage_without_its_sources_ends_the_rehearsal_at_once(tmp_path):
    done = rehearse(tmp_path, *SMALL, "-p", "train_stages", "[sft, dpo]")
    assert (
        done.returncode == 2
        and "has a stage dpo, and there is nothing in dpo_sources" in done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_a_model_too_large_is_left_out_and_said(tmp_path):
    """To score a stand-in takes less than 12 MB, and 14 with the adapter: a limit of 12 leaves that one out."""
    launcher = ["-p", "eval_launcher", "accelerate launch --num_processes 4"]
    done = rehearse(tmp_path, *SMALL, *launcher, SM70_MEMORY_GB="0.012")
    folder = tmp_path / "rehearsal-small"
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((folder / "predictions/left_out.json").read_text()).keys() == {"tuned"}
    assert "not scored here: 0.014 GB" in (folder / "tables/paper.md").read_text()


def test_a_finished_rehearsal_broken_afterwards(copy, tmp_path):
    """A number quoted twice ends 06, and an adapter that was trained with another template ends 04."""
    assert rehearse(tmp_path, *SMALL, root=copy).returncode == 0
    folder, quoted = tmp_path / "rehearsal-small", copy / "sm70lib/analysis/quoted.csv"
    right = quoted.read_text()
    quoted.write_text(right + right.splitlines(keepends=True)[4])
    done = rehearse(tmp_path, *SMALL, "--resume", root=copy)
    assert (
        done.returncode == 1
        and "06_figures failed" in done.stderr
        and "both quote SM70 interim" in done.stderr
    )
    assert "03_qlora_finetune: finished" in done.stdout, "and nothing is trained again"
    quoted.write_text(right)
    for path in folder.glob("**/template.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    (folder / "steps/04_eval/done.json").unlink()
    done = rehearse(tmp_path, *SMALL, "--resume", root=copy)
    assert done.returncode == 1 and "04_eval failed" in done.stderr and "template" in done.stderr
