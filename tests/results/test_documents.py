"""The documents: their links lead somewhere, what they name exists, and README stays short."""

import re
from pathlib import Path

from sm70lib.study.params import ROOT
from tests.results import reference, studies

README = (ROOT / "README.md").read_text()
MOST_WORDS = 1000  # of README, without what is generated
# Those that are read here; what a study writes has other documents.
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "params", ROOT / "notebooks", ROOT / "outputs/reference")
    for path in folder.glob("*.md")
)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document: Path) -> list[str]:
    """The relative links of a document that lead nowhere."""
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        file, _, anchor = link.partition("#")
        target = (document.parent / file) if file else document
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            wrong.append(link)
    return wrong


def test_hours_and_memory_of_studies_are_those_of_the_committed_runs():
    assert studies.LIST.read_text() == studies.listed()
    assert sum(bool(studies._marks(path.stem)) for path in (ROOT / "params").glob("*.yml")) >= 7


def test_every_link_leads_somewhere():
    assert len(DOCUMENTS) >= 8
    assert {document.name: broken(document) for document in DOCUMENTS if broken(document)} == {}
    assert sum(document.read_text().count("](") for document in DOCUMENTS) >= 60


def test_a_broken_link_and_anchor_are_noticed(tmp_path):
    document = tmp_path / "a.md"
    document.write_text("# One, two\n[a](a.md#one-two) [b](#three) [c](b.md) [d](https://d.org)")
    assert broken(document) == ["#three", "b.md"]


def test_readme_is_short_and_every_generated_block_has_its_comments():
    words = README
    for name, (file, _) in reference.BLOCKS.items():
        _, block, _ = reference.around(name)
        assert block.count("|") > 30, name
        if file == "README.md":
            words = words.replace(block, "")
    assert 500 <= len(words.split()) <= MOST_WORDS, "move the long parts to where their readers are"


def test_every_test_and_file_of_the_library_that_is_named_exists():
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    documents = "".join(document.read_text() for document in DOCUMENTS)
    named = set(re.findall(r"`(test_\w+)`", documents))
    assert len(named) >= 20 and [name for name in named if f"def {name}(" not in tests] == []
    files = set(re.findall(r"`(sm70lib/[\w/.]+\.(?:py|yml))`", documents))
    assert len(files) >= 10 and [file for file in files if not (ROOT / file).exists()] == []
