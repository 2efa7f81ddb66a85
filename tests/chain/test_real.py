"""The tiny-real study, 00 to 06, at a size that tests can afford: real files, and USMLE files of
our own.
"""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sm70lib import benchmarks, runner, sources
from sm70lib.corpus import audit
from sm70lib.rehearsal import warm
from sm70lib.sources import wordings
from sm70lib.steps.steps import STEPS, mark
from sm70lib.study.params import ROOT

pytestmark = pytest.mark.xdist_group("real")  # one study for all tests

LIMIT = 10  # items of each benchmark
USMLE = ["usmle_step1", "usmle_step2", "usmle_step3"]
REAL = ["medqa_4", "pubmedqa", "mmlu_medical", "medmcqa", "truthfulqa"]
REQUESTS = ["xstest_safe", "xstest_unsafe"]
SMALL = {
    "study": "real-small",
    "base_vocab_size": 1000,
    "base_hidden_size": 32,
    "base_layers": 2,
    "base_heads": 2,
    "base_kv_heads": 1,
    "base_intermediate_size": 64,
    "base_steps": 2,
    "base_length": 128,
    "data_limit": 1200,
    "data_max_length": 512,
    "data_holdout": 8,
    "sft_steps": 2,
    "sft_batch_size": 2,
    "train_micro_batch_size": 2,
    "eval_benchmarks": REAL + REQUESTS + USMLE,
    "eval_limit": LIMIT,
    "figures_dpi": 60,
    "stats_resamples": 100,
}


def usmle(folder: Path, leaked: dict) -> None:
    """The three steps in the upstream layout, invented.

    One question each needs a picture, one is `leaked`.
    """
    folder.mkdir()
    pictures = {}
    for step in (1, 2, 3):
        rows = [
            {
                "question": f"Which sign does the invented condition {step}.{n} have?",
                "no": n,
                "options": {
                    letter: f"sign {letter.lower()} of {n}" for letter in "ABCDEFGHI"[: 3 + n]
                },
            }
            for n in range(1, 5 + step)
        ]
        pictures[f"step{step}"] = [1]
        rows += [leaked | {"no": 99}] if step == 3 else []
        (folder / f"step{step}.json").write_text(json.dumps(rows))
        (folder / f"step{step}_solutions.json").write_text(
            json.dumps({str(row["no"]): "C" for row in rows})
        )
    (folder / "question_with_images.json").write_text(json.dumps(pictures))


@pytest.fixture(scope="module")
def root(shared_data, tmp_path_factory) -> Path:
    """The real files as they lie in the shared folder, USMLE beside them.

    Step 3 repeats mmmlu's row 0.
    """
    folder = tmp_path_factory.mktemp("data")
    for path in shared_data.iterdir():
        (folder / path.name).symlink_to(path)
    stem, options = wordings.unwrap(next(sources.read("medical_meadow_mmmlu", shared_data)).input)
    usmle(folder / "usmle_self_assessment", {"question": f"{stem}?", "options": options})
    return folder


@pytest.fixture(scope="module")
def study(root, tmp_path_factory) -> Path:
    """The finished study."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "small.yml").write_text(yaml.safe_dump(SMALL))
    files = [str(ROOT / "params/tiny-real.yml"), str(folder / "small.yml")]
    # Kernels of their own, which the runner starts for users, are started in test_pipeline.
    with pytest.MonkeyPatch.context() as patch, warm.one_kernel():
        patch.setenv("SM70_OUTPUTS", str(folder))
        assert runner.run(files, {"data_root": str(root)}) == 0
    return folder / "real-small"


def test_every_step_is_finished_and_knows_the_files_it_read(study):
    assert all(mark(study, step) for step in STEPS)
    assert set(mark(study, "00_base")["external"]) == {"medquad", "med_safety_bench"}
    assert set(mark(study, "01_data")["external"]) == {
        "medical_meadow_mmmlu",
        "medquad",
        "med_safety_bench",
        "medqa_usmle",
        "pubmedqa",
        "mmlu_medical",
        "medmcqa",
        "truthfulqa",
        "xstest",
        "usmle_self_assessment",
    }


def test_every_benchmark_is_predicted_whole_and_its_labels_are_valid(study, root):
    results = pd.read_csv(study / "tables/results.csv")
    whole = results[(results["subset"] == "all") & (results["model"] == "tuned")]
    found = whole.set_index(["benchmark", "protocol"])["n"].to_dict()
    sizes = {"usmle_step1": 4, "usmle_step2": 5, "usmle_step3": 7}  # one of each needs a picture
    assert found == {
        (name, "harness"): LIMIT for name in REAL
    } | {  # of PubMedQA as many of the official test
        (name, "sm70-2023"): LIMIT for name in ("medqa_4", "pubmedqa")
    } | {(name, "safety"): LIMIT for name in REQUESTS} | {
        (name, "sm70-2023"): n for name, n in sizes.items()
    } | {(name, "sm70-2023"): 16 for name in ("usmle", "usmle_macro")}
    checked = 0
    for path in study.glob("predictions/*/*.jsonl"):
        name = path.name.partition("-")[0]
        items = {item.id: item for item in benchmarks.load(study / "data/benchmarks", name)}
        for line in map(json.loads, path.read_text().splitlines()):
            item = items[line["item_id"]]
            written, checked = name in REQUESTS, checked + 1
            assert line["gold"] == item.answer and len(
                line["loglikelihoods"] or item.options
            ) == len(item.options)
            assert {line["choice"], line["choice_norm"]} <= {
                *range(len(item.options)),
                *([None] if written else []),
            }
            assert (
                (len(line["parsed"]) == 1)
                if written
                else all(value < 0 for value in line["loglikelihoods"])
            )
    assert checked == 3 * (9 * LIMIT + 16)


def test_the_leak_is_counted_and_dropped(study):
    table = pd.read_csv(study / "data/contamination.csv").set_index(["source", "benchmark"])
    assert len(table) == 3 * 10 and table.loc["medquad", "items"].to_dict() == {
        "medqa_4": 1273,
        "pubmedqa": 1000,
        "mmlu_medical": 1089,
        "medmcqa": 1000,
        "truthfulqa": 817,
        "xstest_safe": 250,
        "xstest_unsafe": 200,
        "usmle_step1": 4,
        "usmle_step2": 5,
        "usmle_step3": 7,
    }
    leak = table.loc["medical_meadow_mmmlu"]
    assert leak.loc["usmle_step3", "exact"] == 1 and leak.loc["mmlu_medical", "exact"] > 100
    assert table["any"].sum() == leak.loc[["usmle_step3", "mmlu_medical"], "any"].sum()
    funnel = pd.read_csv(study / "data/sources.csv").set_index("source")
    assert funnel.loc["medical_meadow_mmmlu", "leak"] > 100 and funnel["kept"].min() > 0
    assert (funnel["rows"] - funnel[audit.CHECKS].sum(axis=1)).equals(funnel["kept"])
    defects = pd.read_csv(study / "data/defects.csv")
    pictures = defects[defects["source"].isin(USMLE)]
    assert len(pictures) == 3 and pictures["reason"].str.contains("picture").all()


def test_tables_show_usmle_and_no_claim_about_sm70_is_judged(study):
    names = {path.stem for path in study.glob("tables/*.csv")}
    assert names >= {
        "results",
        "paper",
        "usmle",
        "comparisons",
        "scorecard",
        "contamination_effect",
    }
    shown = pd.read_csv(study / "tables/usmle.csv")
    assert set(USMLE) < set(shown) and shown["model"].tolist()[:3] == ["base", "base-nf4", "tuned"]
    assert shown["usmle"].iloc[0].endswith("n=16")
    effect = pd.read_csv(study / "tables/contamination_effect.csv")
    assert effect.set_index("benchmark").loc["usmle", "n_flagged"] == 1
    card = pd.read_csv(study / "tables/scorecard.csv")
    paper = card["claim"].str.endswith(" claims of SM70")
    assert card.loc[paper, "verdict"].tolist() == ["not comparable"]
    assert (~paper).sum() == 9
    assert card["claim"].str.contains("refusing unsafe requests").sum() == 1
    assert not card.loc[~paper, "claim"].str.contains("Llama|Camel|GPT").any()
    for name in names - {"quoted", "quoted_systems", "errors"}:
        assert (
            "trained here from scratch" in (study / f"tables/{name}.md").read_text().splitlines()[0]
        ), name
