"""The report in a real browser, where it is installed: nothing asks for an address, nothing runs,
and no verdict stands behind a scroll bar.
"""

import pytest

from sm70lib import report
from tests import browser, reported, synthetic

SIZES = {"medqa_4": 30, "usmle_step1": 12}
OPTIONS = (
    "<script>document.title='run'</script>",
    "<img src='http://127.0.0.1:9/x.png' onerror=\"document.title='run'\">",
    "\u202eright to left\u202c \x1b[31m \\input{x} $x^2$ {{ 7 * 7 }}",
    "word" * 120,
)
WIDTHS = (1440, 390)
PAGES = ("index", "04_eval", "items/index", "items/medqa_4.1", "items/tuned-medqa_4-harness-0-all")
FAR = """[...document.querySelectorAll('.verdict, td[data-head="Reading"]')]
    .filter(cell => cell.getBoundingClientRect().right > innerWidth).length"""
SEEN = """[...document.querySelectorAll('.verdict, td[data-head="Reading"]')]
    .filter(cell => cell.getBoundingClientRect().width > 0).length"""
OPEN = "document.querySelectorAll('details').forEach(part => part.open = true)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The report of a study whose options do what they can."""
    browser.program()
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "OPTIONS", OPTIONS)
        patch.setenv("SM70_OUTPUTS", str(outputs))
        reported.write(outputs, SIZES)
        return report.build("made").parent


@pytest.fixture(scope="module")
def tab(folder):
    opened = browser.Browser()
    yield opened
    opened.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_harmless_and_fits(folder, tab, name, width):
    page = folder / f"{name}.html"
    tab.visit(page, width)
    tab.value(OPEN)
    assert tab.asked and tab.outside() == [] and tab.said == []
    assert tab.value("document.scripts.length") == 0
    assert tab.value("document.title") not in ("", "run")
    assert tab.value("document.documentElement.scrollWidth") <= width, "the page does not scroll"
    assert tab.value(FAR) == 0, "verdicts to be looked for at the right"
    if name == "index":
        assert tab.value(SEEN) > 20


def test_what_bears_on_the_result_is_printed(folder, tab):
    tab.visit(folder / "index.html", 1440)
    tab.send("Emulation.setEmulatedMedia", media="print")
    height = "[...document.querySelectorAll('{0} table')].filter(t => t.checkVisibility()).length"
    assert tab.value(height.format("details.printed")) >= 1
    assert tab.value(height.format("details:not(.printed)")) == 0
    tab.send("Emulation.setEmulatedMedia", media="")
