"""Files are written whole, and tell nothing of the machine that they were written on."""

import json
from multiprocessing import Process
from pathlib import Path

import pytest

from sm70lib.study import files
from sm70lib.study.params import ROOT


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada.l")


@pytest.mark.parametrize(
    "text, shown",
    [
        (f"{ROOT}/outputs/tiny", "outputs/tiny"),
        ('data_root = "/home/ada.l/data"', 'data_root = "~/data"'),
        ("/home/ada.l", "~"),
        ("/home/ada.lovelace/x", "/home/ada.lovelace/x"),
        ("/data/home/x", "/data/home/x"),
    ],
)
def test_a_public_text_names_no_home(home, text, shown):
    assert files.public(text) == shown


def write_often(path: Path) -> None:
    for number in range(100):
        files.write_text(path, f"{number}\n" * 5_000)
        assert len(set(path.read_text().splitlines())) == 1, "a file of two writers"


def test_four_processes_that_write_one_file_leave_it_whole_at_any_time(tmp_path):
    writers = [Process(target=write_often, args=(tmp_path / "results.csv",)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_an_executed_notebook_stays_a_notebook(home, tmp_path):
    book = {"metadata": {"papermill": {"output_path": f"{ROOT}/outputs/x.ipynb"}}, "cells": []}
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(book))
    files.make_public(path)
    shown = json.loads(path.read_text())["metadata"]["papermill"]["output_path"]
    assert shown == "outputs/x.ipynb"
    files.make_public(Path("/nowhere.ipynb"))
