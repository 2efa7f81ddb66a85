"""Bare and strange surroundings: the toy study by the real runner must come out the same."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.faults.campaign import finishing
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Started
from tests.faults.campaign.trials import Trial, after, content, differing
from tests.toy import Toy

Surroundings = dict[str, str | None]


def _empty(folder: Path) -> Surroundings:
    """No variable but a path."""
    kept = ("PATH", "PYTHONPATH")
    others = [name for name in os.environ if name not in kept]
    return {name: None for name in others if not name.startswith("SM70_")}


def _no_home(folder: Path) -> Surroundings:
    return {"HOME": None}


def _home_of_nobody(folder: Path) -> Surroundings:
    return {"HOME": "/nonexistent"}


def _no_git(folder: Path) -> Surroundings:
    """A path on which there is no git, and no other program."""
    (folder / "bin").mkdir()
    return {"PATH": str(folder / "bin")}


def _c_locale(folder: Path) -> Surroundings:
    return {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _turkish(folder: Path) -> Surroundings:
    return {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}


def _other_hashes(folder: Path) -> Surroundings:
    return {"PYTHONHASHSEED": str(random.randrange(2**31))}


def _no_terminal(folder: Path) -> Surroundings:
    return {"TERM": "dumb", "COLUMNS": "1", "NO_COLOR": "1"}


def _far_east(folder: Path) -> Surroundings:
    return {"TZ": "Pacific/Kiritimati"}


def _no_hub(folder: Path) -> Surroundings:
    return {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HTTPS_PROXY": "http://x:1"}


def _little_room_for_temporary_files(folder: Path) -> Surroundings:
    return {"TMPDIR": "/nonexistent", "TEMP": None, "TMP": None}


def _blanks(folder: Path) -> Surroundings:
    """Outputs whose path has blanks, accents and brackets."""
    place = folder / "my outputs (é) [1]"
    place.mkdir()
    return {"SM70_OUTPUTS": str(place)}


def _linked(folder: Path) -> Surroundings:
    """Outputs behind a symbolic link."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    return {"SM70_OUTPUTS": str(folder / "link")}


SURROUNDINGS: tuple[Callable[[Path], Surroundings], ...] = (
    *(_empty, _no_home, _home_of_nobody, _no_git, _c_locale, _turkish, _other_hashes),
    *(_no_terminal, _far_east, _no_hub, _little_room_for_temporary_files, _blanks, _linked),
)


def surroundings(draw: random.Random, place: Place) -> Trial:
    """Runs a toy study in strange surroundings, and once more in ordinary ones."""
    whole = place.kept("toy", finishing.make_finished)
    toy = Toy(place.folder / "study")
    strange = draw.choice(SURROUNDINGS)
    given = toy.environment | strange(place.folder)
    first = Started(*_words(toy), log=place.folder / "log.txt", environment=given).end()
    used = {"SM70_OUTPUTS": given["SM70_OUTPUTS"], "SM70_NOTEBOOKS": given["SM70_NOTEBOOKS"]}
    again = Started(*_words(toy), log=place.folder / "again.txt", environment=used).end()
    study = Path(given["SM70_OUTPUTS"] or "") / "tiny"
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    there = content(study, finishing.TOPS, finishing.LEAVE)
    judged = after(first, again, differing(there, other))
    return Trial(judged.outcome, judged.seconds, note=f"{strange.__name__}: {judged.note}")


def _words(toy: Toy) -> tuple[str, ...]:
    return ("python", "-m", "sm70lib", "run", str(toy.file))


def closed_output(draw: random.Random, place: Place) -> Trial:
    """Runs a toy study whose reader has gone, as with `| head -1`."""
    whole = place.kept("toy", finishing.make_finished)
    toy = Toy(place.folder / "study")
    line = " ".join(f"'{word}'" for word in toy.command())
    behind = draw.choice(("| head -1", ">&-", "2>&-", "< /dev/null | true"))
    words = ("bash", "-c", f"set -o pipefail; {line} {behind}")
    Started(*words, log=place.folder / "log.txt", environment=dict(toy.environment)).end()
    log, given = place.folder / "again.txt", dict(toy.environment)
    again = Started(*_words(toy), log=log, environment=given).end()
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    there = content(toy.study, finishing.TOPS, finishing.LEAVE)
    judged = after(again, again, differing(there, other), killed=True)
    return Trial(judged.outcome, judged.seconds, note=f"{behind}: {judged.note}")


def no_network(draw: random.Random, place: Place) -> Trial:
    """Runs a toy study without any network but the machine's own."""
    if not shutil.which("unshare"):
        return surroundings(draw, place)
    whole = place.kept("toy", finishing.make_finished)
    toy = Toy(place.folder / "study")
    given = dict(toy.environment)
    words = ("unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *toy.command())
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0:
        return surroundings(draw, place)
    first = Started(*words, log=place.folder / "log.txt", environment=given).end()
    again = Started(*_words(toy), log=place.folder / "again.txt", environment=given).end()
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    there = content(toy.study, finishing.TOPS, finishing.LEAVE)
    return after(first, again, differing(there, other))
