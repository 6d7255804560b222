"""What a page tells browsers, search engines and readers: its policy, its description, its way on, its length."""

import http.server
import importlib.util
import json
import re
import threading
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from tests.pages import CHAPTERS, PAGES, all_pages, parsed
from tools.serve_site import SITE, base_path, serve
from tools.set_repository import current_repository

OWNER, NAME = current_repository()
PUBLISHED = f"https://{OWNER}.github.io/{NAME}/"

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]


# --- the policy --------------------------------------------------------------------------------------------------


def policy(page: str) -> dict[str, list[str]]:
    """The page's content security policy, by directive."""
    (meta,) = parsed(page).find_all("meta", attrs={"http-equiv": "Content-Security-Policy"})
    parts = [part.split() for part in meta["content"].split(";")]
    return {name: sources for name, *sources in parts}


@pytest.mark.parametrize("page", all_pages() or PAGES)
def test_every_page_has_a_policy_that_allows_nothing_from_elsewhere(page):
    rules = policy(page)
    assert rules["default-src"] == ["'self'"], "Firefox fetches the next page in advance, and asks this rule"
    assert rules["object-src"] == rules["frame-src"] == ["'none'"]
    for name, sources in rules.items():
        for source in sources:
            assert source in ("'none'", "'self'", "data:", "'unsafe-inline'") or source.startswith("'sha256-"), source
            assert source != "data:" or name == "img-src"
            assert source != "'unsafe-inline'" or name == "style-src"
    assert {"base-uri", "form-action"} <= set(rules), "default-src does not stand in for these two"


@pytest.mark.parametrize("page", all_pages() or PAGES)
def test_the_policy_comes_before_what_it_governs(page):
    head = [tag for tag in parsed(page).head.find_all(True) if tag.name in ("meta", "script", "link", "style")]
    names = [tag.get("http-equiv") for tag in head]
    place = names.index("Content-Security-Policy")
    assert all(tag.name == "meta" for tag in head[:place])
    raw = (SITE / page).read_bytes()
    assert b"charset" in raw[:1024], "browsers look for it there only"


@pytest.mark.parametrize("page", all_pages() or PAGES)
def test_no_handler_stands_in_the_html(page):
    """The policy would silently switch it off."""
    handlers = [key for tag in parsed(page).find_all(True) for key in tag.attrs if key.startswith("on")]
    assert not handlers


@pytest.fixture
def elsewhere():
    """Another machine, as far as a browser can tell: another port. Gives its address and what it was asked for."""
    asked = []

    class Outside(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Outside) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


SMUGGLE = """async outside => {
  const refused = [];
  addEventListener('securitypolicyviolation', event => refused.push(event.effectiveDirective));
  for (const name of ['script', 'img', 'iframe'])
    document.body.append(Object.assign(document.createElement(name), {src: `${outside}/${name}`}));
  document.head.append(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: `${outside}/style`}));
  document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.smuggled = true'}));
  let fetched = true;
  try { await fetch(`${outside}/fetch`) } catch { fetched = false }
  await new Promise(done => setTimeout(done, 300));
  const own = await fetch('../searchindex.js').then(answer => answer.ok);
  return {refused: refused.sort(), fetched, smuggled: window.smuggled === true, own};
}"""


def test_the_policy_refuses_what_comes_from_elsewhere(browser, address, elsewhere):
    outside, asked = elsewhere
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/{CHAPTERS[0]}.html")
    answer = page.evaluate(SMUGGLE, outside)
    refused = ["connect-src", "frame-src", "img-src", "script-src-elem", "script-src-elem", "style-src-elem"]
    assert answer == {"refused": refused, "fetched": False, "smuggled": False, "own": True}
    assert asked == []
    context.close()


def test_without_the_policy_all_of_it_would_be_loaded(browser, address, elsewhere):
    """Or the test above would prove nothing."""
    outside, asked = elsewhere
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"{address}/{CHAPTERS[0]}.html")
    answer = page.evaluate(SMUGGLE, outside)
    assert answer == {"refused": [], "fetched": True, "smuggled": True, "own": True}
    assert {"/script", "/img", "/iframe", "/style", "/fetch"} <= set(asked)
    context.close()


def test_the_pages_own_scripts_run(visit):
    """Those in the page too: the theme's choice of colours, and a module or data that a cell may have left there."""
    page = visit(CHAPTERS[0] + ".html", scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("DOCUMENTATION_OPTIONS.pagename") == CHAPTERS[0]
    assert page.evaluate("typeof toggleHintShow") == "string"
    assert page.locator("button.copybtn").count() > 0


CELL = """<!DOCTYPE html><html><head><meta charset="utf-8"></head><body><style>p { color: red }</style><p>&amp;</p>
<script>window.classic = 1 < 2 && "&amp;".length;</script>
<script type="module">window.module = JSON.parse(document.querySelector("#data").text).n</script>
<script type="application/json" id="data">{"n": 7, "text": "<b>"}</script>
<script type="module" src="own.js"></script></body></html>"""


def test_scripts_that_a_cell_leaves_in_a_page_run(browser, tmp_path):
    """Each script in the page by its hash, a file of the site as such; a script that came later would not run."""
    spec = importlib.util.spec_from_file_location("reader", SITE.parents[1] / "book" / "_ext" / "reader.py")
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    soup = BeautifulSoup(CELL, "html.parser")
    reader.add_policy(soup)
    (tmp_path / "page.html").write_text(str(soup))
    (tmp_path / "own.js").write_text("window.own = await fetch('own.js').then(answer => answer.ok)")
    with serve(tmp_path) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/page.html", wait_until="networkidle")
        assert page.evaluate("[window.classic, window.module, window.own]") == [5, 7, True]
        assert page.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(255, 0, 0)"
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_dark_page_is_dark_before_any_script_has_come(browser, address, scheme):
    context = browser.new_context(color_scheme=scheme)
    context.route("**/*.js*", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{address}/{CHAPTERS[0]}.html")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    context.close()


def test_buttons_work_without_handlers_in_the_html(visit):
    page = visit(CHAPTERS[0] + ".html")
    page.evaluate("window.print = () => { window.printed = true }")
    page.evaluate("window.toggleFullScreen = () => { window.full = true }")
    page.locator(".dropdown-download-buttons > button").click()
    page.locator(".btn-download-pdf-button").click()
    page.locator(".btn-fullscreen-button").click()
    assert page.evaluate("[window.printed, window.full]") == [True, True]


def test_pages_also_work_as_files(browser):
    """Whoever built the book may open _build/html without a server."""
    context = browser.new_context()
    page = context.new_page()
    wrong = []
    page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    page.goto((SITE / f"{CHAPTERS[1]}.html").as_uri(), wait_until="networkidle")
    rendered = page.locator("mjx-container").count()
    context.close()
    assert rendered > 0
    assert not wrong


# --- description, card, sitemap ----------------------------------------------------------------------------------


def meta(page: str, name: str) -> str:
    (tag,) = parsed(page).head.find_all("meta", attrs={"name": name}) + parsed(page).head.find_all(
        "meta", attrs={"property": name}
    )
    return tag["content"]


@pytest.mark.parametrize("page", PAGES)
def test_description_and_card(page):
    description = meta(page, "description")
    assert 30 < len(description) <= 203
    assert meta(page, "og:description") == description
    first = " ".join(parsed(page).find("article").find("p", class_=lambda c: c != "reading-time").get_text().split())
    assert first.startswith(description.removesuffix(" …")[:60]), "it is the page's first paragraph"
    assert meta(page, "og:title") in parsed(page).title.get_text()
    assert meta(page, "og:url") == PUBLISHED + page
    assert meta(page, "twitter:card") == "summary_large_image"
    assert len(meta(page, "og:image:alt")) > 50
    picture = meta(page, "og:image")
    assert picture.startswith(PUBLISHED)
    assert (SITE / picture.removeprefix(PUBLISHED)).is_file()


def test_descriptions_differ():
    assert len({meta(page, "description") for page in PAGES}) == len(PAGES)


def test_chapters_are_described_by_their_question():
    for chapter in CHAPTERS:
        notebook = json.loads((SITE.parents[1] / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        question = re.search(r"^\*(.+?)\*$", "".join(notebook["cells"][0]["source"]), re.MULTILINE)[1]
        description = meta(f"{chapter}.html", "description").replace("’", "'").removesuffix(" …")
        assert question.replace("’", "'").startswith(description)


def test_the_sitemap_lists_the_pages_of_the_contents():
    tree = ElementTree.parse(SITE / "sitemap.xml")
    places = [place.text for place in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert sorted(places) == sorted(PUBLISHED + page for page in PAGES)


def test_the_entrance_leads_to_the_first_page(visit):
    assert meta("index.html", "description")
    page = visit("index.html")
    page.wait_for_url(f"**/{PAGES[0]}")


# --- a page that does not exist ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["gone.html", "a/b/c/gone", "book/"])
def test_a_missing_page_is_answered_with_help_at_any_depth(browser, address, path):
    context = browser.new_context()
    page = context.new_page()
    failed = []
    page.on("response", lambda answer: answer.status >= 400 and failed.append(urlsplit(answer.url).path))
    answer = page.goto(f"{address}/{path}", wait_until="networkidle")
    if path == "book/":
        assert answer.status == 200  # a folder with a first page of its own
    else:
        assert answer.status == 404
        assert failed == [urlsplit(f"{address}/{path}").path], "the page itself is missing, all else is there"
        assert page.locator("article h1").inner_text() == "This page does not exist"
        assert page.evaluate("getComputedStyle(document.querySelector('.bd-sidebar-primary')).position") == "sticky"
        page.locator("article a", has_text="search").click()
        page.wait_for_url(f"{address}/search.html")
        page.go_back()
        page.locator(".bd-sidebar-primary a", has_text="Glossary").click()
        page.wait_for_url(f"{address}/book/glossary.html")
    context.close()


def test_the_missing_page_holds_no_relative_address():
    for key in ("href", "src", "action"):
        for tag in parsed("404.html").find_all(attrs={key: True}):
            assert tag[key].startswith((base_path(), "https://", "#")), tag[key]


# --- the way on, and how long it takes ---------------------------------------------------------------------------


def test_previous_and_next_follow_the_contents():
    for number, page in enumerate(PAGES):
        article = parsed(page).select_one(".prev-next-footer")
        before, after = article.select_one("a.left-prev"), article.select_one("a.right-next")
        for link, other in ((before, number - 1), (after, number + 1)):
            if 0 <= other < len(PAGES):
                target = (SITE / page).parent / link["href"]
                assert target.resolve() == (SITE / PAGES[other]).resolve()
                assert link.find(class_="prev-next-title").get_text(strip=True)
            else:
                assert link is None


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_how_long_it_takes_to_read(page):
    article = BeautifulSoup(str(parsed(page).find("article")), "html.parser")
    line = article.find("h1").find_next_sibling()
    assert line["class"] == ["reading-time"]
    minutes = int(re.fullmatch(r"About (\d+) minutes? to read", line.get_text())[1])
    for tag in article.select("pre, script, style, .cell_output, .math, .reading-time"):
        tag.decompose()
    words = len(article.get_text(" ").split())
    assert (minutes - 1.2) * 220 <= words <= (minutes + 0.2) * 220
