"""The reporting guideline: filled from the manifest, and what only authors can say is named."""

import json

from sm70lib.guidelines import tripod
from sm70lib.reporting.made import Made
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
    assert "rank 64" in by_name["Instruction tuning"].filled
    assert "1.25 kWh by the GPUs" in by_name["Compute"].filled
    assert "medalpaca" in by_name["Prompting"].filled


def test_what_the_audit_kept_is_counted(study):
    (study.folder / "data").mkdir()
    (study.folder / "data/sources.csv").write_text("source,rows,kept\na,10,7\nb,5,5\n")
    data = next(item for item in tripod.items(Made(study.folder)) if item.section == "Data")
    assert data.filled.startswith("2 sources, 15 rows read, 12 kept after the audit")


def test_a_study_without_stages_or_manifest_says_so(study):
    path = study.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parameters"]["train_stages"] = []
    path.write_text(json.dumps(manifest))
    found = {item.section: item.filled for item in tripod.items(Made(study.folder))}
    assert found["Instruction tuning"] == tripod.NOT_DONE
    path.unlink()
    assert tripod.items(Made(study.folder)) == []
