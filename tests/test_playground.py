"""The playground in a browser: drawing with mouse, finger and keys, and what is said and shown."""

import base64
import sys
from pathlib import Path

import pytest
import torch

from kdutils import load_results, predict_logits
from tests.drawing import STROKES, answers, draw, open_playground, settle
from tests.pages import PHONE, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "experiments"))

import playground

RECORD = load_results(playground.RECORD)
NETWORKS = RECORD["networks"]

pytestmark = [pytest.mark.site, pytest.mark.slow]


def soft_targets(page) -> list[str]:
    return page.locator("#pg-numbers td").all_text_contents()  # folded away, row by row


def shown_percent(text: str) -> float:
    """What the page rounds to 0 or 100, it writes as "< 0.1 %" or "> 99.9 %"."""
    ends = {"< 0.1 %": 0.0, "> 99.9 %": 100.0}
    return ends[text] if text in ends else float(text.removesuffix(" %"))


def spoken(page, pattern: str) -> str:
    wait_until(page, f"/{pattern}/.test(document.querySelector('#pg-spoken').textContent)")
    return page.locator("#pg-spoken").text_content()


EMPTY = ["–"] * len(NETWORKS)


def torch_answers(example: dict) -> list[str]:
    grey = torch.tensor([*base64.b64decode(example["pixels"])]) / 255
    logits = [predict_logits(playground.restored(n), grey.reshape(1, 1, 28, 28)) for n in NETWORKS.values()]
    return [str(int(z.argmax())) for z in logits]


def test_an_example_lies_on_the_paper_until_somebody_draws(visit):
    page = open_playground(visit)
    offered = next(example for example in RECORD["examples"] if example["students_disagree"])
    assert answers(page) == torch_answers(offered)
    assert str(offered["validation_index"]) in page.locator("#pg-source").inner_text()
    assert page.locator("#pg-hint").is_visible()
    wait_until(page, "!document.querySelector('#pg-facts').textContent.includes('–')")
    assert page.locator("#pg-spoken").text_content() == "", "nobody has done anything yet"
    draw(page, STROKES[1])
    assert answers(page) == ["1"] * len(NETWORKS), "the example is still there"
    assert not page.locator("#pg-hint").is_visible() and page.locator("#pg-source").inner_text() == ""
    page.locator("#pg-undo").click()
    settle(page)
    assert answers(page) == EMPTY and max(page.evaluate(INK, EVERYWHERE)) == 0
    assert page.locator("#pg-hint").is_visible()


def test_the_example_at_the_start_can_be_cleared_away_and_brought_back(visit):
    page = open_playground(visit)
    said = answers(page)
    page.locator("#pg-clear").click()
    settle(page)
    assert answers(page) == EMPTY
    page.locator("#pg-undo").click()
    settle(page)
    assert answers(page) == said != EMPTY


def test_it_is_said_when_the_students_disagree(visit):
    page = open_playground(visit)
    names = [network["name"].lower() for network in NETWORKS.values()]
    verdict = page.locator("#pg-verdict")
    for i, example in enumerate(RECORD["examples"]):
        page.locator(".pg-digits button").nth(i).click()
        settle(page)
        text = verdict.inner_text()
        assert text.startswith("The two students disagree: ") == example["students_disagree"]
        assert ("pg-apart" in (verdict.get_attribute("class") or "")) == example["students_disagree"]
        said = torch_answers(example)
        if len(set(said)) == 1:
            assert text == f"All of them say {said[0]}."
        else:
            assert all(name in text for name in names) and all(f" {answer}" in text for answer in said)
    assert example["students_disagree"], "the last example is one of those"


def test_each_digit_has_a_bar_for_each_network_as_long_as_its_number(visit):
    page = open_playground(visit)
    groups = page.locator(".pg-group")
    assert groups.count() == 10
    whole = page.locator(".pg-bars").first.evaluate("bars => bars.clientWidth")
    shown = [shown_percent(text) for text in soft_targets(page)]
    places = set()
    for digit in range(10):
        boxes = [bar.bounding_box() for bar in groups.nth(digit).locator(".pg-bar").all()]
        assert len(boxes) == len(NETWORKS)
        for box, number in zip(boxes, shown[digit * len(NETWORKS) :], strict=False):
            assert abs(100 * box["width"] / whole - number) < 1
            places.add(round(box["x"]))
    assert len(places) == 1, "the bars begin at one line"
    page.locator(".pg-fold summary").click()
    table = page.locator("#pg-numbers")
    assert table.get_by_role("columnheader").all_inner_texts() == ["Digit", *(n["name"] for n in NETWORKS.values())]
    assert table.get_by_role("rowheader").all_inner_texts() == [str(digit) for digit in range(10)]
    assert page.locator("#pg-chart").get_attribute("aria-hidden") == "true"


def test_a_four_becomes_a_nine(visit):
    page = open_playground(visit)
    at_the_start = answers(page)
    slider = page.locator("#pg-close")
    assert slider.get_attribute("aria-valuetext") == "0 % closed"
    slider.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert answers(page) == ["4"] * len(NETWORKS)
    seen = set()
    for _ in range(19):
        page.keyboard.press("ArrowRight")
        settle(page)
        seen.add(tuple(answers(page)))
    assert slider.get_attribute("aria-valuetext") == "100 % closed"
    assert answers(page) == ["9"] * len(NETWORKS)
    assert any(len(set(said)) == 2 for said in seen), "all change their mind at once, so there is nothing to see"
    page.locator("#pg-undo").click()  # the whole way at once
    settle(page)
    assert answers(page) == at_the_start


def test_the_corner_changes_nothing_and_the_size_does(visit):
    page = open_playground(visit)
    shares = {}
    for name in ("eight", "corner", "small"):
        page.locator(f"#pg-{name}").click()
        settle(page)
        shares[name] = [shown_percent(text) for text in soft_targets(page)][8 * len(NETWORKS) : 9 * len(NETWORKS)]
    print(shares)
    assert shares["eight"] == shares["corner"] and min(shares["corner"]) > 50
    assert all(small < corner - 5 for small, corner in zip(shares["small"], shares["corner"], strict=True))


def test_a_digit_drawn_with_the_mouse_is_answered_at_once(visit):
    page = open_playground(visit)
    draw(page, STROKES[7])
    assert answers(page)[0] == "7"
    assert "Teacher: 7, " in spoken(page, "Teacher")
    wait_until(page, "!document.querySelector('#pg-facts').textContent.includes('–')")
    for time in page.locator(".pg-time").all_inner_texts():
        assert 0 < float(time.removesuffix(" ms")) < 1000
    titles = page.locator("#pg-facts thead th").all_inner_texts()
    assert titles[1] == "Parameters" and titles[-1] == "Bytes"
    rows = page.locator("#pg-facts tbody tr").all()
    for row, network in zip(rows, NETWORKS.values(), strict=True):
        parameters, errors, _, size = row.locator("td").all_inner_texts()
        assert row.locator("th").inner_text() == network["name"]
        assert [parameters, errors, size] == [
            f"{value:,}" for value in (network["parameters"], network["test_errors"]["stored"], network["bytes"])
        ]
    shown = [shown_percent(text) for text in soft_targets(page)]
    count = len(NETWORKS)
    assert len(shown) == 10 * count
    assert all(abs(sum(shown[column::count]) - 100) < 0.6 for column in range(count))


def test_all_ten_digits_can_be_drawn(visit):
    page = open_playground(visit)
    right = dict.fromkeys(NETWORKS, 0)
    for digit, strokes in STROKES.items():
        page.locator("#pg-clear").click()
        draw(page, strokes)
        said = answers(page)
        print(digit, dict(zip(NETWORKS, said, strict=True)))
        for key, answer in zip(NETWORKS, said, strict=True):
            right[key] += answer == str(digit)
    print(f"right of ten: {right}")
    assert right["teacher"] >= 8


def test_undo_and_clear(visit):
    page = open_playground(visit)
    draw(page, STROKES[4])
    after_two = soft_targets(page)
    page.locator("#pg-undo").click()
    settle(page)
    assert soft_targets(page) != after_two and answers(page) != EMPTY
    draw(page, STROKES[4][1:])
    assert soft_targets(page) == after_two
    page.locator("#pg-clear").click()
    settle(page)
    assert answers(page) == EMPTY
    page.locator("#pg-undo").click()  # clearing can be undone, too
    settle(page)
    assert soft_targets(page) == after_two


def test_a_digit_drawn_with_a_finger(visit):
    page = open_playground(visit, viewport=PHONE)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    box = page.locator("#pg-canvas").bounding_box()
    scale = box["width"] / 280
    scrolled = page.evaluate("scrollY")

    def touch(kind, *points):
        places = [{"x": box["x"] + scale * x, "y": box["y"] + scale * y, "id": i} for i, (x, y) in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    palm = (40, 250)
    touch("touchStart", (140, 40))
    touch("touchMove", (140, 100))
    touch("touchStart", (140, 100), palm)
    for y in range(120, 250, 10):
        touch("touchMove", (140, y), (palm[0] + y / 10, palm[1]))
    touch("touchEnd")
    settle(page)
    assert answers(page)[0] == "1"
    ink = page.evaluate(INK, [(140, 200), (60, 250)])
    assert ink == [255, 0], "the finger has not drawn, or the palm has"
    assert page.evaluate("scrollY") == scrolled, "the page has scrolled under the finger"


# How dark the sheet is at some places; read at once, since Chromium warns of many readings.
EVERYWHERE = [(x, y) for x in range(10, 280, 20) for y in range(10, 280, 20)]
INK = """places => {
  const { data } = document.querySelector('#pg-canvas').getContext('2d').getImageData(0, 0, 280, 280);
  return places.map(([x, y]) => 255 - data[4 * (280 * y + x)]);
}"""


def test_everything_works_by_keyboard_alone(visit):
    page = open_playground(visit)
    focused = "document.activeElement.id"
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "pg-canvas":
            break
    assert page.evaluate(focused) == "pg-canvas"
    assert page.locator("#pg-pen").is_visible()
    scrolled = page.evaluate("scrollY")
    page.keyboard.press("Space")
    pen = page.locator("#pg-canvas[role=slider]")  # a screen reader reads its value whenever it changes
    assert pen.get_attribute("aria-valuetext") == "50 % from the left, 25 % from the top, pen down"
    numbers = {pen.get_attribute("aria-valuenow")}
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
        numbers.add(pen.get_attribute("aria-valuenow"))
    settle(page)
    assert answers(page)[0] == "1"
    page.keyboard.press("Space")
    assert pen.get_attribute("aria-valuetext") == "50 % from the left, 82 % from the top, pen up"
    numbers.add(pen.get_attribute("aria-valuenow"))
    assert len(numbers) == 6, "Orca reads the text only when the number has changed"
    assert all(0 <= int(number) <= int(pen.get_attribute("aria-valuemax")) for number in numbers)
    assert page.locator("output").count() == 0, "it would be read with every stroke"
    assert "Teacher: 1, " in spoken(page, "Teacher")
    assert page.evaluate("scrollY") == scrolled
    drawn = soft_targets(page)
    page.keyboard.press("ArrowRight")  # the pen is up: nothing is drawn
    settle(page)
    assert soft_targets(page) == drawn
    page.keyboard.press("z")
    settle(page)
    assert answers(page) == EMPTY
    page.keyboard.press("z")
    spoken(page, "nothing to undo")
    for key in ("Space", "End", "Escape"):
        page.keyboard.press(key)
    settle(page)
    assert answers(page) != EMPTY
    page.keyboard.press("c")
    spoken(page, "empty")
    settle(page)
    assert answers(page) == EMPTY
    for _ in range(20):
        page.keyboard.press("Shift+ArrowUp")
    spoken(page, "Edge")
    for expected in ("pg-undo", "pg-clear", "pg-temperature", "", "pg-close", "pg-eight", "pg-corner", "pg-small"):
        page.keyboard.press("Tab")  # and out again; the fold with the numbers has no name
        assert page.evaluate(focused) == expected
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first example, a 0
    settle(page)
    assert answers(page)[0] == "0"


def test_temperature_changes_the_bars_and_no_answer(visit):
    page = open_playground(visit)
    draw(page, STROKES[9])
    slider = page.locator("#pg-temperature")
    taught = f"T = {RECORD['settings']['temperature']:g}"
    assert slider.get_attribute("aria-valuetext") == taught == page.locator("#pg-temperature-value").inner_text()
    said, before = answers(page), soft_targets(page)
    confidences = page.locator(".pg-confidence").all_inner_texts()
    bar = page.locator(".pg-group").nth(int(said[0])).locator(".pg-teacher")
    widths = [bar.bounding_box()["width"]]
    slider.focus()
    for key, expected in (("End", "T = 20"), ("Home", "T = 0.5")):
        page.keyboard.press(key)
        assert slider.get_attribute("aria-valuetext") == expected
        assert answers(page) == said and soft_targets(page) != before
        assert page.locator(".pg-confidence").all_inner_texts() == confidences
        widths.append(bar.bounding_box()["width"])
    assert widths[1] < widths[0] < widths[2]


def test_an_example_reaches_the_networks_unchanged(visit):
    page = open_playground(visit)
    for i, example in enumerate(RECORD["examples"]):
        button = page.locator(".pg-digits button").nth(i)
        assert button.get_attribute("aria-label").startswith(f"{example['label']}, ")
        button.click()
        settle(page)
        assert answers(page) == torch_answers(example)
        source = page.locator("#pg-source").inner_text()
        assert str(example["validation_index"]) in source and "tiny network was trained on it" in source
    heard = spoken(page, "Teacher")
    assert f"labelled {example['label']}. " in heard and "The two students disagree" in heard
