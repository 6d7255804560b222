"""Tables of results: verdicts told by word, sign and colour, and the numbers behind a figure folded away.

On a narrow screen the style sheet makes a card of each row with a verdict, the verdict first. A browser that draws a
row as anything but a row may forget that it is one, so the roles are written out.
"""

import re

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx

HEADINGS = ("verdict", "here", "correct?")  # of the columns whose cells are verdicts
# Cells whose output is folded, by their tag, and the line that stands for it.
FOLDED = {"numbers": "The numbers of the next figure", "trials": "What was tried, row by row"}
CONCERNED = re.compile(rf"<th[^>]*>(?:<p>)?(?:{'|'.join(map(re.escape, HEADINGS))})<|\btag_(?:{'|'.join(FOLDED)})\b")
MEANINGS = {
    "yes": "good",
    "fewer errors": "good",
    "cannot tell": "open",
    "no": "bad",
    "no, it hurts": "bad",
    "more errors": "bad",
}
ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader", "td": "cell"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", change_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def change_page(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Change the tables of a page that has verdicts, or numbers to fold."""
    if CONCERNED.search(context.get("body", "")):
        body = BeautifulSoup(context["body"], "html.parser")
        show_verdicts(body)
        fold_numbers(body)
        context["body"] = str(body)


def show_verdicts(body: Tag) -> None:
    """Mark the verdicts of each table that has some, and name its cells by the headings of their columns."""
    for table in body.find_all("table"):
        headings = [heading.get_text().strip() for heading in table.select("thead th")]
        place = next((number for number, heading in enumerate(headings) if heading in HEADINGS), None)
        if place is None:
            continue
        table["class"] = [*table.get("class", []), "verdicts"]
        for part in (table, *table.find_all(list(ROLES))):
            part["role"] = ROLES[part.name]
        for row in table.select("tbody tr"):
            cells = row.find_all("td", recursive=False)
            for heading, cell in zip(headings[1:], cells[1:], strict=True):
                cell["data-label"] = heading
            mark(cells[place])


def mark(cell: Tag) -> None:
    """Make a chip of the verdict in a cell; a word that is none stays as it is."""
    word = cell.get_text().strip()
    cell["class"] = [*cell.get("class", []), "has-verdict"]
    if word in MEANINGS:
        chip = Tag(name="span", attrs={"class": ["verdict", MEANINGS[word]]})
        chip.string = word
        cell.clear()
        cell.append(chip)


def fold_numbers(body: Tag) -> None:
    """Fold the tables of the cells that are tagged for it."""
    for tag, line in FOLDED.items():
        for output in body.select(f".tag_{tag} > .cell_output"):
            details, summary = Tag(name="details", attrs={"class": ["folded-code", "numbers"]}), Tag(name="summary")
            summary.string = line
            output.wrap(details)
            details.insert(0, summary)
