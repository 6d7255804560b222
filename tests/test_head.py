"""What a page tells browsers, search engines and readers: its policy, its description, its way on, its length."""

import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image, ImageChops

from tests.pages import CHAPTERS, PAGES, all_pages, parsed
from tools.serve_site import SITE, base_path, serve
from tools.set_repository import current_repository

OWNER, NAME = current_repository()
PUBLISHED = f"https://{OWNER}.github.io/{NAME}/"
ROOT = SITE.parents[1]
COVER = PUBLISHED + "_static/mnist-result.png"

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


def test_scripts_that_a_cell_leaves_in_a_page_run(browser, tmp_path, extension):
    """Each script in the page by its hash, a file of the site as such; a script that came later would not run."""
    soup = BeautifulSoup(CELL, "html.parser")
    extension("reader").add_policy(soup)
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
    assert picture_on_card(page).is_file()


def picture_on_card(page: str) -> Path:
    address = meta(page, "og:image")
    assert address.startswith(PUBLISHED)
    return SITE / address.removeprefix(PUBLISHED)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_card_is_its_opening_picture(chapter, extension):
    page = f"{chapter}.html"
    (opening,) = parsed(page).select("figure.opening img")
    assert meta(page, "og:image:alt") == opening["alt"]
    drawn = extension("cards").draw_card(
        (SITE / page).parent / opening["src"], meta(page, "og:title"), meta(page, "og:site_name")
    )
    with Image.open(picture_on_card(page)) as card:
        assert card.size == (1200, 630) == tuple(int(meta(page, f"og:image:{side}")) for side in ("width", "height"))
        assert ImageChops.difference(card.convert("RGB"), drawn).getbbox() is None
    assert "cards/" not in str(parsed(page).body), "the card is for others; the page does not load it"


def test_other_pages_have_the_cover_on_their_card():
    chapters = {f"{chapter}.html" for chapter in CHAPTERS}
    assert {meta(page, "og:image") for page in PAGES if page not in chapters} == {COVER}


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (3000, 1000)], ids=["wide", "high", "large"])
def test_a_card_shows_the_whole_picture_below_the_whole_title(extension, tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "red.png")
    card = extension("cards").draw_card(tmp_path / "red.png", "A long title of many words. " * 3, "The book")
    red = ImageChops.multiply(card.getchannel("R"), ImageChops.invert(card.getchannel("G")))
    left, top, right, bottom = red.point(lambda value: 255 * (value > 200)).getbbox()
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.03)
    assert min(left, 1200 - right, 630 - bottom) > 20, "a network may cut the edge"
    assert right - left > 900 or bottom - top > 300, "as large as it fits"
    title = ImageChops.invert(card.convert("L")).crop((0, 0, 1200, top)).getbbox()
    assert title[0] > 20 and title[2] < 1180 and title[3] < top


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


# --- how to cite --------------------------------------------------------------------------------------------------


def test_the_first_page_says_how_to_cite_as_the_citation_file_does():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    section = parsed(PAGES[0]).find(id="how-to-cite")
    entry = dict(re.findall(r"^  (\w+) = \{(.*)\},$", section.find("pre").get_text(), re.MULTILINE))
    assert entry.pop("year") in section.find("p").get_text()
    (author,) = (f"{{{author['name']}}}" for author in cff["authors"])
    shared = {name: cff[name] for name in ("version", "license", "url")}
    assert entry == {"author": author, "title": f"{{{cff['title']}}}"} | shared
    sentence = section.find("p")
    assert sentence.em.get_text() == cff["title"]
    assert sentence.a["href"] == sentence.a.get_text() == cff["url"]
    assert f"(Version {cff['version']})" in sentence.get_text()


def test_people_are_cited_by_family_name(extension):
    people = [{"family-names": "Curie", "given-names": "Marie Anna"}, {"family-names": "Laozi"}, {"name": "A, B"}]
    cff = {"authors": people, "title": "On *it*", "version": "1", "license": "MIT", "url": "https://example.org"}
    citation = extension("citation")
    assert citation.apa(cff, "1903")[0] == "Curie, M. A., Laozi, & A, B. (1903). "
    assert "author = {Curie, Marie Anna and Laozi and {A, B}}" in citation.bibtex(cff, "1903")


# --- addresses that can be shared ---------------------------------------------------------------------------------


def links_beside_headings(page: str, level: str, start: str) -> dict[str, str]:
    """From the heading to where the link beside it leads."""
    found = {}
    for link in parsed(page).select(f"article {level} > .headerlink"):
        target = link["href"].removeprefix("#")
        if target.startswith(start):
            assert parsed(page).find(id=target).find_next(["h1", "h2", "h3"]) is link.parent
            found[link.parent.get_text().removesuffix("#")] = target
    return found


def test_each_room_of_the_museum_has_an_address_of_its_own():
    rooms = links_beside_headings("book/05-bug-museum.html", "h2", "room-")
    assert [heading.partition(".")[0] for heading in rooms] == [f"Room {number}" for number in range(1, 17)]
    assert list(rooms.values()) == [f"room-{number}" for number in range(1, 17)]


def test_each_question_has_an_address_of_its_own():
    """One that stands in the source, so that a question may be worded anew."""
    questions = [heading.get_text().removesuffix("#") for heading in parsed("book/faq.html").select("article h3")]
    addresses = links_beside_headings("book/faq.html", "h3", "faq-")
    assert list(addresses) == questions and len(questions) > 35
    assert len(set(addresses.values())) == len(questions)


@pytest.mark.parametrize("page_name, place", [("book/05-bug-museum.html", "room-7"), ("book/faq.html", "faq-mse")])
def test_the_link_beside_a_heading_shows_at_the_pointer_and_at_the_keyboard(visit, page_name, place):
    page = visit(f"{page_name}#{place}")
    link = page.locator(f".headerlink[href='#{place}']")
    top = link.locator("xpath=..").evaluate("heading => heading.getBoundingClientRect().top")
    assert 0 <= top < 300, "the address leads to its heading"
    opacity = "link => getComputedStyle(link).opacity"
    page.evaluate("document.querySelectorAll('*').forEach(element => { element.style.transition = 'none' })")
    page.mouse.move(0, 0)
    assert link.evaluate(opacity) == "0"
    link.locator("xpath=..").hover()
    assert link.evaluate(opacity) == "1"
    page.mouse.move(0, 0)
    link.focus()
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"#{place}"
    assert link.evaluate(opacity) == "1"


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


@pytest.mark.parametrize("document", CHAPTERS)
def test_a_chapter_says_how_long_it_takes_to_read(document):
    article = BeautifulSoup(str(parsed(f"{document}.html").find("article")), "html.parser")
    line = article.find("h1").find_next_sibling()
    assert line["class"] == ["reading-time"]
    form = r"Run in Colab · Download · (\d+) minutes to read, \d+ to run on two CPU cores"
    minutes = int(re.fullmatch(form, line.get_text())[1])
    for tag in article.select("figure.opening, .kd-still"):
        tag.decompose()
    looks, formulas = len(article.select("img, table, .kd-play")), len(article.select("div.math"))
    for tag in article.select("pre, script, style, .cell_output, div.math, .reading-time"):
        tag.decompose()
    words = len(article.get_text(" ").split())
    assert words / 220 < minutes, "words alone"
    assert (minutes - 1.5) * 60 <= 60 * words / 220 + 12 * looks + 10 * formulas <= (minutes + 1.5) * 60


def test_a_page_to_look_things_up_in_does_not():
    assert {page for page in PAGES if parsed(page).select(".reading-time")} == {f"{name}.html" for name in CHAPTERS}
