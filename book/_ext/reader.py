"""What the pages owe their readers and no library gives them.

Sphinx writes the pages; `finish` then goes over each file once: icons without the 1.5 MB script that draws them,
pictures that know their size and wait until they are needed, tables that can be scrolled by keyboard, the minutes a
page takes, scripts that do not hold up the text, and last a content security policy that allows nothing from
elsewhere. `describe` gives each page its description and its card for social networks, `EnglishAndChinese` the search
its parts of Chinese words.
"""

import base64
import functools
import hashlib
import html
import math
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup, NavigableString, Tag
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

COVER = "_static/mnist-result.png"
WORDS_A_MINUTE = 220
HAN = re.compile(r"([\u3400-\u9fff][\u3000-\u9fff\uff00-\uffef]*)")
# The theme's own script comes at the end of the page; until then a dark page would be drawn in white.
EARLY_THEME = """
    if (document.documentElement.dataset.theme === "auto")
      document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
"""
# Nothing from elsewhere. The default is not 'none', since Firefox fetches the page behind `rel=next` under it.
POLICY = (
    "default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; frame-src 'none'; base-uri 'none'; form-action 'self'"
)
NOT_FOUND = (
    "<h1>This page does not exist</h1><p>The address is wrong, or the page has moved. All pages are in the menu, "
    'the <a href="{home}">first page</a> lists the chapters, and the '
    '<a href="search.html">search</a> looks through all of them.</p>'
)
ENTRANCE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>{tags}<meta http-equiv="refresh" content="0; url={home}"/></head>
<body><main><h1>{title}</h1><p><a href="{home}">Open the book</a></p></main></body></html>
"""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_search_language(EnglishAndChinese)
    app.connect("html-page-context", describe)
    app.connect("html-collect-pages", not_found)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class EnglishAndChinese(SearchEnglish):
    """The index of the search, with the parts of Chinese words: for two letters, the search looks for whole words."""

    def split(self, input: str) -> list[str]:
        """Words, and the neighbours within a Chinese one."""
        words = super().split(input)
        return words + [pair for word in words if HAN.match(word) for pair in map("".join, pairwise(word))]


# --- description and card ----------------------------------------------------------------------------------------


def describe(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Give a page of the contents its description and its card."""
    if doctree is not None:
        title = BeautifulSoup(context["title"], "html.parser").get_text()
        context["metatags"] += card(app, title, first_paragraph(doctree), f"{page}.html")


def card(app: Sphinx, title: str, description: str, page: str) -> str:
    """The meta tags that search engines and social networks read."""
    properties = {
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:title": title,
        "og:description": description,
        "og:url": app.config.html_baseurl + page,
        "og:image": app.config.html_baseurl + COVER,
        "og:image:alt": next(app.env.get_doctree(app.config.root_doc).findall(nodes.image))["alt"],
    }
    names = {"description": description, "twitter:card": "summary_large_image"}
    tags = [("property", *pair) for pair in properties.items()] + [("name", *pair) for pair in names.items()]
    return "".join(f'<meta {kind}="{name}" content="{html.escape(value)}"/>\n' for kind, name, value in tags)


def first_paragraph(doctree: nodes.document, longest: int = 200) -> str:
    """The question that a chapter opens with, or what else stands first; whole words of it."""
    text = " ".join(next(doctree.findall(nodes.paragraph)).astext().split())
    return text if len(text) <= longest else text[:longest].rpartition(" ")[0] + " …"


def not_found(app: Sphinx) -> list[tuple[str, dict, str]]:
    """The page that the server shows for an address that does not exist."""
    home = f"{app.config.root_doc}.html"
    return [
        (
            "404",
            {"title": "Page not found", "body": NOT_FOUND.format(home=home)},
            "page.html",
        )
    ]


# --- the finished pages ------------------------------------------------------------------------------------------


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Go over all written pages, and write the entrance: the address people share leads to the first page."""
    if exception is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    home = app.config.root_doc
    description = first_paragraph(app.env.get_doctree(home))
    tags = card(app, app.config.html_title, description, "")
    entrance = ENTRANCE.format(title=app.config.html_title, tags=tags, home=f"{home}.html")
    (site / "index.html").write_text(entrance, encoding="utf-8")
    base = urlsplit(app.config.html_baseurl).path or "/"
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.parts:
            continue
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        name = path.relative_to(site).with_suffix("").as_posix()
        draw_icons(soup, site)
        if article := soup.find("article"):
            size_images(article, path.parent)
            wrap_tables(article)
            mark_chinese(article)
            if name in app.env.found_docs:
                add_reading_time(article)
        let_scripts_wait(soup, keep_search=name == "search")
        if name == "404":
            make_absolute(soup, base)
        add_policy(soup)
        path.write_text(str(soup), encoding="utf-8")


@functools.cache
def icons(site: Path) -> dict[str, tuple[str, str, str]]:
    """Width, height and outline of each icon in the theme's script; of several styles the last, the solid one."""
    script = (site / "_static" / "scripts" / "fontawesome.js").read_text(encoding="utf-8")
    found = re.findall(r'[,{]"?([a-z0-9-]+)"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]', script)
    return {name: tuple(rest) for name, *rest in found}


def draw_icons(soup: BeautifulSoup, site: Path) -> None:
    """Put each icon into the page as a drawing, and leave out the script that would do it in the browser."""
    for place in soup.select("i[class*=fa-], span[class*=fa-]"):
        name = next(c[3:] for c in place["class"] if c.startswith("fa-") and c not in ("fa-solid", "fa-lg"))
        width, height, outline = icons(site)[name]
        place.name = "svg"
        place.attrs.pop("title", None)
        place["class"] = [*place["class"], "svg-inline--fa"]
        place["aria-hidden"] = "true"
        place["viewBox"] = f"0 0 {width} {height}"
        place.append(soup.new_tag("path", attrs={"fill": "currentColor", "d": outline}))
    for script in soup.select("script[src*='fontawesome.js']"):
        script.decompose()


def size_images(article: Tag, folder: Path) -> None:
    """Say how large each picture is, so that nothing jumps; all but the first are loaded when they come near."""
    images = [image for image in article.find_all("img") if not urlsplit(image["src"]).scheme]
    for number, image in enumerate(images):
        with Image.open(folder / image["src"]) as picture:
            image["width"], image["height"] = picture.size
        if number:
            image["loading"] = "lazy"


def wrap_tables(article: Tag) -> None:
    """Give a table that a cell printed the scrolling box that the theme gives to all others."""
    for table in article.find_all("table"):
        if "pst-scrollable-table-container" not in table.parent.get("class", []):
            table.wrap(Tag(name="div", attrs={"class": "pst-scrollable-table-container"}))


def mark_chinese(article: Tag) -> None:
    """Mark Chinese words as Chinese, so that they are read aloud and drawn as such."""
    for text in article.find_all(string=HAN):
        if text.find_parent(["pre", "script", "style"]):
            continue
        pieces = HAN.split(text)
        for number, piece in enumerate(pieces):
            new = NavigableString(piece)
            text.insert_before(new)
            if number % 2:
                new.wrap(Tag(name="span", attrs={"lang": "zh-Hans"}))
        text.extract()


def add_reading_time(article: Tag) -> None:
    """Say under the title how long the prose takes; code, outputs and formulas are not counted."""
    skipped = "pre, script, style, .cell_output, .math"
    outside = {id(text) for place in article.select(skipped) for text in place.find_all(string=True)}
    words = sum(len(text.split()) for text in article.find_all(string=True) if id(text) not in outside)
    minutes = math.ceil(words / WORDS_A_MINUTE)
    line = Tag(name="p", attrs={"class": "reading-time"})
    line.string = f"About {minutes} minute{'s' if minutes > 1 else ''} to read"
    article.find("h1").insert_after(line)


def let_scripts_wait(soup: BeautifulSoup, keep_search: bool) -> None:
    """Move the head's scripts to the end of the body, in their order; only the choice of light or dark stays.

    The index of the search is loaded where it is used, on the page of the search.
    """
    for script in soup.head.find_all("script") if soup.head else []:
        if "dataset.theme" in script.get_text():
            script.string = script.get_text() + EARLY_THEME
            continue
        script.extract()
        search = ("searchtools.js", "language_data.js", "searchindex.js")
        if keep_search or not script.get("src", "").endswith(search):
            soup.body.append(script)
    for link in soup.select("link[rel=preload][as=script]"):
        link.decompose()


def make_absolute(soup: BeautifulSoup, base: str) -> None:
    """The server shows this page at any depth, so no address in it may be relative."""
    for key in ("href", "src", "action"):
        for tag in soup.find_all(attrs={key: True}):
            if not tag[key].startswith("#"):
                tag[key] = urljoin(base, tag[key])
    soup.html["data-content_root"] = base


def add_policy(soup: BeautifulSoup) -> None:
    """Allow the site's own files and the scripts that stand in this page, each by its hash, and nothing else."""
    for tag in soup.find_all(onclick=True):
        del tag["onclick"]  # book.js listens instead
    kinds = ("", "module", "text/javascript")
    inline = {s.decode_contents() for s in soup.find_all("script", src=False) if s.get("type", "") in kinds}
    hashes = sorted(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    content = POLICY.format(hashes=" ".join(f"'sha256-{value}'" for value in hashes)).replace(" ;", ";")
    policy = soup.new_tag("meta", attrs={"http-equiv": "Content-Security-Policy", "content": content})
    soup.head.find("meta", charset=True).insert_after(policy)  # browsers look for the charset in the first 1,024 bytes
