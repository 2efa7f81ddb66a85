"""The reporting guideline: filled from the manifest, and what only authors can say is named."""

import json
import shutil

import pandas as pd

from sm70lib.guidelines import tripod
from sm70lib.reporting.made import Made
from sm70lib.study.params import ROOT
from tests.unit.reporting.test_first_screen import study

__all__ = ["study"]


def test_every_section_is_filled_or_names_what_its_authors_write(study):
    found = tripod.items(study)
    assert len(found) == len({item.section for item in found}) == 17
    unknown = {"Data", "LLM output"}  # of this study, which has no files of them
    assert all(item.filled or item.human for item in found if item.section not in unknown)
    by_name = {item.section: item for item in found}
    for section in ("Ethical approval", "Public involvement", "Title", "Abstract", "Background"):
        assert not by_name[section].filled and by_name[section].human
    assert "MedQA: +50.3 [45.3, 55.3] points (supported)" in by_name["Results"].filled
    assert by_name["Instruction tuning"].filled.endswith("rank 64. Training seeds: 1.")
    assert "intervals allow for questions that share a cluster" in (
        by_name["Analytical methods"].filled
    )
    assert "1.25 kWh by the GPUs" in by_name["Compute"].filled
    assert "medalpaca" in by_name["Prompting"].filled


def test_what_the_audit_kept_is_counted(study):
    (study.folder / "data").mkdir()
    (study.folder / "data/sources.csv").write_text("source,rows,kept\na,10,7\nb,5,5\n")
    data = next(item for item in tripod.items(Made(study.folder)) if item.section == "Data")
    assert data.filled.startswith("2 sources, 15 rows read, 12 kept after the audit")


def test_documents_that_are_held_back_are_no_source_and_the_report_counts_alike(study):
    shutil.copytree(ROOT / "outputs/reference/small/data", study.folder / "data")
    table = pd.read_csv(study.folder / "data/sources.csv", index_col="source")
    assert table.loc["medquad (held)", "kept"] == 118
    found = {item.section: item.filled for item in tripod.items(Made(study.folder))}
    assert found["Data"].startswith("3 sources, 478 rows read, 264 kept after the audit")
    assert "on 264 rows of 3 sources" in found["Objectives"]


STEPS = ("usmle_step1", "usmle_step2", "usmle_step3")


def output(study, rows) -> str:
    """What the guideline says of the output of a study with these results."""
    columns = ["benchmark", "protocol", "n", "unparsed", "seeds"]
    table = pd.DataFrame(rows, columns=columns).assign(
        study="tiny", model="tuned", subset="all", shots=0, acc_pct=50
    )
    pd.concat([table, table.assign(subset="clean")]).to_csv(
        study.folder / "tables/results.csv", index=False
    )
    found = {item.section: item.filled for item in tripod.items(Made(study.folder))}
    return found["LLM output"]


def test_every_answer_counts_once_and_only_what_was_written_is_a_reply(study):
    scored = [(name, "sm70-2023", 100, 0, None) for name in STEPS]
    scored += [(name, "sm70-2023", 300, 0, None) for name in ("usmle", "usmle_macro")]
    written = [("xstest_safe", "safety", 60, 5, None), ("medqa_4", "generate-vote", 40, 9, 3)]
    likeliest = "300 answers are the option that a model finds likeliest"
    read = "of 180 replies that were written, 14"
    assert output(study, scored) == f"Asked under sm70-2023, over all models; {likeliest}."
    said = output(study, scored + written)
    assert f"over all models; {likeliest}; {read} could not be read and count as wrong." in said
    assert "answers" not in output(study, written) and read in output(study, written)


def test_a_study_without_stages_or_manifest_says_so(study):
    path = study.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parameters"]["train_stages"] = []
    path.write_text(json.dumps(manifest))
    found = {item.section: item.filled for item in tripod.items(Made(study.folder))}
    assert found["Instruction tuning"] == tripod.NOT_DONE
    path.unlink()
    assert tripod.items(Made(study.folder)) == []
