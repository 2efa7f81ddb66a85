"""JupyterLab: the start page, progress below a cell, and notebooks as git sees them."""

import json
import re
import subprocess
import sys

from jupyter_client.manager import start_new_kernel

from sm70lib import lab, live, unexecuted
from sm70lib.steps.steps import write_json
from sm70lib.study.params import ROOT

LOOP = """
import time
from pathlib import Path
from sm70lib import live
from sm70lib.steps.steps import progress
folder = Path({folder!r})
live.SECONDS = 0.05
live.show_in_lab(folder)
live._shown[0].seconds = 0.05
"""
WORK = """
with progress(250, "step", "1-sft", study_folder=folder) as bar:
    bar.mininterval = 0
    bar.update(120)
    time.sleep(0.6)
"""
WRONG = "from sm70lib.study.params import StudyError\nraise StudyError('03 needs base/model')"


def ran(client, code: str) -> list[dict]:
    """The messages that a cell sends."""
    seen: list[dict] = []
    client.execute_interactive(code, output_hook=seen.append, timeout=60)
    return seen


def test_a_kernel_in_lab_shows_progress_and_takes_it_away(tmp_path):
    """In a real kernel, as the Jupyter server starts it."""
    environment = {"PYTHONPATH": str(ROOT), live.IN_LAB: "x.ipynb", "PATH": "/usr/bin"}
    manager, client = start_new_kernel(env=environment, cwd=str(ROOT))
    try:
        assert not [m for m in ran(client, LOOP.format(folder=str(tmp_path))) if "error" in str(m)]
        sent = [
            m["content"]["data"]["text/plain"] for m in ran(client, WORK) if "data" in m["content"]
        ]
        assert sent[0].startswith("1-sft | step 120/250 | 0:0") and sent[0].endswith(" left")
        assert sent[-1] == "", "the line is taken away"
        (error,) = [m["content"] for m in ran(client, WRONG) if m["msg_type"] == "error"]
        assert error["traceback"] == ["StudyError: 03 needs base/model"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_bar_of_an_earlier_run_or_half_a_file_is_no_progress(tmp_path):
    file = tmp_path / "progress.json"
    assert live.bar(file, 0) == []
    write_json(file, {"what": "x", "unit": "step", "n": 1, "total": 2, "seconds_left": None})
    assert live.bar(file, 0) == ["x", "step 1/2"]
    assert live.bar(file, file.stat().st_mtime + 1) == []
    file.write_text('{"what": "x"')
    assert live.bar(file, 0) == []


def test_every_link_of_the_start_page_leads_somewhere(tmp_path, monkeypatch):
    page = lab.start_page()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith("http")]
    assert len(links) >= 13
    assert [link for link in links if not (lab.START.parent / link).exists()] == []
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    assert "None yet: `make reproduce`" in lab.start_page()
    write_json(tmp_path / "tiny/manifest.json", {})
    assert "**tiny**: lacks 00_base, 01_data, 02_load_4bit" in lab.start_page()


def test_a_notebook_that_was_run_is_no_change_for_git(tmp_path):
    path = tmp_path / "notebooks/00_base.ipynb"
    path.parent.mkdir()
    (tmp_path / "sm70lib").mkdir()
    (tmp_path / "sm70lib/unexecuted.py").write_text((ROOT / "sm70lib/unexecuted.py").read_text())
    path.write_text((ROOT / "notebooks/00_base.ipynb").read_text())
    (tmp_path / ".gitattributes").write_text((ROOT / ".gitattributes").read_text())
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    lab.keep_git_clean(tmp_path)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    book = json.loads(path.read_text())
    cell = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
    cell |= {
        "execution_count": 3,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}],
    }
    cell["metadata"]["execution"] = {"started": "now"}
    path.write_text(json.dumps(book))
    changed = subprocess.run([*git, "diff", "--stat"], capture_output=True, text=True, check=True)
    assert changed.stdout == "" and changed.stderr == ""
    cell["source"] = ["x = 1"]
    path.write_text(json.dumps(book))
    changed = subprocess.run([*git, "diff", "--stat"], capture_output=True, text=True, check=True)
    assert "00_base.ipynb" in changed.stdout, "what the reader wrote is a change"


def test_committed_notebooks_are_as_the_filter_leaves_them():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert unexecuted.unexecuted(path.read_text()) == path.read_text(), path.name


def test_jupyter_takes_the_options(monkeypatch, tmp_path):
    """The start page, the settings and the options are given to JupyterLab; none is started."""
    asked = []
    monkeypatch.setattr(lab.subprocess, "run", lambda words, **_: asked.append(words) or Done)
    monkeypatch.setattr(lab, "START", ROOT / "outputs/START.md")
    monkeypatch.setattr(lab, "write_text", lambda *_: None)
    monkeypatch.setattr(lab, "write_json", lambda *_: None)
    monkeypatch.setattr(lab, "keep_git_clean", lambda _: None)
    assert lab.open_lab(["--no-browser"]) == 0
    assert (
        asked[0][:4] == [sys.executable, "-m", "jupyter", "lab"] and asked[0][-1] == "--no-browser"
    )
    assert "--LabApp.default_url=/lab/tree/outputs/START.md" in asked[0]


class Done:
    returncode = 0
