"""Predict as a control and exercises whose choices answer: what the chapters promise, and what is made of it."""

import itertools
import json
import re
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.pages import CHAPTERS
from tools.serve_site import ROOT

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

import predict

LIST = re.compile(r"(?:^ *- .*\n?)+", re.MULTILINE)


def questions() -> list:
    """Every question that can be answered, with its list as written and the text of the outputs after it."""
    found = []
    for name in CHAPTERS:
        notebook = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
        sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
        asked = [text for text in sources if predict.HEADING.search(text)]
        for text, (metadata, printed) in zip(asked, predict.read_predictions(notebook), strict=True):
            if metadata is None:
                continue
            section = re.split(r"^#", text[predict.HEADING.search(text).end() :], maxsplit=1, flags=re.MULTILINE)[0]
            lists = LIST.findall(section)
            assert set(metadata) == {"questions", "prose"} and len(lists) == len(metadata["questions"]), text
            found += [
                pytest.param(question, points.strip().splitlines(), printed, id=f"{name[5:7]} {question['measured']}")
                for question, points in zip(metadata["questions"], lists, strict=True)
            ]
    return found


def as_number(text: str) -> float | str:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


# --- the notebooks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("question", "points", "printed"), questions())
def test_what_is_said_to_be_measured_is_what_the_outputs_say(question, points, printed):
    values = predict.read_values(question, printed)
    said = question["measured"].format(*values)
    assert any(value in said for value in values), "the sentence says nothing that was printed"
    assert not said.endswith((".", ";")), "the page sets the sign at the end"
    assert not re.search(r"\$|`|\{|\*", said), "it is shown as plain text"
    blanks = [point for point in points if re.match(r" *- __", point)]
    if "right" not in question:
        assert blanks == points, "a question without a right choice asks for numbers"
        return
    assert not blanks and 2 <= len(points) and 1 <= question["right"] <= len(points)
    assert eval(question["when"], {"v": [as_number(value) for value in values]}), f"{question['when']}: {values}"


def test_a_value_that_no_output_has_stops_the_build():
    with pytest.raises(ValueError, match="no output after it"):
        predict.read_values({"read": [r"errors: (\d+)"]}, "nothing here")


# --- the transformation ------------------------------------------------------------------------------------------

PAGE = """<article><section><h3>Predict</h3><p>How many?</p><ul><li><p>one</p></li><li><p>two</p></li></ul>
<div class="cell container"><div class="cell_input">train()</div></div>
<div class="cell container"><div class="cell_input">print(2)</div><div class="cell_output" id="out">2</div></div>
<div class="cell container"><details class="folded-code">draw</details><div class="cell_output">picture</div></div>
<p id="why">Since two is two.</p><p id="next">Now something else.</p></section></article>"""
CODE = {"cell_type": "code", "metadata": {}, "source": "print(2)", "outputs": [{"text": "2\n"}]}


@pytest.fixture
def article(tmp_path):
    question = {"read": [r"(\d)\n"], "measured": "{0}", "right": 2, "when": "v[0] == 2"}
    text = {"cell_type": "markdown", "source": "### Predict\n\nHow many?\n\n- one\n- two"}
    text["metadata"] = {"predict": {"questions": [question], "prose": 1}}
    (tmp_path / "chapter.ipynb").write_text(json.dumps({"cells": [text, CODE]}))
    article = BeautifulSoup(PAGE, "html.parser").article
    predict.add_controls(article, tmp_path / "chapter.ipynb")
    return article


def test_outputs_folded_code_and_the_text_that_explains_them_are_folded(article):
    fold = article.find("details", class_="predict-result")
    assert fold["id"] == article.select_one(".predict")["data-result"] and not fold.has_attr("open")
    assert [fold.find(id=name) is not None for name in ("out", "why", "next")] == [True, True, False]
    assert "draw" in fold.get_text() and "picture" in fold.get_text()


def test_open_code_stays_in_view(article):
    (fold,) = article.select("details.predict-result")
    for code in ("train()", "print(2)"):
        (place,) = article.find_all(string=code)
        assert fold not in place.parents
    assert "How many?" not in fold.get_text()


def test_the_list_knows_what_was_measured(article):
    (choices,) = article.select(".predict ul")
    assert (choices["data-measured"], choices["data-right"]) == ("2", "2")


# --- exercises -------------------------------------------------------------------------------------------------------


def test_an_order_is_asked_for_where_no_single_letter_is_right():
    single, order = predict.verdicts("01-1", list("abcd")), predict.verdicts("01-5", list("abcde"))
    assert sorted(single["answers"]) == list("abcd") and single["says"][single["answers"]["b"]] == "Right."
    assert set(order["answers"]) == set(map("".join, itertools.permutations("abcde")))
