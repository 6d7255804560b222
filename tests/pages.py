"""Which pages the book has, as notebooks and on the built site, and what stands in them."""

import functools
import re
import time

from bs4 import BeautifulSoup

from tools.serve_site import ROOT, SITE, documents

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
# A translation stands beside its chapter, as 08-speed.de.ipynb beside 08-speed.ipynb.
ORIGINALS = [path for path in NOTEBOOKS if "." not in path.stem]
PAGES = [f"{name}.html" for name in documents()]
CHAPTERS = [name for name in documents() if re.match(r"book/\d\d[a-z]?-", name)]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


@functools.cache
def parsed(page: str) -> BeautifulSoup:
    return BeautifulSoup((SITE / page).read_text(encoding="utf-8"), "html.parser")


def all_pages() -> list[str]:
    return sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if "_static" not in path.parts)


def tab_to(page, selector: str) -> None:
    """Press Tab until the element has the focus, as somebody without a mouse does."""
    for _ in range(400):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never reaches {selector}")


def wait_until(page, expression: str, seconds: float = 30) -> None:
    """Until an expression is true in the page.

    Playwright's own `wait_for_function` asks again by `eval` inside the page, which the policy forbids.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(f"Boolean({expression})"):
        assert time.monotonic() < end, f"not within {seconds} s: {expression}"
        page.wait_for_timeout(50)


def wait_for_mathematics(page) -> None:
    if page.locator(".math").count():
        wait_until(page, "window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise.then(() => true)")
