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


# --- twenty-five questions of readers ------------------------------------------------------------------------------

# What somebody asks, in the words that they type; the section that answers; words that only a right answer has.
QUESTIONS = {
    "loss ten times": ("faq", "faq-loss-scale", "divides by the number of classes too"),
    "kl symmetric": ("faq", "faq-argument-order", "not symmetric"),
    "negative loss": ("faq", "faq-negative-loss", "never negative"),
    "teacher train mode batch norm": ("faq", "faq-teacher-mode", "requires_grad_(False) does not stop batch norm"),
    "labels needed": ("faq", "faq-labels-needed", "The student does not"),
    "student beat teacher": ("faq", "faq-better-than-teacher", "It can"),
    "better teacher always": ("faq", "faq-bigger-teacher", "does not always help"),
    "T² alone": ("faq", "faq-t-squared", "another learning rate"),
    "temperature tiny student": ("faq", "faq-choose-temperature", "lower for a narrow student"),
    "temperature inference": ("faq", "faq-inference-temperature", "not at the temperature of the distillation"),
    "cached logits augmentation": ("faq", "faq-cached-logits", "another view than the student sees"),
    "architecture input size": ("faq", "faq-architectures", "Only the outputs are compared"),
    "other classes than the teacher": ("faq", "faq-other-classes", "matched by name"),
    "fp16": ("faq", "faq-half-precision", "Store logits"),
    "MSE": ("faq", "faq-mse", "This book has no run that compares"),
    "how many seeds 0.2 %": ("faq", "faq-how-many-seeds", "20 errors"),
    "teacher trained with label smoothing": ("faq", "faq-smoothed-teacher", "Rather not"),
    "multi-label sigmoid": ("faq", "faq-other-heads", "another soft term"),
    "regression head": ("faq", "faq-other-heads", "no softmax at all"),
    "binary classification": ("faq", "faq-other-heads", "how sure it is"),
    "unlabeled data": ("faq", "faq-labels-needed", "unlabelled="),
    "resume": ("faq", "faq-resume", "checkpoint="),
    "two GPUs": ("faq", "faq-two-gpus", "torchrun"),
    "own dataset": ("faq", "faq-own-data", "DataLoader"),
    "trained weights": ("faq", "faq-weights", "safetensors"),
    "cite": ("faq", "faq-cite", "CITATION.cff"),
    "95 % interval": ("notation", "interval", "Not the range of single runs"),
}
FIRST = 5  # results that a reader looks at


def test_the_search_leads_to_what_readers_ask(find):
    """Among the first results stands the page that answers; the search keeps the best at the end of its list."""
    lost = {
        words: pages[::-1][:FIRST]
        for words, pages in find(list(QUESTIONS)).items()
        if f"book/{QUESTIONS[words][0]}" not in pages[::-1][:FIRST]
    }
    assert not lost


@pytest.mark.parametrize("page, place, answer", QUESTIONS.values(), ids=QUESTIONS)
def test_the_section_answers_and_says_where_it_is_shown(page, place, answer):
    section = parsed(f"book/{page}.html").find(id=place).find_parent("section")
    assert answer in " ".join(section.get_text().split())
    assert section.select("a.reference.internal"), "an answer ends where it is measured or derived"
