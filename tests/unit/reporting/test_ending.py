"""What the terminal says at the end of a run, and the commands that it names."""

import shlex

import pandas as pd
import pytest

from sm70lib import __main__ as command
from sm70lib import ending
from sm70lib.display import explained
from sm70lib.presentation import forms
from sm70lib.presentation.styled import styled
from sm70lib.records.children import STOPPED
from tests.unit.reporting.test_first_screen import study

PAPER = [
    {"model": "base", "medqa_4": "29.7 [23.9, 36.5] n=300", "source": "study tiny"},
    {"model": "tuned", "medqa_4": "100.0 [98.0, 100.0] n=300", "source": "study tiny"},
    {"model": "GPT-4 †", "medqa_4": "78.9 n~1273", "source": "a paper"},
]
__all__ = ["study"]


@pytest.fixture
def told(study, monkeypatch):
    """The study with the paper's table; its folder."""
    pd.DataFrame(PAPER).to_csv(study.folder / "tables/paper.csv", index=False)
    (study.folder / "tables/paper.md").write_text("Accuracy in percent. Study tiny.\n\n| a |\n")
    monkeypatch.setenv("SM70_OUTPUTS", str(study.folder.parent))
    return study.folder


def test_the_end_says_result_time_table_and_report(told):
    said = ending.last_words(told, 75).strip().split("\n")
    assert said[0].startswith("result:  MedQA: +50.3 [45.3, 55.3]") and said[0].endswith(
        "supported"
    )
    assert said[1] == "time:    1:15"
    assert said[3].startswith("next:") and said[3].endswith("-m sm70lib report tiny")
    (told / "report").mkdir()
    (told / "report/index.html").write_text("made")
    assert (
        ending.last_words(told, 75).split("\n")[-1] == f"report:  {told.as_uri()}/report/index.html"
    )


def test_the_commands_that_it_names_are_commands(told, capsys):
    for line in ending.last_words(told, 1).split("\n"):
        if "-m sm70lib" in line:
            words = shlex.split(line.partition(": ")[2])
            assert command._parser().parse_args(words[words.index("sm70lib") + 1 :]).files == [
                "tiny"
            ]


@pytest.mark.parametrize(
    "words", (["tiny"], ["params/tiny.yml"], ["params/tiny.yml", "-p", "seed", "0"])
)
def test_results_takes_a_name_or_what_run_takes(told, capsys, words):
    assert command.main(["results", *words]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[2].split() == ["Model", "MedQA"] and "GPT-4" not in "".join(lines)
    assert lines[3].endswith("  29.7 [23.9, 36.5] n=300") and lines[3].startswith("base ")
    assert lines[-1].startswith("1 results of others are quoted in")


def test_a_study_without_results_is_one_sentence(told, capsys):
    assert command.main(["report", "nobody"]) == 2
    assert capsys.readouterr().err == "error: study nobody has no results; these have: tiny\n"


def test_a_stop_by_hand_is_one_sentence_with_the_command_that_goes_on(tmp_path):
    said = explained("04_eval", "scoring", STOPPED, tmp_path, "python -m sm70lib run x").strip()
    assert "\n" not in said and said.endswith("go on by: python -m sm70lib run x")


def test_plain_text_stands_in_columns():
    text = forms.plain(styled(pd.DataFrame({"model": ["base", "tuned"], "acc_pct": [5, 99.25]})))
    assert text == "Model  Accuracy (%)\nbase            5.0\ntuned          99.2"
