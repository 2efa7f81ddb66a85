"""The small files of a model or an adapter, from its folder or from the hub."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

from sm70lib.models import loading
from sm70lib.study.files import WEIGHTS
from sm70lib.study.params import StudyError

SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")  # everything but weights
ADAPTER = (*SMALL, WEIGHTS)
BELOW = "*/*"  # checkpoints and other formats, which stand in folders of their own


class Unreachable(StudyError):
    """A model is not here, and the hub cannot be reached to ask for it."""


def model(name: str | Path, key: str) -> Path:
    """A folder with all files of a model but, on the hub, its weights.

    Args:
        name: Folder or hub name.
        key: The parameter that names it, for the error's sentence.

    Raises:
        StudyError: If there is no such model, or the hub does not give it.
    """
    return _folder(name, key, SMALL)


def adapter(name: str | Path, key: str) -> Path:
    """A folder with an adapter (see `model`)."""
    return _folder(name, key, ADAPTER)


def weights_on_hub(name: str) -> list[str] | None:
    """The names of the files of a repository; None if the hub does not answer."""
    try:
        return [file.path for file in huggingface_hub.HfApi().list_repo_tree(name)]
    # The library raises a dozen kinds of errors, among them those of its own transport.
    except Exception:
        return None


def _folder(name: str | Path, key: str, patterns: tuple[str, ...]) -> Path:
    try:
        place = loading.existing(name)
    except StudyError:
        raise StudyError(
            f"{key}: there is no folder {name}; a relative one starts at the repository"
        ) from None
    if Path(place).is_dir():
        return Path(place)
    try:
        return Path(
            huggingface_hub.snapshot_download(
                place, allow_patterns=list(patterns), ignore_patterns=[BELOW]
            )
        )
    except GatedRepoError:
        trouble = "is gated: ask its owners for access and log in (hf auth login), or take it out"
    except LocalEntryNotFoundError:
        raise Unreachable(
            f"{key}: {name} is not a folder of the repository, and the hub cannot be reached to "
            "ask for it"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:150]
        trouble = (
            f"is not a folder of the repository, and the hub does not give it ({first}); where it "
            "is private, log in (hf auth login)"
        )
    raise StudyError(f"{key}: {name} {trouble}") from None
