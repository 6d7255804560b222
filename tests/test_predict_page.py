"""Predict and exercises with choices on the built pages: by keyboard, on paper, and for everybody."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from kdutils.exercises import EXERCISES, check
from tests.pages import CHAPTERS, PHONE, parsed, tab_to
from tests.test_access import STANDARD, report
from tests.test_predict import predict
from tools.serve_site import ROOT

FIRST = "book/01-background.html"

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


@pytest.mark.parametrize("document", CHAPTERS)
def test_every_result_belongs_to_a_question_and_shows_something(document):
    page = parsed(f"{document}.html")
    boxes = page.select(".predict")
    assert [box["data-result"] for box in boxes] == [fold["id"] for fold in page.select("details.predict-result")]
    for box in boxes:
        assert page.find(id=box["data-result"]).select_one(".cell_output"), box.get_text()


@pytest.mark.parametrize("document", CHAPTERS)
def test_the_contents_of_a_page_do_not_say_predict_and_nothing_else(document):
    links = [link.get_text(strip=True) for link in parsed(f"{document}.html").select(".page-toc a")]
    assert len(links) > 5 and "Predict" not in links


def choices_on_pages() -> dict:
    """From the name of an exercise to its list on the page."""
    lists = [one for document in CHAPTERS for one in parsed(f"{document}.html").select("ul.exercise-choices")]
    return {predict.CHECK.search(one.find_next("pre").get_text())[1]: one for one in lists}


def test_exercises_say_on_the_page_what_check_says(capsys):
    found = choices_on_pages()
    stubs = json.dumps([(ROOT / f"{name}.ipynb").read_text(encoding="utf-8") for name in CHAPTERS])
    asking = [
        name for name in EXERCISES if re.search(rf"check\(\W*{name}\W*, \W*\.\.\.\W*\)  # (your|five) letter", stubs)
    ]
    assert sorted(found) == sorted(asking) and len(found) >= 6
    for name, choices in found.items():
        said = json.loads(choices["data-verdicts"])
        letters = [item.strong.get_text() for item in choices.find_all("li")]
        assert {letter for answer in said["answers"] for letter in answer} == set(letters)
        assert said["says"].count("Right.") == 1
        for answer, number in list(said["answers"].items())[:10]:
            check(name, answer)
            assert "".join(capsys.readouterr().out.split()) == "".join(said["says"][number].split())


# --- in a browser ------------------------------------------------------------------------------------------------


def test_a_guess_is_compared_with_the_result_by_keyboard_alone(visit):
    page = visit(FIRST)
    fold = page.locator("#predict-result-1")
    assert not fold.locator(".cell_output").first.is_visible()
    tab_to(page, ".predict input")
    page.keyboard.press("ArrowDown")
    tab_to(page, ".predict button")
    page.keyboard.press("Enter")
    assert fold.locator(".cell_output").first.is_visible()
    said = fold.locator(".predict-said").inner_text()
    measured = parsed(FIRST).select_one(".predict ul")["data-measured"]
    assert said == f"You said: about half. Measured: {measured}."
    assert page.evaluate("document.activeElement.className") == "predict-said"


def test_a_number_is_a_guess_too_and_nothing_is_none(visit):
    page = visit("book/04-mnist.html")
    box = page.locator(".predict").filter(has=page.locator("input[type=number]")).first
    fold = page.locator(f"#{box.get_attribute('data-result')}")
    box.get_by_role("button").click()
    assert "Nothing is chosen" in box.inner_text() and not fold.locator(".cell_output").first.is_visible()
    box.locator("input[type=number]").first.fill("40")
    box.get_by_role("button").click()
    assert fold.locator(".predict-said").inner_text().startswith("You said: 40 % of them. Measured: ")


def test_the_result_can_be_had_without_a_guess(visit):
    page = visit(FIRST)
    fold = page.locator("#predict-result-1")
    assert fold.locator("summary").first.inner_text() == "Show the result without guessing"
    fold.locator("summary").first.click()
    assert fold.locator(".cell_output").first.is_visible() and fold.locator(".predict-said").count() == 0


def test_an_address_in_a_result_unfolds_it(visit):
    name, anchor = next(
        (f"{document}.html", figure["id"])
        for document in CHAPTERS
        for figure in parsed(f"{document}.html").select("details.predict-result figure[id]")
    )
    page = visit(f"{name}#{anchor}")
    assert page.locator(f"#{anchor}").is_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_on_paper_it_is_a_question_a_list_and_the_result(browser, address, scripts):
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{address}/{FIRST}", wait_until="domcontentloaded")
    assert page.locator(".predict").first.locator("li, label").count() == 3
    page.emulate_media(media="print")
    assert not page.locator(".predict-buttons button, details.predict-result > summary").first.is_visible()
    assert page.locator("#predict-result-1 .cell_output").first.bounding_box()["height"] > 50
    context.close()


@pytest.mark.parametrize(("viewport", "scheme"), [(None, "light"), (None, "dark"), (PHONE, "light")])
def test_answered_pages_can_be_read_by_everybody(visit, viewport, scheme):
    page = visit(FIRST, viewport, scheme, bypass_csp=True)
    for box in page.locator(".predict").all():
        box.locator("input[type=radio]").first.check()
        box.get_by_role("button").click()
    for button in page.locator(".exercise-choices button").all():
        button.click()
    mine = [".predict", ".predict-result", ".exercise-choices", ".exercise-verdict"]
    context = {"include": [[part] for part in mine]}
    result = Axe().run(page, context=context, options={"runOnly": STANDARD, "preload": False}).response
    assert report(result) == [] and len(result["passes"]) > 5
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_exercises_answer_on_the_page(visit):
    page = visit(FIRST)
    one, order = page.locator("ul.exercise-choices").all()
    verdicts = page.locator(".exercise-verdict")
    one.get_by_role("button").first.click()
    assert verdicts.first.inner_text().startswith("Not yet. ")
    one.get_by_role("button").nth(1).click()
    assert verdicts.first.inner_text() == "Right."
    assert one.locator("[aria-pressed=true]").count() == 1
    steps = {button.locator("strong").inner_text(): button for button in order.get_by_role("button").all()}
    for letter in "cadb":
        steps[letter].click()
    assert verdicts.nth(1).inner_text() == ""
    steps["e"].click()
    assert verdicts.nth(1).inner_text() == "Right." and steps["e"].inner_text().endswith("(5)")
    steps["e"].click()
    assert verdicts.nth(1).inner_text() == "" and steps["e"].get_attribute("aria-pressed") == "false"
