"""Scoring killed at random moments: on this machine, through a server, and the server itself."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

from sm70lib.evaluation import one_run
from sm70lib.models import loading, local
from sm70lib.models.backend import Local
from sm70lib.serving.served import Served
from sm70lib.standins.server import ModelServer
from sm70lib.steps.steps import write_json
from sm70lib.study.others import Server
from tests import small
from tests.asked import run_of
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Forked, Process, killed_at_random
from tests.faults.campaign.trials import LOST, SURVIVED, Trial, after, content, differing

ITEMS = 60
BATCH = {"batch_tokens": 300}
PAUSE = 0.03  # seconds of rest after each batch, so that a kill meets all moments alike
SCORED = "scored.txt"  # how many prompts a scorer has had answers for, line by line


def score_here(base: Path, path: Path) -> None:
    """Scores with the model in a folder; notes every answer in a file beside, as it comes."""
    _note_every(local, "loglikelihoods", path)
    loaded = loading.load(base), loading.load_tokenizer(base)
    one_run.evaluate(Local(*loaded), run_of(ITEMS), path, model_digest="m", **BATCH)


def _score_served(url: str, words: Path, path: Path) -> None:
    """The same with the model m of a server."""
    _note_every(Served, "loglikelihoods", path)
    served = Served("m", Server(url, "m"), loading.load_tokenizer(words))
    one_run.evaluate(served, run_of(ITEMS), path, model_digest="m", **BATCH)


def _note_every(holder: object, name: str, path: Path) -> None:
    score = getattr(holder, name)

    def noted(*given):
        found = score(*given)
        with open(path.parent / SCORED, "a") as file:
            file.write(f"{len(found)}\n")
        time.sleep(PAUSE)
        return found

    setattr(holder, name, noted)


def _serve(base: Path, to: Path) -> None:
    """Serves a model until this process is killed, and tells its address in a file."""
    with ModelServer({"m": base}) as server:
        partial = to.with_suffix(".part")
        partial.write_text(server.url)
        os.replace(partial, to)
        time.sleep(3600)


def make_scored(folder: Path) -> None:
    """A base, and its undisturbed predictions."""
    assert Forked(small.base, folder, log=folder / "0.txt").end().code == 0
    base = folder / "base/model"
    (folder / "whole").mkdir()
    ended = Forked(score_here, base, folder / "whole/a.jsonl", log=folder / "1.txt").end()
    assert ended.code == 0, ended.said
    write_json(folder / "lasted.json", ended.lasted)


def here(draw: random.Random, place: Place) -> Trial:
    """Kills a scorer up to four times; once in a while in the middle of a line, too."""
    kept = place.kept("scored", make_scored)
    path, base = place.folder / "a.jsonl", kept / "base/model"
    lasts = json.loads((kept / "lasted.json").read_text())
    worst, before = 0, [0]
    for number in range(draw.randint(1, 4)):

        def start(first: bool = number == 0) -> Process:
            if first:
                for file in place.folder.glob("*"):
                    file.unlink()
            (place.folder / SCORED).unlink(missing_ok=True)
            before[0] = _lines(path)
            return Forked(score_here, base, path, log=place.folder / "log.txt")

        ended = killed_at_random(start, lasts, draw)
        worst = max(worst, _answered(place.folder) - (_lines(path) - before[0]))
        if draw.random() < 0.3 and path.exists():
            path.write_bytes(path.read_bytes()[: -draw.randint(1, 200)])
    again = Forked(score_here, base, path, log=place.folder / "again.txt").end()
    other = differing(content(place.folder, ("*.jsonl",)), content(kept / "whole", ("*.jsonl",)))
    judged = after(ended, again, other, killed=True)
    batch = max(int(line) for line in (place.folder / SCORED).read_text().split() or ["0"])
    if judged.outcome == SURVIVED and worst > max(batch, 16):
        return Trial(LOST, again.seconds, worst, f"{worst} items were scored again")
    return Trial(judged.outcome, again.seconds, worst, judged.note)


def served(draw: random.Random, place: Place) -> Trial:
    """Kills the scorer or its server; another server then answers at another address."""
    kept = place.kept("scored", make_scored)
    kept_served = place.kept("scored by a server", lambda folder: _make_served(kept, folder))
    lasts = json.loads((kept_served / "lasted.json").read_text())
    words, path = kept / "base/model", place.folder / "a.jsonl"
    kills_server = draw.random() < 0.6
    server = _server(words, place.folder)

    def start() -> Process:
        nonlocal server
        for file in place.folder.glob("a.*"):
            file.unlink()
        if not server.alive():
            server = _server(words, place.folder)
        url = (place.folder / "url").read_text()
        return Forked(_score_served, url, words, path, log=place.folder / "log.txt")

    def kill(process: Process) -> None:
        (server if kills_server else process).kill()

    first = killed_at_random(start, lasts, draw, kill)
    server.end(0)
    server = _server(words, place.folder)
    url = (place.folder / "url").read_text()
    again = Forked(_score_served, url, words, path, log=place.folder / "again.txt").end()
    server.end(0)
    whole = content(kept_served / "whole", ("*.jsonl",))
    other = differing(content(place.folder, ("*.jsonl",)), whole)
    return after(first, again, other, killed=not kills_server)


def _make_served(kept: Path, folder: Path) -> None:
    server = _server(kept / "base/model", folder)
    url, path = (folder / "url").read_text(), folder / "whole/a.jsonl"
    path.parent.mkdir()
    ended = Forked(_score_served, url, kept / "base/model", path, log=folder / "1.txt").end()
    server.end(0)
    assert ended.code == 0, ended.said
    write_json(folder / "lasted.json", ended.lasted)


def _server(base: Path, folder: Path) -> Forked:
    """A server that answers already; its address is in `url`."""
    (folder / "url").unlink(missing_ok=True)
    server = Forked(_serve, base, folder / "url", log=folder / "server.txt")
    while not (folder / "url").exists():
        assert server.alive(), (folder / "server.txt").read_text()
        time.sleep(0.02)
    return server


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _answered(folder: Path) -> int:
    """How many items the last scorer has had answers for."""
    noted = folder / SCORED
    return sum(map(int, noted.read_text().split())) if noted.exists() else 0
