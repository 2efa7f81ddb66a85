"""Plain papermill takes a study file as the runner does, and refuses one that is not complete."""

import json
import os
import subprocess
import sys

from sm70lib.study.params import ROOT
from tests.toy import notebook
from tests.unit.parameters.test_absent_stages import file_of

STEP = """import json
from pathlib import Path
Path("read.json").write_text(json.dumps(p.model_dump()))"""


def papermill(folder, file) -> subprocess.CompletedProcess:
    """Plain papermill on parameters and check of 03, which then writes what it read."""
    cells = json.loads((ROOT / "notebooks/03_qlora_finetune.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    book = folder / "03.ipynb"
    book.write_text(notebook([("params", code[0]), ("check", code[1]), ("work", STEP)]))
    words = ["-m", "papermill", "03.ipynb", "out.ipynb", "-f", str(file), "--no-progress-bar"]
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_plain_papermill_takes_a_file_without_the_absent_stages(tmp_path):
    done = papermill(tmp_path, ROOT / "params/sm70.yml")
    assert done.returncode == 0, done.stderr
    read = json.loads((tmp_path / "read.json").read_text())
    assert read["study"] == "sm70" and read["sft_lr"] == 1.0e-4
    assert not [name for name in read if name.startswith(("cpt_", "dpo_"))]


def test_plain_papermill_refuses_a_named_stage_that_is_not_complete(tmp_path):
    dpo = {"dpo_sources": ["preference_pairs"]}
    file = file_of(tmp_path, ["dpo_beta"], train_stages=["sft", "dpo"], **dpo)
    done = papermill(tmp_path, file)
    assert done.returncode != 0 and "study mine came without dpo_beta" in done.stderr
