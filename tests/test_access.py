"""Every page, in both themes and at two widths, by the rules of WCAG 2.2 A and AA that a machine can check."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.pages import DESKTOP, PAGES, PHONE

STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OTHERS = ["search.html?q=temperature", "search.html?q=xylophone", "genindex.html", "404.html"]

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


def run_axe(page) -> dict:
    # What is folded away is read too, so it is unfolded; nothing may still be fading in.
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    page.evaluate("Promise.all(document.getAnimations().map(animation => animation.finished.catch(() => 0)))")
    # Without "preload" it does not fetch the stylesheets again, which no rule of this standard needs.
    return Axe().run(page, options={"runOnly": STANDARD, "resultTypes": ["violations"], "preload": False}).response


def report(result: dict) -> list[str]:
    return [
        f"{violation['id']}: {node['target']} {node['html'][:150]}"
        f" {(node['any'] + node['all'] + node['none'])[0]['message']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


def show(page, theme: str, viewport: dict[str, int]) -> None:
    page.set_viewport_size(viewport)
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    page.wait_for_timeout(400)  # the theme asks only now and then which boxes scroll


@pytest.mark.parametrize("page_name", PAGES + OTHERS)
def test_axe_finds_nothing(visit, page_name):
    page = visit(page_name, bypass_csp=True)  # axe comes from outside the site
    if "?q=temperature" in page_name:
        page.wait_for_selector("#search-results li .context")
    wrong = []
    for theme in ("light", "dark"):
        for viewport in (DESKTOP, PHONE):
            show(page, theme, viewport)
            result = run_axe(page)
            wrong += [f"{theme} {viewport['width']}: {line}" for line in report(result)]
            seen = {rule["id"] for kind in ("passes", "incomplete", "violations") for rule in result[kind]}
            assert {"color-contrast", "target-size", "html-has-lang", "document-title"} <= seen
    assert not wrong, "\n".join(wrong)
