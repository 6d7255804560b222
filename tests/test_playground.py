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
    return page.locator(".pg-share td").all_inner_texts()


def shown_percent(text: str) -> float:
    """What the page rounds to 0 or 100, it writes as "< 0.1 %" or "> 99.9 %"."""
    ends = {"< 0.1 %": 0.0, "> 99.9 %": 100.0}
    return ends[text] if text in ends else float(text.removesuffix(" %"))


def spoken(page, pattern: str) -> str:
    wait_until(page, f"/{pattern}/.test(document.querySelector('#pg-spoken').textContent)")
    return page.locator("#pg-spoken").text_content()


EMPTY = ["–"] * 3


def test_a_digit_drawn_with_the_mouse_is_answered_at_once(visit):
    page = open_playground(visit)
    assert answers(page) == EMPTY
    draw(page, STROKES[7])
    assert answers(page)[0] == "7"
    assert "Teacher: 7, " in spoken(page, "Teacher")
    wait_until(page, "!document.querySelector('.pg-first-fact').textContent.includes('–')")
    for time in page.locator(".pg-first-fact td").all_inner_texts():
        assert 0 < float(time.removesuffix(" ms")) < 1000
    rows = page.locator("#pg-table tr").all_inner_texts()
    for fact in ("bytes", "test_errors"):
        values = [n[fact] if fact == "bytes" else n[fact]["stored"] for n in NETWORKS.values()]
        assert any(all(f"{value:,}" in row for value in values) for row in rows), fact
    shown = [shown_percent(text) for text in soft_targets(page)]
    assert all(abs(sum(shown[column::3]) - 100) < 0.6 for column in range(3))


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
    scrolled = page.evaluate("scrollY")

    def touch(kind, *points):
        places = [{"x": box["x"] + x, "y": box["y"] + y, "id": i} for i, (x, y) in enumerate(points)]
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
    for expected in ("pg-undo", "pg-clear", "pg-temperature"):  # and out again
        page.keyboard.press("Tab")
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
    said, before, confidence = answers(page), soft_targets(page), page.locator("#pg-table tr").nth(2).inner_text()
    widths = [page.locator(".pg-best .pg-bar").first.bounding_box()["width"]]
    slider.focus()
    for key, expected in (("End", "T = 20"), ("Home", "T = 0.5")):
        page.keyboard.press(key)
        assert slider.get_attribute("aria-valuetext") == expected
        assert answers(page) == said and soft_targets(page) != before
        assert page.locator("#pg-table tr").nth(2).inner_text() == confidence
        widths.append(page.locator(".pg-best .pg-bar").first.bounding_box()["width"])
    assert widths[1] < widths[0] < widths[2]


def test_an_example_reaches_the_networks_unchanged(visit):
    page = open_playground(visit)
    for i, example in enumerate(RECORD["examples"]):
        button = page.locator(".pg-digits button").nth(i)
        assert button.get_attribute("aria-label").startswith(f"{example['label']}, ")
        button.click()
        settle(page)
        grey = torch.tensor([*base64.b64decode(example["pixels"])]) / 255
        logits = [predict_logits(playground.restored(n), grey.reshape(1, 1, 28, 28)) for n in NETWORKS.values()]
        assert answers(page) == [str(int(z.argmax())) for z in logits]
        assert str(example["validation_index"]) in page.locator("#pg-source").inner_text()
    assert f"labelled {example['label']}. Teacher: " in spoken(page, "Teacher")
