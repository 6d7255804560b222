"""The built pages: as files, and in a headless Chromium that can reach nothing but this machine."""

import re
from urllib.parse import unquote, urlsplit

import pytest

from tests.pages import CHAPTERS, DESKTOP, PAGES, PHONE, all_pages, parsed, wait_until
from tools.serve_site import SITE
from tools.set_repository import current_repository

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


# --- the files ---------------------------------------------------------------------------------------------------


def test_every_page_of_the_contents_is_built():
    assert set(PAGES) <= set(all_pages())


def test_no_page_loads_anything_from_elsewhere():
    loading = [("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")]
    for page in all_pages():
        addresses = [tag[key] for name, key in loading for tag in parsed(page).find_all(name, **{key: True})]
        for link in parsed(page).find_all("link", href=True):
            if not {"canonical", "author", "license"} & set(link.get("rel", [])):
                addresses.append(link["href"])
        for style in parsed(page).find_all("style"):
            addresses += re.findall(r"url\(([^)]+)\)|@import", style.text)
        outside = [a for a in addresses if re.match(r"""["']?(https?:)?//""", a)]
        assert not outside, f"{page} loads {outside}"


def test_no_stylesheet_loads_anything_from_elsewhere():
    for path in SITE.rglob("*.css"):
        found = re.findall(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')]+)""", path.read_text(encoding="utf-8"))
        assert not found, f"{path.name} loads {found}"


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_site_lead_somewhere(page):
    for link in parsed(page).find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        target = (SITE / page).parent / unquote(parts.path) if parts.path else SITE / page
        assert target.is_file(), f"{link['href']} leads nowhere"
        # The theme's menus may point at "#", the top.
        if parts.fragment and target.suffix == ".html":
            name = str(target.resolve().relative_to(SITE.resolve()))
            anchor = unquote(parts.fragment)
            assert parsed(name).find(id=anchor) or anchor == "", f"{link['href']} has no such place"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_have_alt_text(page):
    for image in parsed(page).find("article").find_all("img"):
        alt = image.get("alt", "")
        assert len(alt) > 20 and not alt.endswith((".png", ".svg", ".jpg")), f"{image.get('src')}: {alt!r}"


@pytest.mark.parametrize("document", CHAPTERS)
def test_chapters_can_be_opened_in_colab(document):
    owner, name = current_repository()
    address = f"https://colab.research.google.com/github/{owner}/{name}/blob/main/{document}.ipynb"
    assert parsed(f"{document}.html").find("a", href=address), f"no link to {address}"


@pytest.mark.parametrize("document", CHAPTERS)
def test_chapters_show_their_results(document):
    page = parsed(f"{document}.html")
    assert len(page.select("div.cell_output")) >= 3
    assert page.select("div.cell_output img")


def test_the_api_page_documents_every_public_name():
    import kdutils

    text = {tag["id"] for tag in parsed("book/api.html").find_all(id=True)}
    missing = [
        name for name in kdutils.__all__ if not any(re.fullmatch(rf"kdutils\.(\w+\.)*{name}", id_) for id_ in text)
    ]
    assert not missing


# --- in a browser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_fits_and_loads_cleanly(visit, page_name, viewport, scheme):
    page = visit(page_name, viewport, scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.clientWidth") == viewport["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], "the page scrolls sideways"
    assert page.evaluate(CUT_OFF, viewport["width"]) == []
    assert page.evaluate(BROKEN_PICTURES) == []


# What sticks out and can not be reached: on the left always, on the right if nothing around it scrolls.
CUT_OFF = """width => [...document.querySelectorAll('article *')].filter(element => {
  const box = element.getBoundingClientRect();
  if (box.width === 0 || box.height === 0 || element.closest('mjx-assistive-mml, .visually-hidden')) return false;
  if (box.left < -1) return true;
  if (box.right <= width + 1) return false;
  for (let up = element; up && up.tagName !== 'ARTICLE'; up = up.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)) return false;
  return true;
}).map(element => element.outerHTML.slice(0, 120))"""

BROKEN_PICTURES = """[...document.querySelectorAll('article img')]
  .filter(image => image.loading !== 'lazy' && image.naturalWidth === 0).map(image => image.src)"""


@pytest.mark.parametrize("page_name", PAGES)
def test_mathematics_is_rendered(visit, page_name):
    page = visit(page_name)
    assert page.evaluate(UNRENDERED) == []
    assert page.evaluate("[...document.querySelectorAll('mjx-merror')].map(e => e.outerHTML)") == []
    assert page.evaluate(RAW_DOLLARS) == []


UNRENDERED = """[...document.querySelectorAll('article .math')]
  .filter(element => !element.querySelector('mjx-container')).map(element => element.outerHTML)"""

# Formulas that never became one: dollars left in running text, outside of code.
RAW_DOLLARS = r"""[...document.querySelectorAll('article p, article li, article td, article th, article summary')]
  .map(element => {
    const copy = element.cloneNode(true);
    copy.querySelectorAll('pre, code, mjx-container').forEach(inner => inner.remove());
    return copy.textContent;
  }).filter(text => /\$\$|\$[^$\n]+\$|\\\(|\\\[/.test(text))"""


@pytest.mark.parametrize("document", [d for d in CHAPTERS if "/03" in d] or ["book/03-kl-loss"])
def test_the_chapter_on_the_loss_has_mathematics(visit, document):
    assert visit(f"{document}.html").locator("mjx-container").count() >= 10


def test_search_finds_pages(visit):
    page = visit(PAGES[0])
    page.keyboard.press("Control+k")
    field = page.locator("input[name=q]:visible").first
    field.fill("temperature")
    field.press("Enter")
    page.wait_for_selector("#search-results li", timeout=10_000)
    links = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any("02-soft-targets" in link for link in links), links


def test_search_says_when_it_finds_nothing(visit):
    page = visit("search.html?q=xylophone")
    wait_until(page, "/did not match|no results/i.test(document.querySelector('#search-results').innerText)")
    assert page.locator("#search-results li").count() == 0


def test_theme_can_be_switched(visit):
    page = visit(PAGES[0], scheme="light")
    button = page.locator(".theme-switch-button:visible").first
    seen = set()
    for _ in range(3):
        button.click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}
