"""Tables of results: no table is cut on a phone so that its message is lost, and verdicts are told in three ways."""

import pytest
from bs4 import BeautifulSoup

from tests.pages import DESKTOP, PAGES, PHONE

MEANINGS = {"yes": "good", "fewer errors": "good", "cannot tell": "open", "no": "bad", "more errors": "bad"}

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


# --- the extension -----------------------------------------------------------------------------------------------


def table_of(heading: str, *words: str) -> BeautifulSoup:
    rows = "".join(f"<tr><td><p>a line</p></td><td><p><strong>{word}</strong></p></td></tr>" for word in words)
    head = f"<thead><tr><th><p>name</p></th><th><p>{heading}</p></th></tr></thead>"
    return BeautifulSoup(f"<table>{head}<tbody>{rows}</tbody></table>", "html.parser")


@pytest.mark.parametrize("heading", ["verdict", "here", "correct?"])
def test_verdicts_are_marked_by_their_meaning(extension, heading):
    body = table_of(heading, *MEANINGS, "an answer nobody thought of", "")
    extension("result_tables").show_verdicts(body)
    assert {chip.string: chip["class"][1] for chip in body.select(".verdict")} == MEANINGS
    assert [cell.get_text() for cell in body.select("td.has-verdict")][-2:] == ["an answer nobody thought of", ""]
    assert {cell["data-label"] for cell in body.select("td.has-verdict")} == {heading}
    assert {part["role"] for part in body.select("tr")} == {"row"}


def test_other_tables_stay_as_they_are(extension):
    body = table_of("gradient finite?", "yes", "no")
    before = str(body)
    extension("result_tables").show_verdicts(body)
    assert str(body) == before


def test_the_numbers_behind_a_figure_are_folded(extension):
    body = BeautifulSoup(
        '<div class="cell tag_numbers"><div class="cell_input"></div><div class="cell_output">1.5</div></div>'
        '<div class="cell"><div class="cell_output">2.5</div></div>',
        "html.parser",
    )
    extension("result_tables").fold_numbers(body)
    assert [details.select_one(".cell_output").string for details in body.select("details")] == ["1.5"]


# --- on a phone --------------------------------------------------------------------------------------------------

UNFOLD = """document.querySelectorAll('details').forEach(details => { details.open = true });
new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"""

# What is wrong with each table: it must fit, or keep its first column in view and say that it goes on.
UNREADABLE = """width => [...document.querySelectorAll('article table')].flatMap(table => {
  const box = table.closest('.pst-scrollable-table-container') || table.parentElement;
  const inside = element => {
    const { left, right } = element.getBoundingClientRect();
    return left >= -1 && right <= width + 1;
  };
  const wrong = [];
  if (table.offsetWidth === 0) return wrong;
  if (![...table.querySelectorAll('.verdict')].every(inside)) wrong.push('a verdict lies outside');
  if (box.scrollWidth > box.clientWidth + 1) {
    if (!getComputedStyle(box, '::before').content.includes('More columns')) wrong.push('no hint');
    box.scrollLeft = box.scrollWidth;
    const first = [...table.querySelectorAll('tr > :first-child')];
    if (!first.every(inside)) wrong.push('the first column scrolls away');
    if (!first.every(cell => cell.offsetWidth < 0.6 * box.clientWidth)) wrong.push('the first column fills the screen');
    box.scrollLeft = 0;
  } else if (!inside(table)) wrong.push('cut');
  return wrong.map(reason => `${reason}: ${table.innerText.slice(0, 80)}`);
})"""


def unreadable(page) -> list[str]:
    page.evaluate(UNFOLD)
    return page.evaluate(UNREADABLE, PHONE["width"])


@pytest.mark.parametrize("page_name", PAGES)
def test_every_table_can_be_read(visit, page_name):
    page = visit(page_name, PHONE)
    assert unreadable(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "the page scrolls sideways"


def test_the_table_to_decide_by_shows_its_verdicts_first(visit):
    page = visit("book/07-choosing.html", PHONE)
    page.evaluate(UNFOLD)
    rows = page.locator("table:has(th:has-text('question')) tbody tr").all()
    assert len(rows) > 20
    for row in rows:
        verdict, question = row.locator(".verdict").bounding_box(), row.locator("td").first.bounding_box()
        assert 0 <= verdict["x"] and verdict["x"] + verdict["width"] <= PHONE["width"]
        assert verdict["y"] < question["y"], "the verdict stands above its question"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_verdicts_differ_in_word_sign_and_colour(visit, scheme):
    page = visit("book/07-choosing.html", DESKTOP, scheme)
    looks = page.evaluate(LOOKS)
    for part in ("text", "sign", "colour"):
        assert len({look[part] for look in looks}) == 3, looks


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("article td:first-child { position: static !important }", "the first column scrolls away"),
        ("article *::before { content: none !important }", "no hint"),
        ("article .verdict { margin-left: 40rem }", "a verdict lies outside"),
        ("article table { margin-left: -5rem !important }", "cut"),
    ],
)
def test_a_table_that_is_cut_would_be_found(visit, spoil, reason):
    page = visit("book/07-choosing.html", PHONE, bypass_csp=True)
    page.add_style_tag(content=spoil)
    assert any(line.startswith(reason) for line in unreadable(page))


LOOKS = """['good', 'bad', 'open'].map(meaning => {
  const chip = document.querySelector(`.verdict.${meaning}`);
  return {
    text: chip.textContent, sign: getComputedStyle(chip, '::before').content, colour: getComputedStyle(chip).color
  };
})"""
