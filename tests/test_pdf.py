"""The book on paper: one PDF of all pages, with nothing lost or cut off."""

import re
import unicodedata

import pypdfium2
import pytest
from pypdf import PdfReader

from tests.pages import CHAPTERS, PAGES, parsed, wait_for_mathematics
from tools import make_pdf, needs, serve_site

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


@pytest.fixture(scope="module")
def pdf(chromium, fonts, tmp_path_factory) -> PdfReader:
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    make_pdf.make_pdf(target=target)
    return PdfReader(target)


@pytest.fixture(scope="module")
def texts(pdf) -> list[str]:
    with pypdfium2.PdfDocument(pdf.stream) as document:
        return [page.get_textpage().get_text_bounded() for page in document]


@pytest.fixture(scope="module")
def starts(pdf) -> list[int]:
    """Where each page of the contents begins; one more for the end."""
    top = [entry for entry in pdf.outline if not isinstance(entry, list)]
    return [*(pdf.get_destination_page_number(entry) for entry in top), len(pdf.pages)]


def title(page: str) -> str:
    return parsed(page).find("article").find("h1").get_text().removesuffix("#")


def squeezed(text: str) -> str:
    """Without spaces and hyphenation, and with each ligature as its letters."""
    return re.sub(r"[\s\ufffe\u00ad]+", "", unicodedata.normalize("NFKC", text))


def foot(number: int) -> str:
    return squeezed(f"Knowledge Distillation, Measured {number}")


def printed(texts: list[str], starts: list[int], number: int) -> str:
    """All that stands on the sheets of one page of the contents, without the line at their foot."""
    sheets = range(starts[number], starts[number + 1])
    return "".join(squeezed(texts[sheet]).removeprefix(foot(sheet + 1)) for sheet in sheets)


def test_every_page_of_the_contents_has_a_bookmark_and_its_title(pdf, texts, starts):
    top = [entry.title for entry in pdf.outline if not isinstance(entry, list)]
    assert top == [title(page) for page in PAGES]
    assert starts == sorted(set(starts))
    for page, start in zip(PAGES, starts, strict=False):
        assert squeezed(title(page)) in squeezed(texts[start]), f"page {start + 1} should begin with {title(page)}"


def test_every_heading_is_in_it(texts, starts):
    for number, page in enumerate(PAGES):
        text = printed(texts, starts, number)
        for heading in parsed(page).find("article").find_all(["h2", "h3"]):
            if not heading.find(class_="math"):
                assert squeezed(heading.get_text().removesuffix("#")) in text, f"{page}: {heading.get_text()}"


def test_every_number_of_an_equation_is_in_it(texts, starts):
    found = 0
    for number, page in enumerate(PAGES):
        text = printed(texts, starts, number)
        for tag in re.findall(r"\\tag\{([\d.]+)\}", parsed(page).find("article").get_text()):
            found += 1
            assert f"({tag})" in text, f"{page}: equation {tag}"
    assert found > 10


def count_pictures(sheet) -> int:
    objects = sheet["/Resources"].get("/XObject", {})
    return sum(objects[name]["/Subtype"] == "/Image" for name in objects)


def test_every_picture_is_in_it(pdf, starts):
    for number, page in enumerate(PAGES):
        on_page = parsed(page).find("article").find_all("img")
        on_paper = sum(map(count_pictures, pdf.pages[starts[number] : starts[number + 1]]))
        assert on_paper >= len(on_page), f"{page} has {len(on_page)} pictures, {on_paper} were printed"


def test_solutions_are_unfolded_and_navigation_is_left_out(texts, starts):
    for number, page in enumerate(PAGES):
        text = printed(texts, starts, number)
        for folded in parsed(page).find("article").find_all("details"):
            if folded.find_parent(hidden=True):  # shown by a script, for those who can press its buttons
                continue
            for paragraph in folded.find_all("p"):
                if not paragraph.find(class_="math") and not paragraph.find("a"):  # an address follows a link
                    assert squeezed(paragraph.get_text()) in text, f"{page}: {paragraph.get_text()}"
        for left_out in ("Skiptomaincontent", "Backtotop", "minutestoread", "Copyright2026", "Ctrl+K"):
            assert left_out not in text


def boxes(sheet) -> int:
    """How many signs of a sheet no font has. What is drawn in their place is glyph 0 of some font."""
    fonts, wide, found = sheet["/Resources"].get("/Font", {}), False, 0
    # Chromium writes the choice of a font as `/F5 20 Tf` and text as `<002F0003> Tj`.
    for font, glyphs in re.findall(rb"(/\w+) [\d.]+ Tf|<([0-9A-F]+)> Tj", sheet.get_contents().get_data()):
        if font:
            wide = fonts[font.decode()]["/Subtype"] == "/Type0"  # four digits a glyph
        elif wide:
            found += sum(glyphs[i : i + 4] == b"0000" for i in range(0, len(glyphs), 4))
    return found


def test_no_sign_is_printed_as_a_box(pdf):
    wrong = {number: count for number, sheet in enumerate(pdf.pages, 1) if (count := boxes(sheet))}
    assert not wrong, f"boxes on the pages {wrong}"


def test_a_box_would_be_noticed(browser, tmp_path):
    page = browser.new_page()
    page.set_content("<p>letters \U0010fff0 and one that no font has</p>")
    (tmp_path / "box.pdf").write_bytes(page.pdf())
    page.close()
    pdf = PdfReader(tmp_path / "box.pdf")
    assert [boxes(sheet) for sheet in pdf.pages] == [1]


def test_pages_are_numbered_through(texts):
    wrong = [n for n, text in enumerate(texts, start=1) if not squeezed(text).startswith(foot(n))]
    assert not wrong


def test_paper_is_a4(pdf):
    for page in pdf.pages:
        assert abs(float(page.mediabox.width) - 595) < 1.5
        assert abs(float(page.mediabox.height) - 842) < 1.5


def test_links_lead_within_the_file_or_to_public_addresses(pdf):
    within = 0
    for page in pdf.pages:
        for annotation in page.get("/Annots", []):
            action = annotation.get_object().get("/A", {})
            within += action.get("/S") == "/GoTo"
            assert "127.0.0.1" not in action.get("/URI", "")
    assert within > len(CHAPTERS)


CUT_OFF = """width => [...document.querySelectorAll('article *')].filter(element => {
  const box = element.getBoundingClientRect();
  const drawn = box.width && box.height && !element.closest('mjx-assistive-mml, .visually-hidden');
  return drawn && (box.left < -1 || box.right > width + 1);
}).map(element => element.outerHTML.slice(0, 120))"""

SCROLLED = """[...document.querySelectorAll('article *')]
  .filter(element => ['auto', 'scroll'].includes(getComputedStyle(element).overflowX))
  .filter(element => element.scrollWidth > element.clientWidth + 1).map(element => element.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("page_name", PAGES)
def test_nothing_is_wider_than_the_paper(browser, address, page_name):
    context = browser.new_context(viewport=make_pdf.PAPER, color_scheme="dark")
    page = context.new_page()
    page.emulate_media(media="print")
    page.goto(f"{address}/{page_name}")
    wait_for_mathematics(page)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(CUT_OFF, make_pdf.PAPER["width"]) == []
    assert page.evaluate(SCROLLED) == []
    # Paper is white, whatever the screen was.
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.locator("article details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    context.close()


def test_without_a_site_the_tool_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make book"):
        make_pdf.make_pdf(site=tmp_path)


@pytest.mark.parametrize("name", needs.PDF)
def test_the_tool_refuses_where_something_is_missing(name, tmp_path, monkeypatch):
    for need in needs.PDF:
        met = need != name
        monkeypatch.setitem(needs.NEEDS, need, needs.NEEDS[need]._replace(is_there=lambda met=met: met))
    with pytest.raises(FileNotFoundError, match=f"apt-get install {needs.NEEDS[name].debian}"):
        make_pdf.make_pdf(site=serve_site.SITE, target=tmp_path / "book.pdf")
