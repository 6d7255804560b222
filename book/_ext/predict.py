"""Predict as a control, and exercises whose choices answer back. In the chapters both are plain markdown.

A bullet list in the text of a Predict holds choices. A point that begins with a blank, as in "- ____ errors", asks for
a number. What the outputs after it say stands in the metadata of the cell, under `predict`:

    {"questions": [{"read": ["..."], "measured": "{0} errors", "right": 2, "when": "v[0] > 9"}], "prose": 1}

There is one question for each list. The groups of the expressions in `read`, looked for in the text of the outputs,
fill the places in `measured`. `right` is the choice that they bear out, counted from 1; `when` is what has to hold of
these values for it, which tests/test_predict.py checks. `prose` counts the blocks after the outputs that belong to the
answer, paragraphs mostly. A Predict without metadata stays as it is written.

Here the outputs are folded, and the lists are told what to say; _static/predict.js makes controls of them.
"""

import itertools
import json
import re
from pathlib import Path

from bs4 import Tag
from kdutils.exercises import verdict

HEADING = re.compile(r"^#{2,5} Predict\b", re.MULTILINE)
CHECK = re.compile(r'check\("(\d\d-\d+)"')


def add_controls(article: Tag, path: Path) -> None:
    """Fold what answers each Predict of a chapter, and tell its exercises with choices what to say.

    Args:
        article: the page; it is changed.
        path: the notebook that it shows. Without one nothing is done.
    """
    if not path.is_file():
        return
    headings = [tag for tag in article.find_all(["h2", "h3", "h4", "h5"]) if tag.get_text().startswith("Predict")]
    predictions = read_predictions(json.loads(path.read_text(encoding="utf-8")))
    for number, (heading, (predict, printed)) in enumerate(zip(headings, predictions, strict=True), start=1):
        if predict is None:
            continue
        box = frame_question(heading)
        lists = box.find_all("ul")
        for choices, question in zip(lists, predict["questions"], strict=True):
            mark(choices, "predict-choices")
            choices["data-measured"] = question["measured"].format(*read_values(question, printed))
            if "right" in question:
                choices["data-right"] = str(question["right"])
        box["data-result"] = f"predict-result-{number}"
        fold_result(heading, predict["prose"])["id"] = box["data-result"]
    mark_exercises(article)
    for link in list(article.parents)[-1].select(".page-toc li > a"):
        if link.get_text(strip=True) == "Predict":  # it says nothing of where it leads
            link.parent.decompose()


# --- the notebook ------------------------------------------------------------------------------------------------


def read_predictions(notebook: dict) -> list[tuple[dict | None, str]]:
    """Of each Predict the metadata, and the text of all outputs after it."""
    cells = notebook["cells"]
    return [
        (cell["metadata"].get("predict"), printed_by(cells[place:]))
        for place, cell in enumerate(cells)
        if cell["cell_type"] == "markdown" and HEADING.search("".join(cell["source"]))
    ]


def printed_by(cells: list[dict]) -> str:
    """What cells print, without pictures."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.get("text") or output.get("data", {}).get("text/markdown", "") for output in outputs]
    return "\n".join("".join(text) for text in texts)


def read_values(question: dict, printed: str) -> list[str]:
    """The values that a question is about, as they are printed."""
    values: list[str] = []
    for pattern in question["read"]:
        found = re.search(pattern, printed)
        if found is None:
            raise ValueError(f"a Predict reads {pattern!r}, which no output after it has")
        values += found.groups()
    return values


# --- the page ----------------------------------------------------------------------------------------------------


def mark(choices: Tag, name: str) -> None:
    """Name a list for the script, which can make a control of a point only where it is no paragraph of its own."""
    choices["class"] = [name]
    for paragraph in choices.find_all("p"):
        paragraph.unwrap()


def frame_question(heading: Tag) -> Tag:
    """Put the text of a Predict, up to the next cell or heading, into a box; returns the box."""
    box = Tag(name="div", attrs={"class": "predict"})
    text = itertools.takewhile(lambda part: part.name != "section" and not is_cell(part), heading.find_next_siblings())
    parts = list(text)
    heading.insert_after(box)
    box.extend(part.extract() for part in parts)
    return box


def fold_result(heading: Tag, prose: int) -> Tag:
    """Fold the outputs after a Predict, with folded code and explaining text; returns the fold."""
    first = heading.find_next("div", class_="cell")
    cells = [first, *itertools.takewhile(is_cell, first.find_next_siblings())]
    shown = list(itertools.dropwhile(lambda cell: not has_result(cell), cells))
    shown[0] = split_output(shown[0])
    shown += shown[-1].find_next_siblings()[:prose]
    fold, summary, inner = Tag(name="details"), Tag(name="summary"), Tag(name="div")
    fold["class"], summary.string = ["predict-result"], "Show the result"
    shown[0].insert_before(fold)
    inner.extend(part.extract() for part in shown)
    fold.extend([summary, inner])
    return fold


def is_cell(part: Tag) -> bool:
    """Whether this is a code cell with its outputs."""
    return part.name == "div" and "cell" in part.get("class", [])


def has_result(cell: Tag) -> bool:
    """Whether a cell shows something, or is folded. A figure to play with is a question and stays in view."""
    open_and_silent = cell.find(class_="cell_output") is None and cell.find("details", recursive=False) is None
    return not open_and_silent and cell.find(class_="kd-play") is None


def split_output(cell: Tag) -> Tag:
    """Let open code stay where it is: its output becomes a cell of its own, which is returned."""
    code = cell.find(class_="cell_input", recursive=False)
    if code is None:
        return cell
    output = Tag(name="div", attrs={"class": cell["class"]})
    output.extend(part.extract() for part in code.find_next_siblings())
    cell.insert_after(output)
    return output


# --- exercises ---------------------------------------------------------------------------------------------------


def mark_exercises(article: Tag) -> None:
    """Tell each list of lettered choices what `check` says of every answer."""
    for choices in article.find_all("ul"):
        letters = [letter_of(item) for item in choices.find_all("li", recursive=False)]
        if letters and all(letters):
            exercise = CHECK.search(choices.find_next("pre").get_text())[1]
            mark(choices, "exercise-choices")
            choices["data-verdicts"] = json.dumps(verdicts(exercise, letters), ensure_ascii=False)


def letter_of(item: Tag) -> str | None:
    """The letter that a choice begins with, in bold."""
    bold = item.find("strong")
    letter = bold.get_text() if bold and item.get_text().lstrip().startswith(bold.get_text()) else ""
    return letter if re.fullmatch("[a-h]", letter) else None


def verdicts(exercise: str, letters: list[str]) -> dict:
    """What is said, and to which answers: single letters or, where none of them is right, all letters in some order."""
    found = {letter: verdict(exercise, letter) for letter in letters}
    if None not in found.values():
        found = {order: verdict(exercise, order) for order in map("".join, itertools.permutations(letters))}
    says = list(dict.fromkeys(found.values()))
    sentences = ["Right." if sentence is None else f"Not yet. {sentence}" for sentence in says]
    return {"says": sentences, "answers": {answer: says.index(sentence) for answer, sentence in found.items()}}
