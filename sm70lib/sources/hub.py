"""Where files lie: a folder, or the hub."""

import json
import os
from pathlib import Path

from sm70lib.study import steps
from sm70lib.study.params import StudyError

PARQUET = (
    "**/train-*.parquet",
    "**/train/*.parquet",
    "*.parquet",
)  # how the hub lays a training split out


def hub_folder() -> Path:
    """Where downloads go, shared by all studies: $SM70_HUB, or hub/ among the outputs.

    `hub.lock` in it names the commit of each repository, written at the first download. A copy of it may be
    committed as params/hub.lock: what stands there is downloaded at that commit.
    """
    return Path(os.environ.get("SM70_HUB", steps.outputs() / "hub")).resolve()


def root(p) -> Path:
    """The folder of a study's sources and benchmarks (`data_root`); raises StudyError if there is none.

    With `hub` that is `hub_folder`, into which `files` downloads what is asked for and is not there yet.
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
            "what README (Data) says, world for what 00_base makes, or hub."
        )
    return path


def find(root: Path, folder: str, hub: str | None, patterns: tuple[str, ...]) -> list[Path]:
    """The files below `root/folder` that match the first pattern that any does, sorted; [] if there are none.

    Where `root` is `hub_folder` they are downloaded first. Raises StudyError if the hub cannot be reached.
    """
    here = Path(root) / folder
    if hub and Path(root) == hub_folder():
        _download(hub, here, patterns)
    found = (sorted(path for path in here.glob(pattern) if path.is_file()) for pattern in patterns)
    return next(filter(None, found), [])


def _download(hub: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """Fetches a repository's data files at the commit in hub.lock, or at today's, which is then locked.

    By huggingface_hub, which `datasets` itself downloads with: the latter cannot read every layout here, and
    would hold CORD-19's 1.4 GB of JSON in memory.
    """
    import huggingface_hub

    mark = folder / ".downloaded.json"  # the patterns of which every file is there
    whole = json.loads(mark.read_text()) if mark.exists() else []
    if patterns[0] in whole:
        return
    lock, committed = hub_folder() / "hub.lock", steps.ROOT / "params/hub.lock"
    locked = {}
    for path in (lock, committed):
        locked |= json.loads(path.read_text()) if path.exists() else {}
    try:
        commit = locked.get(hub) or huggingface_hub.HfApi().dataset_info(hub).sha
        huggingface_hub.snapshot_download(
            hub,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            allow_patterns=[pattern.replace("**/", "*") for pattern in patterns],
        )
    except (
        Exception
    ) as error:  # the library raises a dozen kinds, among them those of its own transport
        raise StudyError(
            f"data_root is hub, but {hub} cannot be had from there ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:150]}); check the network, or give a folder."
        ) from None
    if hub not in locked:
        steps.write_json(lock, locked | {hub: commit})
    steps.write_json(mark, [*whole, patterns[0]])
