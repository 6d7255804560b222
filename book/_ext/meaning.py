"""The words for a thing, underlined in the colour that the figures give it: teacher, labels, what is distilled.

They are marked where results are read: in the captions of figures, each once, and in the first column of the tables
that a cell printed, the first of them in a row, which also says what colour a figure would give to that row. In the
text of a chapter they are marked where a section first has them. The text keeps its colour. The colours stand in
_static/book.css; tests/test_lesson_form.py holds them against `kdutils.plots`.
"""

import re

from bs4 import NavigableString, Tag

# Each word with the name of its colour. What is distilled learned from soft targets: they share one, as in the figures.
MEANINGS = {
    "teacher": "teacher",
    "teachers": "teacher",
    "labels": "labels",
    "distilled": "distilled",
    "soft target": "distilled",
    "soft targets": "distilled",
}
WORD = re.compile(rf"\b({'|'.join(sorted(MEANINGS, key=len, reverse=True))})\b", re.IGNORECASE)
ELSEWHERE = ["a", "code", "pre", "script", "button"]  # a link has a line of its own, and code is quoted


def underline_meanings(article: Tag) -> None:
    """Underline the words of a page; it is changed."""
    for caption in article.find_all("figcaption"):
        mark_first(caption, set(MEANINGS.values()))
    for cell in article.select(".cell_output tr > :first-child"):
        mark_first(cell, set(MEANINGS.values()), most=1)
    if article.select_one("div.cell"):
        for heading in article.find_all("h2"):
            wanted = set(MEANINGS.values())
            for paragraph in heading.parent.select("section > p"):
                wanted = mark_first(paragraph, wanted)


def mark_first(place: Tag, wanted: set[str], most: int | None = None) -> set[str]:
    """Underline the first word of each meaning in a place, or only the first words of all; returns what is left."""
    count = 0
    for text in place.find_all(string=WORD):
        if text.find_parent(ELSEWHERE):
            continue
        pieces, end = [], 0
        for found in WORD.finditer(text):
            meaning = MEANINGS[found[0].lower()]
            if meaning in wanted and count != most:
                wanted, count = wanted - {meaning}, count + 1
                pieces += [NavigableString(text[end : found.start()]), underlined(found[0], meaning)]
                end = found.end()
        if pieces:
            text.replace_with(*pieces, NavigableString(text[end:]))
    return wanted


def underlined(word: str, meaning: str) -> Tag:
    """A word with its line."""
    mark = Tag(name="span", attrs={"class": ["means", f"means-{meaning}"]})
    mark.string = word
    return mark
