"""The whole chain, 00 to 06, through the runner: it ends, ends the same when killed, and is not done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sm70lib.params import ROOT
from sm70lib.steps import STEPS, digest, mark

COMMAND = [sys.executable, "-m", "sm70lib", "run", "params/tiny.yml", "tests/smoke.yml"]

MODELS = {"base", "base-nf4", "tuned", "tuned-1-sft-seed1", "merged-dequantised", "merged-original"}


def start(outputs: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, *words], cwd=ROOT, env=os.environ | {"SM70_OUTPUTS": str(outputs)},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=400)
    return said


def run(outputs: Path, *words: str) -> str:
    process = start(outputs, *words)
    said = finish(process)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A finished study."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    run(outputs)
    return outputs


def kill_kernel(outputs: Path, step: str, when) -> str:
    """Runs until `when()` holds in that step, kills its kernel as the out-of-memory killer would, and waits."""
    process, begun = start(outputs), outputs / f"smoke/steps/{step}/begun.json"
    while not (begun.exists() and when()):
        assert process.poll() is None, finish(process)
        time.sleep(0.05)
    os.kill(json.loads(begun.read_text())["process"], signal.SIGKILL)
    said = finish(process)
    assert process.returncode == 1, said
    return said


def test_every_step_leaves_its_mark_and_every_number_its_items(undisturbed):
    folder = undisturbed / "smoke"
    assert all(mark(folder, step) and (folder / f"notebooks/{step}.ipynb").exists() for step in STEPS)
    results = pd.read_csv(folder / "tables/results.csv")
    whole = results[(results["subset"] == "all") & ~results["benchmark"].isin(["usmle", "usmle_macro"])]
    for row in whole.itertuples():
        lines = pd.read_json(folder / f"predictions/{row.model}/{row.benchmark}-{row.protocol}-{row.shots}.jsonl", lines=True)
        assert (len(lines), lines["correct"].sum()) == (row.n, row.correct)
        assert row.low_pct <= row.acc_pct <= row.high_pct
    assert len(whole) == len(MODELS) * (5 + 4 + 3) and set(whole["model"]) == MODELS
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["steps"]) == set(STEPS) and manifest["parameters"]["world_seed"] == 3


def test_killed_in_03_and_in_04_it_ends_as_the_undisturbed_study(undisturbed, tmp_path):
    folder = tmp_path / "smoke"
    said = kill_kernel(tmp_path, "03_qlora_finetune", (folder / "stages/1-sft/checkpoint-20").exists)
    assert "03_qlora_finetune failed in cell train" in said and "the kernel died" in said
    assert not (folder / "adapter").exists() and mark(folder, "02_load_4bit")
    said = kill_kernel(tmp_path, "04_eval", lambda: len(list(folder.glob("predictions/*/*.jsonl"))) > 3)
    assert "02_load_4bit: finished" in said and "the kernel died" in said
    run(tmp_path)
    whole, killed = undisturbed / "smoke", tmp_path / "smoke"
    for part in ("base/model", "data/train", "data/benchmarks", "adapter"):
        assert digest(whole / part) == digest(killed / part), part
    tables = sorted(path.relative_to(whole) for path in whole.glob("tables/*"))
    pictures = sorted(path.relative_to(whole) for path in whole.glob("figures/*.png"))
    same = [path for path in (*tables, *pictures) if (whole / path).read_bytes() == (killed / path).read_bytes()]
    # the training curve and the memory of the process have times and measurements of their own
    assert set(tables) <= set(same) and len(tables) > 20 and len(same) >= len(tables) + len(pictures) - 2


def test_nothing_is_done_twice_and_a_change_redoes_what_depends_on_it(undisturbed):
    began = time.monotonic()
    said = run(undisturbed)
    assert "runs" not in said and time.monotonic() - began < 20
    for words, redone in (((), []), (("-p", "figures_palette", "deep"), ["06_figures"]),
                          (("-p", "train_micro_batch_size", "2"), []), (("-p", "eval_batch_tokens", "512"), []),
                          (("-p", "errors_examples", "2"), ["05_error_analysis"])):
        said = run(undisturbed, *words, "--list")
        assert [line.split()[0] for line in said.splitlines() if line.split()[1] == "runs"] == redone, words


def again(outputs: Path, step: str, *words: str) -> subprocess.CompletedProcess:
    """One notebook, as JupyterLab or plain papermill run it, with values of its own."""
    given = json.loads((outputs / "smoke/manifest.json").read_text())["steps"][step]["parameters"]
    values = [word for name, value in given.items() for word in ("-y", json.dumps({name: value}))]
    return subprocess.run([sys.executable, "-m", "papermill", f"notebooks/{step}.ipynb", str(outputs / "out.ipynb"), *values,
                           *words, "--no-progress-bar"], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          env=os.environ | {"SM70_OUTPUTS": str(outputs)})


def trained(folder: Path) -> dict[Path, tuple[int, int]]:
    """Weights, checkpoints and logs of training, with inode and time."""
    files = [path for part in ("base/model", "adapter", "stages", "merged") for path in (folder / part).rglob("*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if path.is_file()}


def test_finished_notebooks_run_again_train_nothing(undisturbed):
    folder = undisturbed / "smoke"
    before, marks = trained(folder), {step: mark(folder, step) for step in STEPS}
    for step in ("00_base", "03_qlora_finetune"):
        done = again(undisturbed, step)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (mark(folder, step)["seconds"], mark(folder, step)["finished"]) == (
            marks[step]["seconds"], marks[step]["finished"])
    assert trained(folder) == before and any(path.name.startswith("checkpoint") for path in folder.glob("stages/*/*"))
    assert "runs" not in run(undisturbed)


def test_a_changed_parameter_in_03_touches_nothing(undisturbed):
    folder = undisturbed / "smoke"
    before = trained(folder)
    done = again(undisturbed, "03_qlora_finetune", "-p", "lora_alpha", "64")
    assert done.returncode != 0 and "(lora_alpha: 32 -> 64)" in done.stderr and "--from smoke" in done.stderr
    assert trained(folder) == before and not (folder / "replaced").exists()


def test_the_report_is_built_from_what_is_there(undisturbed):
    done = subprocess.run([sys.executable, "-m", "sm70lib", "report", "smoke"], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"SM70_OUTPUTS": str(undisturbed)}, timeout=120)
    page = undisturbed / "smoke/report/index.html"
    assert done.returncode == 0, done.stderr
    assert "not a medical device" in page.read_text().lower() and len(list(page.parent.glob("*.html"))) >= 8
