"""The site's own search finds the words that a reader would look up."""

import re

import pytest

from tests.pages import parsed, wait_until

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]

# What the page of the search does with a query, without fetching an excerpt of every page that it found.
FIND = """terms => terms.map(term => {
  const [, search, excluded, highlighted, objects] = Search._parseQuery(term);
  return [term, Search._performSearch(term, search, excluded, highlighted, objects).map(result => result[0])];
})"""


def glossary_terms() -> tuple[list[str], list[str]]:
    """The English and the Chinese terms of the glossary, each as a reader would type it."""
    english, chinese = [], []
    for term in parsed("book/glossary.html").find("article").find_all("dt"):
        first, *rest = re.split(r" · |；|, and ", term.get_text())
        for part in [first, *rest]:
            for name in re.split(r", |、", part.strip("°")):
                names = chinese if re.search(r"[\u4e00-\u9fff]", name) else english
                names.append(name.partition("（")[0].removeprefix("for images also").strip("° "))
    notes = ("mostly left in English", "left in English")
    return [name for name in english if name not in notes and not name.startswith("here w")], chinese


@pytest.fixture
def find(visit):
    page = visit("search.html")
    wait_until(page, "typeof Search === 'object' && Search._index")
    return lambda terms: dict(page.evaluate(FIND, terms))


def test_search_finds_every_term_of_the_glossary(find):
    english, _ = glossary_terms()
    assert len(english) > 40
    found = find(english)
    missing = {term: pages for term, pages in found.items() if not {p for p in pages if p.startswith("book/")}}
    assert not missing


def test_search_finds_every_chinese_term(find):
    _, chinese = glossary_terms()
    assert len(chinese) > 40
    missing = [term for term, pages in find(chinese).items() if "book/glossary" not in pages]
    assert not missing


def test_search_finds_a_part_of_a_chinese_term(find):
    _, chinese = glossary_terms()
    whole = re.compile(r"[\u4e00-\u9fff]{3,}")
    parts = {part for term in chinese if whole.fullmatch(term) for part in (term[:2], term[-2:], term[1:])}
    assert "蒸馏" in parts and len(parts) > 40
    missing = [part for part, pages in find(sorted(parts)).items() if "book/glossary" not in pages]
    assert not missing


def test_search_finds_nothing_for_what_is_not_there(find):
    assert find(["xylophone", "木琴"]) == {"xylophone": [], "木琴": []}


# --- what the results show ---------------------------------------------------------------------------------------

EXCERPTS = "[...document.querySelectorAll('#search-results li .context')].map(excerpt => excerpt.textContent)"


def excerpts(visit, words: str) -> list[str]:
    page = visit(f"search.html?q={words}")
    wait_until(page, "/found \\d+ page/.test(document.querySelector('#search-results').innerText)")
    page.wait_for_load_state("networkidle")
    return page.evaluate(EXCERPTS)


@pytest.mark.parametrize("words", ["temperature", "repository", "kdutils.fit", "sharpness"])
def test_excerpts_are_text_of_the_page(visit, words):
    shown = excerpts(visit, words)
    assert shown
    for text in shown:
        assert not re.search(r"Open issue|\.ipynb \.pdf|Print to PDF|Contents What you|minutes to read", text), text
        assert not re.search(r"\\[(\[a-z]", text), f"a formula as it is typed: {text}"
        assert not re.search(r"\s{3,}", text), "room that shows nothing"


def test_a_part_of_a_page_has_an_excerpt_of_its_own(visit):
    """Also where the address of the part begins with a number, which is no name in a style sheet."""
    page = visit("search.html")
    wait_until(page, "typeof Search === 'object' && Search._index")
    text = "<article><p>Before.</p><section id='1-part'><h2>Part<a class='headerlink'>#</a></h2>It.</section></article>"
    assert page.evaluate("text => Search.htmlToText(text, '#1-part')", text) == "PartIt."
