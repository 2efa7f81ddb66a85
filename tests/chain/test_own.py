"""The user's own rows, text, preferences and exam, named by their paths: from file to report.

One small study reads every example in params/examples, each in another layout, and goes through its
notebooks to the report. The cells run in this process, so that the libraries are imported once.
"""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from sm70lib import preflight, report, runner
from sm70lib.__main__ import main
from sm70lib.rehearsal import first_steps, rehearsal, warm
from sm70lib.sources import records
from sm70lib.steps import status, steps
from sm70lib.study import params
from sm70lib.study.params import ROOT
from sm70lib.training import launch, train

pytestmark = pytest.mark.xdist_group("own")  # one finished study for all tests
EXAMPLES = ROOT / "params/examples"
OVERLAYS = sorted(EXAMPLES.glob("*.yml"))
TINY = ROOT / "params/tiny.yml"


def mine(name: str) -> str:
    return f"params/examples/{name}"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_every_example_passes_the_checks_before_a_run(overlay):
    study = params.load(TINY, overlay)
    named = [name for name in preflight.own_files(study) if name.startswith("params/examples/")]
    read = "exam" if overlay.stem == "adapter" else overlay.stem  # an adapter answers the exam
    assert [Path(name).stem for name in named] == [read] and study.study.startswith("tiny-")
    preflight.require_own(study, list(steps.STEPS))
    assert len(OVERLAYS) == 8 and len(list(EXAMPLES.iterdir())) == 15


def test_the_plan_of_an_adapter_scores_it_beside_its_base_before_either_is_there(capsys):
    assert main(["plan", str(TINY), str(EXAMPLES / "adapter.yml")]) == 0
    scored = re.findall(r"^04  (\S+)", capsys.readouterr().out, re.MULTILINE)
    assert scored == ["base", "base-nf4", "mine"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a study that read all examples, with its report."""
    folder = tmp_path_factory.mktemp("own")
    parquet = folder / "messages.parquet"
    pd.DataFrame([row for _, row in records.records(EXAMPLES / "messages.jsonl")]).to_parquet(
        parquet
    )
    named = {
        "study": "own-data",
        "data_template": "chat",
        "data_sources": [
            mine("instructions.json"),
            mine("completions.csv"),
            str(parquet),
            mine("conversations.jsonl"),
        ],
        "data_caps": {mine("instructions.json"): 40},
        "train_stages": ["cpt", "sft", "dpo"],
        "cpt_sources": [mine("text.jsonl")],
        "dpo_sources": [mine("pairs.jsonl")],
        "dpo_rounds": {mine("pairs.jsonl"): 1},
        "eval_benchmarks": [mine("exam.csv")],
        "eval_primary_benchmarks": [mine("exam.csv")],
        "eval_protocols": ["sm70-2023", "as-trained"],
        "eval_models": {"mine": _existing(folder / "outputs/rehearsal-own-data")},
        "audit_leak": "report",
    }
    overlay = folder / "own.yml"
    overlay.write_text(yaml.safe_dump(named))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM70_OUTPUTS", str(folder / "outputs"))
        patch.setenv("SM70_NOTEBOOKS", str(ROOT / "notebooks"))
        written = params.load(TINY, overlay)
        preflight.require_own(written, list(steps.STEPS))
        cut = rehearsal.cuts(written) | first_steps.ONE_STEP
        study = params.load(TINY, overlay, overrides=cut)
        _run(study, steps.outputs() / study.study)
        yield steps.outputs() / study.study
    shutil.rmtree(folder)


def _existing(study: Path) -> str:
    """The line of params/examples/adapter.yml, with a study's base and adapter in their places."""
    [line] = params.load(TINY, EXAMPLES / "adapter.yml").eval_models.values()
    assert line.count("outputs/tiny/") == 2
    return line.replace("outputs/tiny/", f"{study}/")


def _run(study, folder: Path) -> None:
    with warm.one_kernel():
        for name in [*steps.STEPS, "07_ask"]:
            if name == "03_qlora_finetune":
                _train(study, folder)
            assert runner.execute(name, study, folder) == "", name
    report.build(study.study)


def _train(study, folder: Path) -> None:
    """Trains in this process, which imports the trainer once; the notebook finds it done."""
    for number, kind in enumerate(study.train_stages, 1):
        train.main(launch.write_description(study, folder, number, kind, study.train_seeds[0]))


def test_every_own_file_is_audited_and_trained_on(finished):
    table = pd.read_csv(finished / "data/sources.csv").set_index("source")
    assert dict(table["rows"]) == {
        "instructions": 40,
        "completions": 48,
        "messages": 24,
        "conversations": 24,
        "text (text)": 12,
        "pairs (preferences)": 24,
    }
    assert (table["kept"] == table["rows"]).all()
    contamination = pd.read_csv(finished / "data/contamination.csv")
    assert set(contamination["benchmark"]) == {"exam"} and set(contamination["source"]) == set(
        table.index
    )
    for stage in ("1-cpt", "2-sft", "3-dpo"):
        assert launch.metrics(finished / "stages" / stage)["step"].max() == 1, stage
    assert json.loads((finished / "adapter/template.json").read_text())["name"] == "chat"


def test_the_exam_is_asked_and_stands_in_tables_and_report_by_its_stem(finished):
    results = pd.read_csv(finished / "tables/results.csv")
    assert set(results["benchmark"]) == {"exam"}
    assert set(results["model"]) >= {"base", "base-nf4", "tuned", "mine"}
    assert set(results["protocol"]) == {"sm70-2023", "as-trained"}
    assert (results.query("subset == 'all'")["n"] == 24).all()
    compared = pd.read_csv(finished / "tables/comparisons.csv")
    assert set(compared.query("family == 'primary'")["benchmark"]) == {"exam"}
    slices = (finished / "tables/errors_by_slice.csv").read_text()
    assert "signs" in slices and "symptoms" in slices, "the file's own subjects"
    page = (finished / "report/index.html").read_text()
    assert ">exam<" in page and "instructions" in (finished / "data/README.md").read_text()


def test_an_adapter_that_is_named_by_its_folder_scores_as_tuned(finished):
    """`mine` is the folder of `tuned`, in four bits too; no test compares it with the base."""
    folder = finished / "predictions"
    files = sorted(path.name for path in (folder / "mine").glob("*.jsonl"))
    assert len(files) == 2
    for name in files:
        mine = pd.read_json(folder / "mine" / name, lines=True)
        tuned = pd.read_json(folder / "tuned" / name, lines=True)
        assert list(mine["loglikelihoods"]) == list(tuned["loglikelihoods"]), name
    compared = pd.read_csv(finished / "tables/comparisons.csv")
    assert not {"mine"} & {*compared["before"], *compared["after"]}


def test_a_file_that_was_edited_is_read_again_and_one_that_was_moved_away_is_not_missed(finished):
    mark = steps.mark(finished, "01_data")
    named = {Path(path).name: path for path in mark["external"]}
    assert len(named) == 7 and named["text.jsonl"] == mine("text.jsonl")
    study = SimpleNamespace(data_root="world")
    assert status._changed_file(finished, study, mark) == ""
    parquet = Path(named["messages.parquet"])
    content = parquet.read_bytes()
    try:
        parquet.write_bytes(b"other")
        assert status._changed_file(finished, study, mark) == "messages.parquet is not as it was"
        parquet.unlink()
        assert status._changed_file(finished, study, mark) == ""
    finally:
        parquet.write_bytes(content)


def test_a_rehearsal_draws_little_from_own_files():
    cut = rehearsal.cuts(params.load(TINY, EXAMPLES / "exam.yml"))
    assert (cut["data_limit"], cut["eval_limit"]) == (200, 50)
    assert "data_limit" not in rehearsal.cuts(params.load(TINY)), "stand-ins are small"
