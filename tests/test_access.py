"""Every page, in both themes and at two widths, by the rules of WCAG 2.2 A and AA that a machine can check."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.pages import DESKTOP, PAGES, PHONE, wait_until

STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OTHERS = ["search.html?q=temperature", "search.html?q=xylophone", "genindex.html", "404.html"]

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


def run_axe(page, **rules) -> dict:
    # What is folded away is read too, so it is unfolded; nothing may still be fading in.
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    page.evaluate("Promise.all(document.getAnimations().map(animation => animation.finished.catch(() => 0)))")
    # "preload" would fetch the stylesheets a second time, which no rule of this standard needs.
    options = {"runOnly": STANDARD, "resultTypes": ["violations"], "preload": False, "rules": rules}
    return Axe().run(page, options=options).response


def report(result: dict) -> list[str]:
    lines = []
    for violation in result["violations"]:
        for node in violation["nodes"]:
            reason = (node["any"] + node["all"] + node["none"])[0]["message"]
            lines.append(f"{violation['id']}: {node['target']} {node['html'][:150]} {reason}")
    return lines


def show(page, theme: str, viewport: dict[str, int]) -> None:
    page.set_viewport_size(viewport)
    page.emulate_media(color_scheme=theme)
    wait_until(page, f"document.documentElement.dataset.theme === '{theme}'")
    page.wait_for_timeout(400)  # the theme asks only now and then which boxes scroll


@pytest.mark.parametrize("page_name", PAGES + OTHERS)
def test_axe_finds_nothing(visit, page_name):
    page = visit(page_name, bypass_csp=True)  # axe comes from outside the site
    if "?q=temperature" in page_name:
        page.wait_for_selector("#search-results li .context")
    wrong, checked = [], set()
    for theme, viewport in (("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE)):
        show(page, theme, viewport)
        # Colours do not depend on the width, and looking at those of some thousand words of code takes long.
        result = run_axe(page, **({"color-contrast": {"enabled": False}} if viewport == PHONE else {}))
        wrong += [f"{theme} {viewport['width']}: {line}" for line in report(result)]
        checked |= {
            (theme, viewport["width"], rule["id"]) for kind in ("passes", "violations") for rule in result[kind]
        }
    assert not wrong, "\n".join(wrong)
    for width in (DESKTOP["width"], PHONE["width"]):
        assert ("light", width, "target-size") in checked
    assert {("light", 1280, "color-contrast"), ("dark", 1280, "color-contrast")} <= checked


def test_axe_would_find_something(visit):
    """A page with one fault of each kind that mattered here."""
    page = visit("404.html", bypass_csp=True)
    page.evaluate(FAULTS)
    show(page, "dark", PHONE)
    found = {violation["id"] for violation in run_axe(page)["violations"]}
    assert {"color-contrast", "image-alt", "scrollable-region-focusable", "target-size", "button-name"} <= found


FAULTS = """document.querySelector('article').insertAdjacentHTML('beforeend', `
  <p style="color: #777; background: #888">faint</p><img src="data:," width="9" height="9">
  <div style="overflow: auto; width: 9em"><p style="width: 99em">${'wide '.repeat(99)}</p></div>
  <button style="width: 9px; height: 9px; padding: 0"></button><button style="width: 9px; height: 9px; padding: 0">`)"""
