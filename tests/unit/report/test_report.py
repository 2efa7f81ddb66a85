"""The report: readable from a file share, harmless whatever the data say, everything of the study
in it.
"""

import base64
import re

import pandas as pd
import pytest

from sm70lib import report
from sm70lib.analysis import (
    accuracies,
    drawing,
    frames,
    tables,
)
from sm70lib.beside import pictures, scores
from sm70lib.statistics import stats
from sm70lib.steps.steps import write_json
from sm70lib.study.params import StudyError
from tests import reported, synthetic
from tests.page import Page
from tests.reported import HOSTILE


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A study with tables, a figure and a hostile notebook, rendered: file name -> (text, parsed
    page).
    """
    outputs = tmp_path_factory.mktemp("outputs")
    reported.write(outputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM70_OUTPUTS", str(outputs))
        index = report.build("made")
        first_bytes = index.read_bytes()
        assert report.build("made").read_bytes() == first_bytes
    texts = {
        path.relative_to(index.parent).as_posix(): path.read_text()
        for path in index.parent.rglob("*.html")
    }
    return {name: (text, Page(text)) for name, text in texts.items()}


def test_no_script_and_no_outside_address(pages):
    assert {name for name in pages if "/" not in name} == {"index.html", "04_eval.html"}
    assert sum(name.startswith("items/") for name in pages) > 30
    for name, (text, page) in pages.items():
        assert "<script" not in text.lower() and "javascript:" not in text.lower(), name
        assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(
            page.tags
        ), name
        assert not re.search(r"@import|url\(", text), name
        outside = [link for link in page.links if re.match(r"(?!data:image/)[\w.+-]*:|/", link)]
        assert page.links and not outside, name


def test_text_from_data_arrives_escaped(pages):
    text, page = pages["index.html"]
    assert "&lt;b&gt;x&lt;/b&gt;&lt;script&gt;" in text and "<b>x</b>" not in text
    assert HOSTILE in "".join(page.words)
    text, page = pages["04_eval.html"]
    assert "<b>x</b>" not in text and "said <b>x</b>" in "".join(page.words)


def test_notebook_keeps_its_tables_pictures_and_words(pages):
    text, page = pages["04_eval.html"]
    assert {"h1", "table", "th", "td", "img"} <= set(page.tags) and "color: red" not in text
    words = "".join(page.words)
    assert all(
        word in words for word in ("Story", "paper", "kept", "print", "Report of study made")
    )
    assert [link for link in page.links if link.startswith("data:image/png;base64,")]


def test_the_parameters_stand_once_with_their_values_and_what_they_are(pages):
    words = "".join(pages["04_eval.html"][1].words)
    assert "lora_r: int = 64  # rank" in words and "seed: int = 0  # seed" in words
    assert words.count("lora_r") == 1 and "world" not in words


def test_scorecard_comes_first_and_everything_is_there(pages):
    text, page = pages["index.html"]
    words = "".join(page.words)
    assert (
        "not a medical device" in words.lower()
        and "Exam accuracy is no evidence for a device" in words
    )
    headings = re.findall(r"<h2[^>]*>([^<]*)", text)
    assert headings == [
        "Result",
        "How to read this",
        "Scorecard",
        "Results",
        "What went wrong",
        "What others report",
        "Executed notebooks",
    ]
    assert "not comparable" in words and "undecidable at this n" in words
    assert "Not judged here: 18 claims of SM70" in words and "Under the same protocol" in words
    assert re.search(r"\d+\.\d \+ 10", words), "the guesser and the margin stand apart"
    slices = [part.split("</details>")[0] for part in text.split("<details>")[1:]]
    folded = "".join(slices)
    assert folded.count("condition: never mentioned") >= 3, "slices are folded"
    assert text.replace(folded, "").count('class="verdict supported"') >= 3
    for link in (
        "tables/results.csv",
        "tables/results.tex",
        "figures/accuracy.svg",
        "tables/errors.csv",
    ):
        assert f"../{link}" in page.links
    svg = next(link for link in page.links if link.startswith("data:image/svg+xml;base64,"))
    assert "made of this" in base64.b64decode(svg.split(",")[1]).decode()
    assert text.count("<tr") > 288 + 200


def test_what_the_shown_rows_share_is_said_and_what_bears_on_the_result_is_printed(pages):
    text, page = pages["index.html"]
    words = " ".join("".join(page.words).split())
    assert "Shown: family primary, protocol sm70-2023" in words
    printed = text.split("<details")[1:]
    printed = [part for part in printed if part.startswith(' class="printed"')]
    assert any("slices</summary>" in part for part in printed)
    assert ".printed::details-content" in text


def test_every_relative_link_leads_to_a_file(pages, tmp_path_factory):
    folder = next(tmp_path_factory.getbasetemp().glob("outputs*/made/report/index.html")).parent
    links = [
        (folder / name).parent / link.partition("#")[0]
        for name, (_, page) in pages.items()
        for link in page.links
        if not link.startswith(("data:", "#"))
    ]
    assert len(links) > 1000 and not [link for link in links if not link.resolve().exists()]


def test_a_count_of_the_report_leads_to_the_items_that_it_counts(pages):
    text, page = pages["index.html"]
    assert "items/index.html" in page.links
    cells = re.findall(r'href="(items/tuned-medqa_4-harness-0[^"]+)">(\d+)</a>', text)
    checked = 0
    for link, count in cells:
        name, _, side = link.partition("#")
        shown, listed = pages[name]
        wrong, right = (
            int(re.search(rf'id="{word}">{word.capitalize()}: (\d+)', shown)[1])
            for word in ("wrong", "right")
        )
        assert int(count) == {"": wrong + right, "wrong": wrong, "right": right}[side], link
        questions = [each for each in listed.links if "#i" in each]
        assert len(questions) == wrong + right
        checked += 1
    assert checked >= 4
    claims = text[text.index('id="scorecard"') : text.index('id="1"')]
    assert claims.count('<a href="items/tuned-medqa_4-sm70-2023-0-all.html">120</a>') >= 2
    paper = re.search(r'href="items/tuned-medqa_4-sm70-2023-0-all.html">[^<]+n=120</a>', text)
    assert paper, "an accuracy leads to its items too"


def test_an_item_says_what_each_model_answered_and_where_that_stands(pages, tmp_path_factory):
    texts = [text for name, (text, _) in pages.items() if name.startswith("items/medqa_4.")]
    assert len(texts) == 2, "120 items, 100 on a page"
    assert "Which &lt;b&gt;x&lt;/b&gt; belongs to 0?" in "".join(texts)
    entry = texts[0].split("<h3")[1]
    assert entry.count("✓") == 1 and "x|y &amp; &lt;b&gt;x&lt;/b&gt;" in entry
    places = re.findall(r">([\w-]+/medqa_4-[\w-]+\.jsonl):(\d+)<", entry)
    item_id = re.match(r"[^>]*>([^<]+)<", entry)[1]
    folder = next(tmp_path_factory.getbasetemp().glob("outputs*/made/predictions"))
    assert len(places) == 3 * 2, "models and protocols"
    for file, line in places:
        assert f'"{item_id}"' in (folder / file).read_text().splitlines()[int(line) - 1]


def test_report_before_06_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    with pytest.raises(
        StudyError, match="outputs/made/tables/scorecard.csv is missing: run .* up to 06"
    ):
        report.build("made")


def test_the_report_of_an_arm_names_the_study_that_it_belongs_to(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    write_json(tmp_path / "small/manifest.json", {"parameters": {"figures_studies": ["small-b"]}})
    write_json(tmp_path / "small-b/manifest.json", {"parameters": {}})
    with pytest.raises(
        StudyError, match=r"arm of study small, .* \(python -m sm70lib report small\)"
    ):
        report.build("small-b")
    with pytest.raises(StudyError, match=r"up to 06_figures \([^;]*\)$"):
        report.build("small")


def test_another_study_stands_on_a_page_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    folder = synthetic.study(tmp_path, sizes={"medqa_4": 30})
    synthetic.study(tmp_path, "two", sizes={"medqa_4": 30})
    answers, how = frames.load(tmp_path, ["made", "two"]), stats.How(resamples=100)
    found = accuracies.results(answers[answers["study"] == "made"], how)
    tables.write(found, folder / "tables", "results", "Results.")
    own = {"claim": "x", "source": "this study", "verdict": "supported"}
    names = ("benchmark", "subset", "protocol", "measure", "as_compared", "why")
    numbers = dict.fromkeys(("reference", "ours", "low", "high", "n", "shots"))
    card = pd.DataFrame([own | dict.fromkeys(names, "all") | numbers])
    tables.write(card, folder / "tables", "scorecard", "Card.")
    apart = scores.paired(answers, "made", "two", how)
    tables.write(apart, folder / "tables", "beside_two_scores", "Apart.")
    drawing.style()
    picture = pictures.differences(apart, "made", "two")
    drawing.save(picture, folder / "figures", "beside_two_scores", "of both")
    about = {"parameters": {"figures_studies": ["two", "three"]}, "steps": {}, "versions": {}}
    write_json(folder / "manifest.json", about)
    monkeypatch.setattr(report.runcard, "runcard", lambda made: [])
    index = report.build("made")
    page = Page((index.parent / "beside-two.html").read_text())
    words = "".join(page.words)
    assert "made beside two" in words and "Apart." in words and "index.html" in page.links
    assert "beside-two.html" in Page(index.read_text()).links
    assert "Apart." not in index.read_text(), "it stands there and nowhere else"
    assert not (index.parent / "beside-three.html").exists(), "06 wrote nothing about it"
