"""The playground in a browser: drawing, keys, what is said and shown, and what is there when something is missing."""

import base64
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kdutils import load_results, predict_logits
from tests.pages import PHONE, wait_until
from tests.test_site import CUT_OFF
from tools.serve_site import SITE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "experiments"))

import playground

PAGE = "book/playground.html"
RECORD = load_results(playground.RECORD)
NETWORKS = RECORD["networks"]

pytestmark = [pytest.mark.site, pytest.mark.slow]


def arc(x, y, across, down, start, end):
    """Points on a part of an ellipse; degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(x + across * math.cos(a), y + down * math.sin(a)) for a in angles]


# One way to write each digit, on a sheet of 280 by 280.
STROKES = {
    0: [arc(140, 140, 60, 95, -90, 270)],
    1: [[(140, 45), (140, 235)]],
    2: [[*arc(140, 100, 60, 55, -170, 30), (85, 230), (205, 230)]],
    3: [[*arc(130, 90, 55, 45, -150, 90), *arc(130, 185, 62, 50, -90, 150)]],
    4: [[(110, 50), (80, 150), (200, 150)], [(170, 60), (165, 240)]],
    5: [[(195, 50), (100, 50), (95, 125), *arc(135, 175, 60, 55, -120, 150)]],
    6: [[(175, 45), *arc(140, 175, 55, 60, -160, 180)]],
    7: [[(80, 60), (200, 60), (135, 240)]],
    8: [[*arc(140, 92, 45, 45, 90, 450), *arc(140, 188, 55, 50, -90, 270)]],
    9: [[*arc(140, 95, 50, 50, 0, 360), (185, 240)]],
}


@pytest.fixture
def play(visit):
    """Open the page and wait for the networks."""

    def play(**options):
        page = visit(PAGE, **options)
        page.wait_for_selector("#pg-app:visible")
        bring_into_view(page)
        return page

    return play


def bring_into_view(page):
    """The whole sheet, below the bar at the top."""
    page.evaluate("scrollBy(0, document.querySelector('#pg-canvas').getBoundingClientRect().top - 120)")


def draw(page, strokes):
    box = page.locator("#pg-canvas").bounding_box()
    for first, *rest in strokes:
        page.mouse.move(box["x"] + first[0], box["y"] + first[1])
        page.mouse.down()
        for x, y in rest:
            page.mouse.move(box["x"] + x, box["y"] + y)
        page.mouse.up()
    settle(page)


def settle(page):
    """Answers come with the next frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answers(page) -> list[str]:
    return page.locator(".pg-answer td").all_inner_texts()


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


def test_a_digit_drawn_with_the_mouse_is_answered_at_once(play):
    page = play()
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


def test_all_ten_digits_can_be_drawn(play):
    page = play()
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


def test_undo_and_clear(play):
    page = play()
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


def test_a_digit_drawn_with_a_finger(play):
    page = play(viewport=PHONE)
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


def test_everything_works_by_keyboard_alone(play):
    page = play()
    focused = "document.activeElement.id"
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "pg-canvas":
            break
    assert page.evaluate(focused) == "pg-canvas"
    assert page.locator("#pg-pen").is_visible()
    scrolled = page.evaluate("scrollY")
    page.keyboard.press("Space")
    assert "50 % from the left, 25 % from the top" in spoken(page, "Pen down")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    settle(page)
    assert answers(page)[0] == "1"
    page.keyboard.press("Space")
    spoken(page, "Pen up")
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


def test_temperature_changes_the_bars_and_no_answer(play):
    page = play()
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


def test_an_example_reaches_the_networks_unchanged(play):
    page = play()
    for i, example in enumerate(RECORD["examples"]):
        button = page.locator(".pg-digits button").nth(i)
        assert f"a {example['label']}" in button.get_attribute("aria-label")
        button.click()
        settle(page)
        grey = torch.tensor([*base64.b64decode(example["pixels"])]) / 255
        logits = [predict_logits(playground.restored(n), grey.reshape(1, 1, 28, 28)) for n in NETWORKS.values()]
        assert answers(page) == [str(int(z.argmax())) for z in logits]
        assert str(example["validation_index"]) in page.locator("#pg-source").inner_text()
    assert f"labelled {example['label']}. Teacher: " in spoken(page, "Teacher")


def test_without_javascript_a_picture_says_the_same(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{PAGE}")
    picture = page.locator("#playground-fallback img")
    assert picture.is_visible() and len(picture.get_attribute("alt")) > 100
    assert page.locator("#pg-status").is_visible() and not page.locator("#pg-app").is_visible()
    text = page.locator("article").inner_text()
    for network in NETWORKS.values():
        assert network["name"] in text and f"{network['bytes']:,}" in text
    context.close()


def test_opened_as_a_file_the_page_says_what_it_needs(browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto((SITE / PAGE).as_uri(), wait_until="networkidle")
    assert "make serve" in page.locator("#pg-status").inner_text()
    assert page.locator("#playground-fallback img").is_visible() and not page.locator("#pg-app").is_visible()
    context.close()


@pytest.mark.parametrize("name", ["teacher.safetensors", "playground.json"])
@pytest.mark.parametrize("failure", ["no connection", "not found", "cut off"])
def test_a_failed_download_is_named_and_can_be_repeated(browser, address, name, failure):
    context = browser.new_context()
    page = context.new_page()

    def fail(route):
        if failure == "no connection":
            route.abort()
        elif failure == "not found":
            route.fulfill(status=404)
        else:
            content = (playground.FOLDER / name).read_bytes()
            route.fulfill(body=content[: len(content) // 2])

    page.route(f"**/{name}", fail)
    page.goto(f"{address}/{PAGE}")
    page.wait_for_selector("#pg-retry:visible")
    message = page.locator("#pg-status").inner_text()
    assert name in message and ("404" in message) == (failure == "not found")
    assert page.locator("#playground-fallback img").is_visible() and not page.locator("#pg-app").is_visible()
    page.unroute(f"**/{name}")
    page.locator("#pg-retry").click()
    page.wait_for_selector("#pg-app:visible")
    assert not page.locator("#pg-retry").is_visible() and not page.locator("#pg-status").is_visible()
    bring_into_view(page)
    draw(page, STROKES[7])
    assert answers(page)[0] == "7"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_can_be_read(play, scheme):
    page = play(viewport=PHONE, scheme=scheme)
    draw(page, STROKES[3])
    answer = page.locator(".pg-answer").bounding_box()
    assert answer["y"] + answer["height"] <= PHONE["height"], "who draws does not see the answers"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(CUT_OFF, PHONE["width"]) == []
    for target in page.locator(".playground button:visible, .playground input:visible").all():
        box = target.bounding_box()
        assert box["width"] >= 44 and box["height"] >= 44
    colours = page.evaluate(COLOURS)
    assert len(colours) > 50 and {least for *_, least in colours} == {3, 4.5}
    for what, colour, background, least in colours:
        assert contrast(colour, background) >= least, f"{what}: {colour} on {background}"


# Of each piece of text and each bar: its colour, the colour behind it, and the contrast that it needs.
COLOURS = """[...document.querySelectorAll('.playground *')].flatMap(element => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const behind = start => {
    for (let up = start; up; up = up.parentElement) {
      const colour = rgb(getComputedStyle(up).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  if (!element.checkVisibility() || element.closest('.visually-hidden')) return [];
  const style = getComputedStyle(element);
  if (element.className === 'pg-bar') return [['bar', rgb(style.backgroundColor), behind(element.parentElement), 3]];
  const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  return hasText ? [[element.outerHTML.slice(0, 80), rgb(style.color), behind(element), 4.5]] : [];
})"""


def contrast(first, second) -> float:
    """Of two colours, as WCAG 2 defines it."""

    def luminance(colour):
        shares = [value / 255 for value in colour[:3]]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
