"""JupyterLab on this repository, with a start page that leads to everything in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sm70lib.steps.keys import STEPS, mark, outputs
from sm70lib.study.files import write_json, write_text
from sm70lib.study.params import ROOT

START = ROOT / "outputs/START.md"
SETTINGS = ROOT / "outputs/.lab"
# Documents open as they read, so that their links lead on
OVERRIDES = {
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}
FILTER = "filter.unexecuted.clean"  # .gitattributes names it for notebooks/


def open_lab(options: list[str]) -> int:
    """Opens JupyterLab on the start page.

    Args:
        options: more options of `jupyter lab`.

    Returns:
        The exit code of JupyterLab.
    """
    write_text(START, start_page())
    write_json(SETTINGS / "overrides.json", OVERRIDES)
    keep_git_clean(ROOT)
    command = [
        *(sys.executable, "-m", "jupyter", "lab"),
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.app_settings_dir={SETTINGS}",
        f"--LabApp.default_url=/lab/tree/{START.relative_to(ROOT).as_posix()}",
        *options,
    ]
    return subprocess.run(command).returncode


def keep_git_clean(repository: Path) -> None:
    """Lets git read notebooks/ without outputs (`unexecuted`); does nothing without a git checkout.

    Args:
        repository: the folder that holds .git.
    """
    if not (repository / ".git").exists():
        return
    command = f'"{sys.executable}" sm70lib/unexecuted.py'
    subprocess.run(["git", "-C", str(repository), "config", FILTER, command], check=False)


def start_page() -> str:
    """The start page as Markdown: README, notebooks, and the studies that have run here."""
    parts = [
        "# SM70 workspace",
        "*Research only. Not a medical device, not for clinical use.*",
        "[What this is](../README.md) · [the studies](../params/README.md) · "
        "[the notebooks](../notebooks/README.md) · [how to contribute](../CONTRIBUTING.md)",
        "## Notebooks",
        "Run them in order; each says at its beginning what is missing. They run the study *tiny* "
        "unless their cell of parameters says otherwise.",
        "\n".join(f"- [{_title(path)}](../notebooks/{path.name})" for path in _notebooks()),
        "## Studies that have run here",
        _studies() or "None yet: `make reproduce` runs the study *tiny* in minutes.",
        "To read a notebook without running anything, right-click it and choose *Open With*, "
        "*Notebook (no kernel)*. The committed results are in [reference](reference).",
    ]
    return "\n\n".join(parts) + "\n"


def _notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def _title(path: Path) -> str:
    """The heading of a notebook."""
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    return "".join(first["source"]).split("\n")[0].lstrip("# ")


def _studies() -> str:
    """One line for each study: its steps, its report, its executed notebooks."""
    lines = []
    for manifest in sorted(outputs().glob("*/manifest.json")):
        folder = manifest.parent
        done = [name for name in STEPS if mark(folder, name)]
        left = [name for name in STEPS if name not in done]
        state = f"lacks {', '.join(left)}" if left else "finished"
        lines.append(f"- **{folder.name}**: {state}{_links(folder)}")
    return "\n".join(lines)


def _links(folder: Path) -> str:
    """Links to what a study has, where JupyterLab can open it."""
    if not folder.is_relative_to(ROOT):
        return f"; in {folder}"
    place = os.path.relpath(folder, START.parent)
    links = []
    if (folder / "report/index.html").is_file():
        links.append(f"[report]({place}/report/index.html)")
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        links.append(f"[{path.stem[:2]}]({place}/notebooks/{path.name})")
    return f"; {' · '.join(links)}" if links else ""
