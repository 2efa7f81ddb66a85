"""Where files lie: in a folder, or on the hub."""

import json
import os
from pathlib import Path

from sm70lib.parameters import own
from sm70lib.steps import steps
from sm70lib.study.params import StudyError

# How the hub lays out a training split.
PARQUET = ("**/train-*.parquet", "**/train/*.parquet", "*.parquet")


def hub_folder() -> Path:
    """Where downloads go, for all studies: $SM70_HUB, or hub/ among the outputs.

    `hub.lock` in it names the commit of each repository, as of the first download. A copy of that
    file may be committed as params/hub.lock: repositories are then downloaded at those commits.
    """
    return Path(os.environ.get("SM70_HUB", steps.outputs() / "hub")).resolve()


def root(p) -> Path:
    """The folder of a study's sources and benchmarks (`data_root`).

    With `data_root: hub` it is `hub_folder`. `files` downloads into it what is not there yet.

    Raises:
        StudyError: there is no such folder.
    """
    path = steps.ROOT / Path(p.data_root).expanduser()
    if p.data_root == "world":
        path = steps.outputs() / p.study / "base/world"
    if p.data_root == "hub":
        path = hub_folder()
        path.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        raise StudyError(
            f"data_root is {p.data_root!r}, but there is no folder {path}; give one that holds "
            "what params/data.md says, world for what 00_base makes, or hub."
        )
    return path


def find(root: Path, folder: str, hub: str | None, patterns: tuple[str, ...]) -> list[Path]:
    """The files of a source or benchmark, downloaded first if `root` is `hub_folder`.

    Args:
        root: the study's data folder.
        folder: the folder below it.
        hub: the repository on the hub; None or "" for none.
        patterns: globs below `folder`. The first one that matches any file is used.

    Returns:
        Sorted paths, [] if no pattern matches. Hidden files, and files in hidden folders such as
        `.ipynb_checkpoints`, are no data.

    Raises:
        StudyError: the hub cannot be reached.
    """
    here = Path(root) / folder
    if hub and Path(root) == hub_folder():
        _download(hub, here, patterns)
    for pattern in patterns:
        found = (path for path in here.glob(pattern) if path.is_file())
        paths = sorted(path for path in found if not _hidden(path.relative_to(here)))
        if paths:
            return paths
    return []


def own_file(name: str) -> Path:
    """The user's own file of that path; raises StudyError if there is none."""
    path = own.place(name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise StudyError(
            f"{name}: {path} {what}; give the path of a file, from the repository root or in full."
        )
    return path


def outside(p, names: list[str]) -> dict[str, Path]:
    """What a step read from outside the study, for its mark.

    Args:
        p: the study.
        names: paths of the user's own files, and folders of `data_root`. Of a generated world
            these belong to the study itself, and are left out.
    """
    mine = {name: own.place(name) for name in names if own.is_file(name)}
    if p.data_root == "world":
        return mine
    return {name: root(p) / name for name in names if name not in mine} | mine


def shown(path: Path, root: Path) -> str:
    """How tables name a file: below the data folder, else below the repository, else in full."""
    for folder in (Path(root), steps.ROOT):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.as_posix()


def _hidden(path: Path) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def _download(hub: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """Downloads a repository's data files at the commit in hub.lock, else the newest, and locks it.

    With huggingface_hub, on which `datasets` itself relies: `datasets` cannot read every layout
    here, and would hold CORD-19's 1.4 GB of JSON in memory.
    """
    import huggingface_hub

    mark = folder / ".downloaded.json"  # first patterns of the downloads that were completed
    completed = json.loads(mark.read_text()) if mark.exists() else []
    if patterns[0] in completed:
        return
    lock = hub_folder() / "hub.lock"
    locked = _locked(lock, steps.ROOT / "params/hub.lock")
    try:
        commit = locked.get(hub) or huggingface_hub.HfApi().dataset_info(hub).sha
        huggingface_hub.snapshot_download(
            hub,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            allow_patterns=[pattern.replace("**/", "*") for pattern in patterns],
        )
    # The library raises a dozen kinds of errors, among them those of its own transport.
    except Exception as error:
        raise StudyError(
            f"data_root is hub, but {hub} cannot be had from there ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:150]}); check the network, or give a folder."
        ) from None
    if hub not in locked:
        steps.write_json(lock, locked | {hub: commit})
    steps.write_json(mark, [*completed, patterns[0]])


def _locked(*locks: Path) -> dict[str, str]:
    """Commits by repository; a later file takes precedence."""
    commits: dict[str, str] = {}
    for path in locks:
        if path.exists():
            commits |= json.loads(path.read_text())
    return commits
