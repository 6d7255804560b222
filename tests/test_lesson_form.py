"""Chapters look like lessons: they open with a sentence and a picture, and show the code that teaches, not all of it.

And the words for teacher, labels and what is distilled have one colour, in the figures and on the pages.
"""

import colorsys
import re

import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_rgb

from kdutils import plots
from tests.pages import CHAPTERS, DESKTOP, PHONE, ROOT, parsed

OPEN_CODE = 0.20  # of a chapter's height

site = pytest.mark.usefixtures("built")
pytestmark = [pytest.mark.site, pytest.mark.slow]

# --- the first screen --------------------------------------------------------------------------------------------

# How far down the first paragraph ends, and where the upper half of the first picture or figure to play with does.
OPENING = """(() => {
  const shown = [...document.querySelectorAll('article p:not(.reading-time), article img, article .kd-figure')]
    .filter(element => element.checkVisibility() && element.offsetHeight > 0);
  const sentence = shown.find(element => element.tagName === 'P').getBoundingClientRect();
  const picture = shown.find(element => element.tagName !== 'P').getBoundingClientRect();
  return [sentence.bottom, picture.top + picture.height / 2].map(y => y + scrollY);
})()"""


@site
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("document", CHAPTERS)
def test_a_chapter_opens_with_a_sentence_and_a_picture(visit, document, viewport):
    sentence, picture = visit(f"{document}.html", viewport).evaluate(OPENING)
    assert sentence <= viewport["height"], "the first sentence lies below the first screen"
    assert picture <= viewport["height"], "more than half of the first picture lies below the first screen"


# --- open code ---------------------------------------------------------------------------------------------------

# The share of a chapter's height that code fills, in cells and between them, without what cells printed. What is
# folded is not seen, so it does not count.
SHARE_OF_CODE = """(() => {
  const article = document.querySelector('article');
  return [...article.querySelectorAll('div.highlight')]
    .filter(code => !code.closest('.cell_output') && !code.parentElement.closest('div.highlight'))
    .filter(code => code.checkVisibility())
    .reduce((sum, code) => sum + code.offsetHeight, 0) / article.offsetHeight;
})()"""


@site
@pytest.mark.parametrize("document", CHAPTERS)
def test_open_code_is_a_small_part_of_a_chapter(visit, document):
    share = visit(f"{document}.html").evaluate(SHARE_OF_CODE)
    print(f"{document}: {share:.1%}")
    assert 0 < share <= OPEN_CODE


@site
def test_too_much_open_code_would_be_seen(visit):
    page = visit("book/04-mnist.html")
    page.evaluate("document.querySelectorAll('article details').forEach(fold => { fold.open = true })")
    assert page.evaluate(SHARE_OF_CODE) > OPEN_CODE


# --- one palette -------------------------------------------------------------------------------------------------


def hue(colour: str) -> float:
    """In degrees of the circle of colours."""
    return 360 * colorsys.rgb_to_hsv(*to_rgb(colour))[0]


def colours_of_words(scheme: str) -> dict[str, str]:
    """The colours of the lines under words, as the style sheet of the book has them."""
    css = (ROOT / "book" / "_static" / "book.css").read_text(encoding="utf-8")
    before = 'html[data-theme="dark"] ' if scheme == "dark" else ""
    rule = rf"^{re.escape(before)}\.bd-article \.means-(\w+) {{\s+text-decoration-color: (#\w+);"
    return dict(re.findall(rule, css, re.MULTILINE))


def test_words_have_the_colours_of_the_figures(extension):
    names = set(extension("meaning").MEANINGS.values())
    assert colours_of_words("light") == {name: plots.MEANING[name] for name in names}
    dark = colours_of_words("dark")
    assert set(dark) == names
    for name, colour in dark.items():
        assert abs(hue(colour) - hue(plots.MEANING[name])) < 10, f"{name}: {colour}"


def test_figures_to_play_with_have_them_too():
    css = (ROOT / "book" / "_static" / "js" / "figure.css").read_text(encoding="utf-8")
    rules = re.findall(r"--kd-(teacher|labels|distilled): (#\w+)", css)
    assert len(rules) == 9  # for white and for black, for the light theme and for the dark one
    for name, colour in rules:
        assert abs(hue(colour) - hue(plots.MEANING[name])) < 20, f"{name}: {colour}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<figcaption>A teacher and teachers</figcaption>", "A [teacher] and teachers"),
        ("<figcaption>Soft targets, labels, distilled</figcaption>", "[Soft targets], [labels], distilled"),
        ("<figcaption>label smoothing, unlabelled, a student</figcaption>", "label smoothing, unlabelled, a student"),
        ("<figcaption><code>teacher</code> and <a>labels</a></figcaption>", "teacher and labels"),
        ("<p>the teacher</p>", "the teacher"),
        (
            '<div class="cell_output"><table><tr><td>100 labels, no teacher</td><td>labels</td></tr></table></div>',
            "100 [labels], no teacherlabels",
        ),
        ("<table><tr><td>a teacher in a table of the text</td></tr></table>", "a teacher in a table of the text"),
        (
            "<section><h2>A teacher</h2><p>A teacher,</p><p>a teacher and labels.</p><div class='cell'></div>"
            "<section><h3>Teachers</h3><p>labels, distilled</p></section></section>",
            "A teacherA [teacher],a teacher and [labels].Teacherslabels, [distilled]",
        ),
        ("<section><h2>In the FAQ</h2><p>A teacher</p></section>", "In the FAQA teacher"),
    ],
)
def test_which_words_are_marked(extension, before, after):
    body = BeautifulSoup(before, "html.parser")
    text = body.get_text()
    extension("meaning").underline_meanings(body)
    assert body.get_text() == text
    for mark in body.select(".means"):
        mark.string = f"[{mark.string}]"
    assert body.get_text() == after


@site
def test_the_pages_mark_words_in_captions_and_rows():
    pages = [parsed(f"{document}.html") for document in CHAPTERS]
    assert all(page.select("figcaption .means") for page in pages)
    for name in ("teacher", "labels", "distilled"):
        assert sum(len(page.select(f".cell_output tr > :first-child .means-{name}")) for page in pages) > 3, name
