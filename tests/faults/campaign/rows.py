"""One damaged row among good ones, in rows to train on and in an exam."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import string
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from sm70lib import benchmarks
from sm70lib.models import loading
from sm70lib.study.params import ROOT
from tests import small
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended, Forked
from tests.faults.campaign.trials import (
    LOST,
    SENTENCE,
    SILENT,
    SURVIVED,
    TRACEBACK,
    Trial,
    is_sentence,
    last_words,
)
from tests.unit.preparing.test_training_set import prepare

GOOD = 8  # rows beside the damaged one
ENDINGS = ("json", "jsonl", "csv")
TEXTS = ["Fever", "Rash", "Cough", "Pain"]
STRANGE: list[Any] = [
    *(None, 5, -1.5, math.nan, True, [], {}, ["a", {"b": [1]}], {"text": "x"}, [[[[[["deep"]]]]]]),
    *("", "   ", "\t\n", "\x00", "a\x00b", "\x1b[2J\x1b[31m", "\ud800", "\u202eabc", "\ufeff"),
    *("=cmd|' /C calc'!A0", "@SUM(1)", "<script>alert(1)</script>", "{{ 7 * 7 }}", "%s %n", "\\"),
    *(
        "<s></s>",
        "### Response:",
        "x" * 300_000,
        "y " * 40_000,
        "a@b.de",
        "(555) 123-4567",
        "u\u0301",
    ),
]


def _rows() -> list[dict[str, Any]]:
    return [
        {"instruction": f"Say what {n} is.", "input": f"Case {n}", "output": f"It is number {n}."}
        for n in range(GOOD)
    ]


def _questions() -> list[dict[str, Any]]:
    return [
        {"question": f"Which sign is {n}?"} | dict(zip("ABCD", TEXTS)) | {"answer": "ABCD"[n % 4]}
        for n in range(GOOD)
    ]


def _damaged(row: dict[str, Any], draw: random.Random) -> Any:
    """A record with one or two strange values, without a field, or that is no record at all."""
    row = dict(row)
    how = draw.randrange(8)
    if how == 0:
        return draw.choice(STRANGE)
    if how == 1:
        row.pop(draw.choice(sorted(row)))
        return row
    if how == 2:
        return row | {draw.choice(("id", "x", "label", "system", "history")): draw.choice(STRANGE)}
    for name in draw.sample(sorted(row), draw.randint(1, 2)):
        row[name] = draw.choice(STRANGE)
    return row


def _written(path: Path, rows: list[Any], place: int, draw: random.Random) -> bool:
    """Writes rows, of which one may be damaged in its bytes too; whether it was."""
    if path.suffix == ".csv":
        _write_csv(path, rows)
    else:
        lines = [json.dumps(row) for row in rows]
        joined = (",\n" if path.suffix == ".json" else "\n").join(lines)
        text = f"[{joined}]" if path.suffix == ".json" else f"{joined}\n"
        path.write_text(text, encoding="utf-8")
    if draw.random() < 0.7:
        return False
    lines = path.read_bytes().splitlines(keepends=True)
    number = min(place, len(lines) - 1)
    lines[number] = _broken(lines[number], draw)
    path.write_bytes(b"".join(lines))
    return True


def _write_csv(path: Path, rows: list[Any]) -> None:
    text = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    table = csv.writer(text)
    table.writerow(names)
    for row in rows:
        cells = row if isinstance(row, dict) else {names[0]: row}
        table.writerow(["" if cells.get(name) is None else cells[name] for name in names])
    path.write_text(text.getvalue(), encoding="utf-8", errors="surrogatepass")


def _broken(line: bytes, draw: random.Random) -> bytes:
    """A line with a few bytes changed, added or cut away."""
    place = draw.randrange(len(line))
    return draw.choice(
        (
            line[:place] + b"\xff\xfe" + line[place:],
            line[:place] + bytes([draw.randrange(256)]) + line[place + 1 :],
            line[:place] + b"\n",
            line[:place] + b'"' + line[place:],
            line[:place] + draw.choice(string.punctuation).encode() + line[place:],
            b"[" * 50_000 + b"\n",
            b'{"instruction": 1e999}\n',
        )
    )


# ---- rows to train on ----------------------------------------------------------------------------


def _start(folder: Path) -> None:
    small.base(folder)


def _prepared(path: str, base: str, folder: Path) -> None:
    """Prepares a file as 01 does, and prints what its tables say."""
    tokenizer = loading.load_tokenizer(base)
    changes = {"data_sources": [path], "data_holdout": 0, "train_stages": ["sft"]}
    audit, _ = prepare(ROOT, folder, tokenizer, **changes)
    funnel = audit.funnel()
    listed = [asdict(defect) for found in audit.found.values() for defect in found.defects]
    (folder / "said.json").write_text(
        json.dumps(
            {
                "rows": int(funnel["rows"].sum()),
                "kept": int(funnel["kept"].sum()),
                "dropped": len({(each["file"], each["row"]) for each in listed if each["dropped"]}),
            }
        )
    )


def training(draw: random.Random, place: Place) -> Trial:
    """Prepares a file of which one row is damaged."""
    base = place.kept("rows base", lambda folder: Forked(_start, folder, log=folder / "log").end())
    rows, number = _rows(), draw.randrange(GOOD + 1)
    row = {
        "instruction": "Say what the odd one is.",
        "input": "Odd",
        "output": "It is the odd one.",
    }
    rows.insert(number, _damaged(row, draw))
    path = place.folder / f"mine.{draw.choice(ENDINGS)}"
    raw = _written(path, rows, number, draw)
    given = (str(path), str(base / "base/model"), place.folder / "data")
    ended = Forked(_prepared, *given, log=place.folder / "log.txt").end(120)
    if ended.code != 0:
        return _refused(ended)
    said = json.loads((place.folder / "data/said.json").read_text())
    ids = _ids(place.folder / "data/train")
    decode = loading.load_tokenizer(base / "base/model").decode
    texts = [decode(row) for row in ids]
    lacking = [n for n in range(GOOD) if sum(f"It is number {n}." in text for text in texts) != 1]
    if len(lacking) > raw:  # of a file with damaged bytes, a neighbour's line may be the broken one
        return Trial(LOST, ended.seconds, note=f"good rows {lacking} are not there once")
    if said["kept"] != len(ids) or said["kept"] + said["dropped"] != said["rows"]:
        return Trial(SILENT, ended.seconds, note=f"the table says {said}, and {len(ids)} are there")
    if not raw and said["rows"] != len(rows):
        return Trial(SILENT, ended.seconds, note=f"{said['rows']} of {len(rows)} rows are counted")
    record = rows[number] if isinstance(rows[number], dict) else {}
    output = record.get("output", record.get("text"))  # a record of running text is its text
    if len(ids) > GOOD and not raw and path.suffix != ".csv" and not isinstance(output, str):
        return Trial(SILENT, ended.seconds, note=f"trained on the answer {output!r:.80}")
    return Trial(SURVIVED, ended.seconds)


def _ids(folder: Path) -> list[list[int]]:
    """The token ids of all rows of a dataset."""
    found: list[list[int]] = []
    for path in sorted(folder.glob("*.arrow")):
        with pa.OSFile(str(path)) as file:
            found += pa.ipc.open_stream(file).read_all()["input_ids"].to_pylist()
    return found


def _refused(ended: Ended) -> Trial:
    if is_sentence(ended) and len(ended.said.splitlines()[-1]) < 700:
        return Trial(SENTENCE, ended.seconds)
    return Trial(TRACEBACK, ended.seconds, note=last_words(ended))


# ---- an exam -------------------------------------------------------------------------------------


def _items(path: str, to: Path) -> None:
    doubts: list = []
    items = benchmarks.read(path, ROOT, defects=doubts)
    shown = [(item.question, list(item.options), item.answer) for item in items]
    to.write_text(json.dumps({"items": shown, "doubts": len(doubts)}))


def exam(draw: random.Random, place: Place) -> Trial:
    """Reads an exam of one's own of which one question is damaged."""
    rows, number = _questions(), draw.randrange(GOOD + 1)
    odd = {"question": "Which is the odd one?"} | dict(zip("ABCD", TEXTS)) | {"answer": "C"}
    rows.insert(number, _damaged(odd, draw))
    path, to = place.folder / f"exam.{draw.choice(ENDINGS)}", place.folder / "items.json"
    raw = _written(path, rows, number, draw)
    ended = Forked(_items, str(path), to, log=place.folder / "log.txt").end(120)
    if ended.code != 0:
        return _refused(ended)
    found = json.loads(to.read_text())
    items = {question: (options, answer) for question, options, answer in found["items"]}
    wrong = [n for n in range(GOOD) if items.get(f"Which sign is {n}?") != (TEXTS, n % 4)]
    if len(wrong) > raw:
        return Trial(SILENT, ended.seconds, note=f"questions {wrong} are not as they were written")
    if not raw and len(items) + found["doubts"] < len(rows):
        return Trial(SILENT, ended.seconds, note="a question is neither asked nor listed")
    return Trial(SURVIVED, ended.seconds, note=_odd(found["items"]))


def _odd(items: Iterable[tuple[str, list[str], int]]) -> str:
    """What became of the odd question, if it is asked."""
    strange = [item for item in items if not str(item[0]).startswith("Which sign is")]
    return f"asked: {strange[0]!r:.120}" if strange else ""


def parquet(draw: random.Random, place: Place) -> Trial:
    """Prepares a Parquet file of which a few bytes are damaged."""
    base = place.kept("rows base", lambda folder: Forked(_start, folder, log=folder / "log").end())
    path = place.folder / "mine.parquet"
    pd.DataFrame(_rows()).to_parquet(path)
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 3)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content[: draw.randint(10, len(content))] if draw.random() < 0.3 else content)
    given = (str(path), str(base / "base/model"), place.folder / "data")
    ended = Forked(_prepared, *given, log=place.folder / "log.txt").end(120)
    if ended.code != 0:
        return _refused(ended)
    said = json.loads((place.folder / "data/said.json").read_text())
    kept = len(_ids(place.folder / "data/train"))
    if said["kept"] != kept or said["kept"] + said["dropped"] != said["rows"]:
        return Trial(SILENT, ended.seconds, note=f"the table says {said}, and {kept} are there")
    return Trial(SURVIVED, ended.seconds)
