"""The whole chain, rehearsed: it ends the same when killed, is not done twice, and is done again
where it must be.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import papermill
import pytest

from sm70lib.steps.steps import STEPS, digest, mark
from sm70lib.study.params import ROOT
from tests.chain.rehearsed import check

pytestmark = pytest.mark.xdist_group("pipeline")  # one undisturbed study for all tests

# The tiny study with two seeds, both kinds of merge, and a third of the items.
CHANGES = {
    "study": "smoke",
    "train_seeds": "[0, 1]",
    "train_merge": "[dequantised, original]",
    "eval_limit": "30",
}
STUDY = [word for name, value in CHANGES.items() for word in ("-p", name, value)]
REHEARSE = [sys.executable, "-m", "sm70lib", "rehearse", "params/tiny.yml", *STUDY, "--resume"]
FRESH = "--fresh-kernels"  # a kernel for each notebook, as `run` has them; else all share one
NAME = "rehearsal-smoke"
MODELS = {"base", "base-nf4", "tuned", "tuned-1-sft-seed1", "merged-dequantised", "merged-original"}


def start(outputs: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*REHEARSE, *words],
        cwd=ROOT,
        env=os.environ | {"SM70_OUTPUTS": str(outputs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=1200)
    return said


def rehearse(outputs: Path, *words: str) -> str:
    process = start(outputs, *words)
    said = finish(process)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A finished study, with all that a study leaves behind."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    check(outputs / NAME, rehearse(outputs))
    return outputs


def kill_kernel(outputs: Path, step: str, when) -> str:
    """Runs until `when()` holds in that step, kills its kernel as the out-of-memory killer would,
    and waits.
    """
    process, begun = start(outputs, FRESH), outputs / NAME / f"steps/{step}/begun.json"
    while not (begun.exists() and when()):
        assert process.poll() is None, finish(process)
        time.sleep(0.05)
    os.kill(json.loads(begun.read_text())["process"], signal.SIGKILL)
    said = finish(process)
    assert process.returncode == 1, said
    return said


def test_every_step_leaves_its_mark_and_every_number_its_items(undisturbed):
    folder = undisturbed / NAME
    assert all(
        mark(folder, step) and (folder / f"notebooks/{step}.ipynb").exists() for step in STEPS
    )
    results = pd.read_csv(folder / "tables/results.csv")
    whole = results[
        (results["subset"] == "all") & ~results["benchmark"].isin(["usmle", "usmle_macro"])
    ]
    for row in whole.itertuples():
        path = folder / f"predictions/{row.model}/{row.benchmark}-{row.protocol}-{row.shots}.jsonl"
        lines = pd.read_json(path, lines=True)
        assert (len(lines), lines["correct"].sum()) == (row.n, row.correct)
        assert row.low_pct <= row.acc_pct <= row.high_pct
    assert len(whole) == len(MODELS) * (5 + 4 + 3 + 5) and set(whole["model"]) == MODELS
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["steps"]) == set(STEPS) and manifest["parameters"]["train_seeds"] == [0, 1]
    hardware = manifest["hardware"]
    assert hardware["cpu"] and hardware["threads"] == 1 and hardware["kernels"] and hardware["blas"]


def test_killed_in_03_and_in_04_it_ends_as_the_undisturbed_study(undisturbed, tmp_path):
    folder = tmp_path / NAME
    said = kill_kernel(tmp_path, "03_qlora_finetune", (folder / "stages/1-sft/log.txt").exists)
    assert "03_qlora_finetune failed in cell train" in said and "the kernel died" in said
    assert not (folder / "adapter").exists() and mark(folder, "02_load_4bit")
    first = (folder / "stages/1-sft-seed1/done.json").stat().st_mtime_ns
    said = kill_kernel(
        tmp_path, "04_eval", lambda: len(list(folder.glob("predictions/*/*.jsonl"))) > 3
    )
    assert "02_load_4bit: finished" in said and "the kernel died" in said
    assert (folder / "stages/1-sft-seed1/done.json").stat().st_mtime_ns == first, (
        "a finished stage is not trained again"
    )
    rehearse(tmp_path)
    whole, killed = undisturbed / NAME, folder
    for part in ("base/model", "data/train", "data/benchmarks", "adapter"):
        assert digest(whole / part) == digest(killed / part), part
    tables = sorted(path.relative_to(whole) for path in whole.glob("tables/*"))
    pictures = sorted(path.relative_to(whole) for path in whole.glob("figures/*.png"))
    same = [
        path
        for path in (*tables, *pictures)
        if (whole / path).read_bytes() == (killed / path).read_bytes()
    ]
    # the training curves and the memory of the process have times and measurements of their own
    assert (
        set(tables) <= set(same)
        and len(tables) > 20
        and len(same) >= len(tables) + len(pictures) - 3
    )


def again(outputs: Path, step: str, **values: object) -> None:
    """Runs one notebook with values of its own, as JupyterLab or plain papermill do."""
    given = json.loads((outputs / NAME / "manifest.json").read_text())["steps"][step]["parameters"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM70_OUTPUTS", str(outputs))
        papermill.execute_notebook(
            ROOT / f"notebooks/{step}.ipynb",
            outputs / "out.ipynb",
            given | values,
            cwd=ROOT,
            progress_bar=False,
        )


def trained(folder: Path) -> dict[Path, tuple[int, int]]:
    """Weights, checkpoints and logs of training, with inode and time; cards may be written anew."""
    files = [
        path
        for part in ("base/model", "adapter", "stages", "merged")
        for path in (folder / part).rglob("*")
    ]
    files = [path for path in files if path.is_file() and path.name != "README.md"]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_finished_notebooks_run_again_train_nothing_and_nothing_is_done_twice(undisturbed):
    folder = undisturbed / NAME
    before, marks = trained(folder), {step: mark(folder, step) for step in STEPS}
    for step in ("00_base", "03_qlora_finetune"):
        again(undisturbed, step)
        assert (mark(folder, step)["seconds"], mark(folder, step)["finished"]) == (
            marks[step]["seconds"],
            marks[step]["finished"],
        )
    said = rehearse(undisturbed)
    assert "runs" not in said and said.count(": finished") == len(STEPS) + 1  # 07 asks again
    assert trained(folder) == before and any(
        path.name.startswith("checkpoint") for path in folder.glob("stages/*/*")
    )
    page = undisturbed / NAME / "report/index.html"
    assert (
        "not a medical device" in page.read_text().lower()
        and len(list(page.parent.glob("*.html"))) == len(STEPS) + 2
    )


def test_a_changed_parameter_in_03_touches_nothing(undisturbed):
    folder = undisturbed / NAME
    before = trained(folder)
    with pytest.raises(papermill.PapermillExecutionError) as refused:
        again(undisturbed, "03_qlora_finetune", lora_alpha=64)
    said = str(refused.value)
    assert "(lora_alpha: 32 -> 64)" in said and f"--from {NAME}" in said
    assert trained(folder) == before and not (folder / "replaced").exists()
