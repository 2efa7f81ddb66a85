"""The runner, as a user meets it: commands, exit codes and sentences."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from sm70lib import display, live, preflight
from sm70lib.steps import steps
from sm70lib.study import memory, params
from sm70lib.study.params import ROOT
from tests.toy import Toy, cpu_of_children, ran

pytestmark = pytest.mark.xdist_group("run")  # one finished toy study for all tests


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Toy:
    """A toy study that the runner has finished; tests leave it as they found it."""
    toy = Toy(tmp_path_factory.mktemp("finished"))
    toy.environment["HOME"] = str(toy.folder)
    before = cpu_of_children()
    ended = toy.run()
    toy.seconds = cpu_of_children() - before
    assert ended.returncode == 0, ended.stderr
    return toy


def test_a_study_runs_once(finished):
    assert len(list(finished.study.glob("steps/*/done.json"))) == 7
    assert len(list(finished.study.glob("notebooks/*.ipynb"))) == 7
    before = cpu_of_children()
    again = finished.run()
    assert again.returncode == 0 and ran(again) == [] and again.stdout.count(": finished") == 7
    spent = cpu_of_children() - before
    assert spent < finished.seconds / 3, "nothing to do must not cost the imports of a run"


def test_an_executed_notebook_holds_no_path_of_the_repository_or_of_a_home(finished):
    books = [path.read_text() for path in finished.study.glob("notebooks/*.ipynb")]
    assert len(books) == 7 and not [text for text in books if f"{ROOT}/" in text]
    assert not [text for text in books if str(finished.folder) in text], "which is its home here"
    assert all('"output_path": "outputs/' in text for text in books)


def test_only_declared_names_are_injected(finished):
    cells = json.loads((finished.study / "notebooks/02_load_4bit.ipynb").read_text())["cells"]
    injected = [
        "".join(cell["source"]) for cell in cells if "injected-parameters" in str(cell["metadata"])
    ]
    assert injected == ['# Parameters\nstudy = "tiny"\nquant_type = "nf4"\n']


def test_plain_papermill_leaves_the_same_marks(finished, tmp_path):
    environment = os.environ | finished.environment | {"SM70_OUTPUTS": str(tmp_path / "outputs")}
    for name in ("00_base", "02_load_4bit"):  # -f gives every notebook the whole study file
        subprocess.run(
            [
                sys.executable,
                "-m",
                "papermill",
                finished.folder / f"notebooks/{name}.ipynb",
                tmp_path / "out.ipynb",
                "-f",
                finished.file,
                "--no-progress-bar",
            ],
            env=environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        keys = [
            json.loads((folder / f"tiny/steps/{name}/done.json").read_text())["key"]
            for folder in (tmp_path / "outputs", finished.folder / "outputs")
        ]
        assert keys[0] == keys[1]


def test_list_says_what_would_run_and_why(finished, tmp_path):
    toy = Toy(tmp_path / "copy")
    shutil.copytree(finished.study, toy.study)
    toy.change("lora_r", 8)
    rows = [line.split(maxsplit=2) for line in toy.run("--list").stdout.splitlines()]
    assert [row[1] for row in rows] == ["finished"] * 3 + [
        "refuses",
        "depends",
        "finished",
        "depends",
    ]
    assert "(lora_r: 16 -> 8)" in rows[3][2] and rows[4][2].startswith(
        "runs if 03_qlora_finetune changes what it reads (took 0:"
    )
    assert "--fresh" in toy.run("--list", "--fresh", "02").stdout
    assert ran(toy.run("--list")) == []


def test_fresh_and_looks(finished, tmp_path):
    toy = Toy(tmp_path / "copy")
    shutil.copytree(finished.study, toy.study)
    assert ran(toy.run("--fresh", "05", "--fresh", "06_figures", "-p", "figures_dpi", "200")) == [
        "05",
        "06",
    ]
    assert (toy.study / "figures/main.png").read_text() == "200"
    (moved,) = toy.study.glob("replaced/06_figures/*/figures/main.png")
    assert moved.read_text() == "150" and (moved.parents[1] / "notebooks/06_figures.ipynb").exists()
    ended = toy.run()
    assert ran(ended) == [] and "06_figures: brought back from replaced/06_figures/" in ended.stdout
    assert (toy.study / "figures/main.png").read_text() == "150", (
        "an earlier result comes back with its look"
    )


def test_the_kernel_is_of_this_environment_whatever_is_installed(toy, tmp_path, monkeypatch):
    """Case 21: a kernel python3 of another environment, and a notebook that names a third one."""
    spec = tmp_path / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook = toy.folder / "notebooks/00_base.ipynb"
    notebook.write_text(notebook.read_text().replace('"name": "python3"', '"name": "of-a-friend"'))
    ended = toy.run("--until", "00")
    assert ended.returncode == 0, ended.stderr


def test_outputs_that_cannot_be_written_are_one_sentence(toy):
    """Case 22: a checkout that is read-only."""
    toy.environment["SM70_OUTPUTS"] = "/proc/sm70"
    ended = toy.run()
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: nothing can be written to /proc/sm70/tiny (")
    assert "set the environment variable SM70_OUTPUTS" in ended.stderr and not ended.stdout


def test_until_stops_after_a_step_and_the_rest_follows_later(toy):
    assert ran(toy.run("--until", "02")) == ["00", "01", "02"]
    assert ran(toy.run()) == ["03", "04", "05", "06"]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("-p", "lora_rr", "8"), "there is no parameter lora_rr; did you mean lora_r?"),
        (("-p", "lora_r", "'8'"), "lora_r is '8'"),
        (("-p", "lora_r", "[8"), "-p lora_r:1: this is not readable YAML"),
        (("-p", "lora_r", "8"), "changes the results of tiny"),
        (("-p", "study", "../../x"), "study is '../../x'"),
        (("-p", "data_root", "/nowhere"), "data_root is /nowhere, which is not a folder"),
        (("--until", "x"), "--until x: give one step of 00_base"),
        (("--fresh", "7"), "--fresh 7: give one step of 00_base"),
        (("nosuch.yml",), "nosuch.yml: there is no such file; the studies in params/ are: "),
    ],
)
def test_wrong_words_end_in_one_sentence(toy, words, sentence):
    before = cpu_of_children()
    ended = toy.run(*words)
    assert ended.returncode == 2 and sentence in ended.stderr
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert cpu_of_children() - before < 10 and not toy.study.exists()


def test_missing_data_are_told_before_anything_runs(toy):
    toy.change("data_root", "no/such/folder")
    ended = toy.run()
    assert ended.returncode == 2 and ended.stdout == ""
    assert (
        "error: data_root no/such/folder is not a folder, and 01_data reads from it" in ended.stderr
    )


def test_an_unknown_study_has_no_report(toy):
    ended = subprocess.run(
        [sys.executable, "-m", "sm70lib", "report", "nosuch"],
        cwd=ROOT,
        env=os.environ | toy.environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr == "error: study nosuch has no results; these have: none yet\n"


def test_kernels_have_no_hub_unless_the_study_needs_it(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    tiny = ROOT / "params/tiny.yml"
    for overrides, offline in (
        ({}, True),
        ({"data_root": "hub"}, False),
        ({"base_model": "a/b", "study": "x"}, False),
        ({"base_model": str(ROOT), "study": "x"}, True),
    ):
        os.environ.pop("HF_HUB_OFFLINE", None)
        preflight.set_environment(params.load(tiny, overrides=overrides))
        assert ("HF_HUB_OFFLINE" in os.environ) == offline, overrides
    assert os.environ["PYTHONHASHSEED"] == "0"


def test_the_line_shows_notebook_cell_step_and_time(toy):
    shown = display.Display("03_qlora_finetune", toy.study)
    assert shown.line() == "03_qlora_finetune | cell 0/5 (kernel starts)"

    class Cell:
        id, metadata = "work", {}

    shown.on_cell(Cell())
    bar = {"what": "1-sft", "unit": "step", "n": 1120, "total": 2500, "seconds_left": 31}
    steps.write_json(toy.study / "progress.json", bar)
    assert (
        shown.line() == "03_qlora_finetune | cell 1/5 work | 1-sft | step 1,120/2,500 | 0:31 left"
    )
    steps.write_json(toy.study / "progress.json", bar | {"n": 0, "seconds_left": None})
    assert shown.line() == "03_qlora_finetune | cell 1/5 work | 1-sft | step 0/2,500"
    os.utime(toy.study / "progress.json", (0, 0))
    assert shown.line() == "03_qlora_finetune | cell 1/5 work", "of an earlier run"
    assert [live.clock(seconds) for seconds in (5, 65, 3600)] == ["0:05", "1:05", "1:00:00"]


def test_the_runner_scores_again_where_a_model_fits_now(toy, monkeypatch):
    monkeypatch.setenv(memory.LIMIT, "80")
    toy.write(
        "04_eval",
        before="if not (steps.outputs() / 'large').exists():\n    steps.write_json(step.path("
        "'predictions/left_out.json'), "
        "{'base': {'needed_gb': 138.0, 'there_gb': 80.0, 'where': 'x'}})\n"
        "else:\n    (step.folder / 'predictions/left_out.json').unlink()\n",
    )
    assert toy.run().returncode == 0
    study = params.load(toy.file)
    assert steps.status("04_eval", study) == (True, "finished")
    monkeypatch.setenv(memory.LIMIT, "138")
    monkeypatch.setattr(memory, "_gpus", lambda: [memory.Memory(141, "card", True)])
    assert steps.status("04_eval", study) == (False, "base fits here now")
    assert [steps.status(name, study)[0] for name in steps.STEPS if name != "04_eval"] == [True] * 6
    (toy.folder / "outputs/large").touch()
    steps.begin("04_eval", study)
    assert (toy.study / "predictions/tuned/a.jsonl").exists(), "what was scored is kept"
    assert not list(toy.study.glob("replaced/04_eval/*"))


def test_by_the_command_a_refused_change_becomes_a_new_study(made):
    made.toy.change("lora_r", 8)
    refused = made.toy.run()
    assert refused.returncode == 2 and refused.stdout == "" and refused.stderr.count("\n") == 1
    assert "-p lora_r 8 -p study NAME --from tiny" in refused.stderr
    made.toy.change("lora_r", 16)
    ended = made.toy.run("-p", "lora_r", "8", "-p", "study", "new", "--from", "tiny")
    assert ended.returncode == 0, ended.stderr
    assert (
        ended.stdout.count("taken over from tiny") == 3
        and "03_qlora_finetune: runs" in ended.stdout
    )
    assert "00_base: finished" in ended.stdout and "00_base: runs" not in ended.stdout
    assert (steps.outputs() / "new/adapter/adapter_model.safetensors").read_text().startswith("8 ")
    assert made.all() == {}, "the old study is as it was"
