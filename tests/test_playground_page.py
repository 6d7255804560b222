"""The playground as a page: what is there when something is missing, and whether it can be read on a phone."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kdutils import load_results
from tests.drawing import PAGE, STROKES, answers, bring_into_view, draw, open_playground
from tests.pages import PHONE
from tests.test_site import CUT_OFF
from tools.serve_site import SITE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "experiments"))

import playground

NETWORKS = load_results(playground.RECORD)["networks"]

pytestmark = [pytest.mark.site, pytest.mark.slow]


def test_without_javascript_a_picture_says_the_same(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{PAGE}")
    picture = page.locator("#playground-fallback img")
    assert picture.is_visible() and len(picture.get_attribute("alt")) > 100
    assert page.locator("#pg-status").is_visible() and not page.locator("#pg-app").is_visible()
    text = page.locator("article").inner_text()
    for network in NETWORKS.values():
        assert network["name"] in text and f"{network['parameters']:,}" in text
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
def test_the_page_fits_a_phone_and_can_be_read(visit, scheme):
    page = open_playground(visit, viewport=PHONE, scheme=scheme)
    draw(page, STROKES[3])
    answer = page.locator("#pg-verdict").bounding_box()
    assert answer["y"] + answer["height"] <= PHONE["height"], "who draws does not see the answers"
    below = page.locator("#pg-chart").bounding_box()
    assert below["y"] + below["height"] - page.locator("#pg-canvas").bounding_box()["y"] < PHONE["height"]
    page.locator(".pg-fold summary").click()
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
  if (element.classList.contains('pg-bar'))
    return [['bar', rgb(style.backgroundColor), behind(element.parentElement), 3]];
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
