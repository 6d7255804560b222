"""What the pages owe their readers and no library gives them.

Sphinx writes the pages; `finish` then goes over each file once: icons without the 1.5 MB script that draws them,
pictures that know their size and wait until they are needed, tables that can be scrolled by keyboard, folded code under
a line that says what it does, where to run a page and how long it takes, scripts that do not hold up the text, the one
for formulas only where there are some, and last a content security policy that allows nothing from elsewhere.
`describe` gives each page its description and its card for social networks, where `share_opening_picture` puts a
chapter's own picture; `sign` writes its foot; `EnglishAndChinese` gives the search its parts of Chinese words.
"""

import base64
import copy
import functools
import hashlib
import html
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup, NavigableString, Tag
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.search.en import SearchEnglish

from cards import draw_card
from citation import CiteThisBook
from meaning import underline_meanings
from predict import add_controls

COVER = "_static/mnist-result.png"
PLAIN_DPI = 110  # at which a picture is shown at its size in inches; kdutils.plots draws at twice as many
TITLE = "# @title "  # the first line of a folded cell; Colab shows it in place of the code
WORDS_A_MINUTE = 220
SECONDS_A_PICTURE = 12  # to look at a figure or a table, and see what it says
SECONDS_A_FORMULA = 10  # to follow a line of mathematics that stands by itself
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
    app.add_directive("cite-this-book", CiteThisBook)
    app.add_search_language(EnglishAndChinese)
    app.connect("config-inited", order_search_results)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", sign)
    app.connect("html-collect-pages", not_found)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def order_search_results(app: Sphinx, config: Config) -> None:
    """Let the search use the scores beside this file; Sphinx would look for a relative path where it was started."""
    config.html_search_scorer = str(Path(__file__).with_name("scorer.js"))


class EnglishAndChinese(SearchEnglish):
    """The index of the search, with the parts of Chinese words: for two letters, the search looks for whole words."""

    def split(self, input: str) -> list[str]:
        """Words, and the neighbours within a Chinese one."""
        words = super().split(input)
        return words + [pair for word in words if HAN.match(word) for pair in map("".join, pairwise(word))]


# --- description, card and foot -------------------------------------------------------------------------------------


def sign(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Write into the foot of a page which version it is, on what terms, how to cite it and where to report an error."""
    cff = yaml.safe_load((Path(app.srcdir) / "CITATION.cff").read_text(encoding="utf-8"))
    released = f" of {cff['date-released']}" if "date-released" in cff else ""
    home = context["pathto"](app.config.root_doc).removesuffix("#")  # which it is on the first page itself
    context["theme_extra_footer"] = (
        f"Version {cff['version']}{released}, {cff['license']} licence · "
        f'<a href="{home}#how-to-cite">How to cite</a> · '
        f'<a href="{cff["repository-code"]}/issues">Report an error</a>'
    )


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
            name_folded_code(article)
            gather_set_up(article)
            number_figures(article, name)
            open_with_picture(article)
            size_images(article, path.parent)
            share_opening_picture(soup, path, site)
            point_at_lasting_ids(article)
            wrap_tables(article)
            mark_chinese(article)
            if name in app.env.found_docs:
                add_badges(soup, article, minutes_to_run(app, name))
            add_controls(article, Path(app.srcdir) / f"{name}.ipynb")
            underline_meanings(article)
        if not soup.select_one(".math"):
            for script in soup.select("script[src*='/mathjax/']"):
                script.decompose()
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
        # From a picture's size in its notebook Sphinx makes a style that no narrow screen can overrule, and a link.
        image.attrs.pop("style", None)
        if "image-reference" in image.parent.get("class", []):
            image.parent.unwrap()
        path = folder / image["src"]
        with Image.open(path) as picture:
            # The pixels of a chapter's picture lie denser than those of a plain screen, for the sharper ones.
            dense = max(1, picture.info.get("dpi", (0, 0))[0] / PLAIN_DPI)
            image["width"], image["height"] = (int(length / dense) for length in picture.size)
            if dense > 1 and picture.mode != "P":
                save_with_palette(picture, path)
        if number:
            image["loading"] = "lazy"


def save_with_palette(picture: Image.Image, path: Path) -> None:
    """Save a chart with 256 colours: nobody sees the difference, and the file has a third of the bytes."""
    few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True, dpi=picture.info["dpi"])


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


def name_folded_code(article: Tag) -> None:
    """Show the title of a folded cell, its first line, while the code is folded; until here it says only "code"."""
    for details in article.select("details.hide.above-input"):
        comment = details.select_one("pre .c1")
        title = comment.get_text().removeprefix(TITLE)
        if isinstance(comment.next_sibling, NavigableString):
            comment.next_sibling.replace_with(comment.next_sibling.lstrip("\n"))
        comment.extract()
        details.summary.replace_with(summary_of_code(title))
        details["class"] = ["folded-code"]


def summary_of_code(title: str) -> Tag:
    """The line under which code is folded."""
    line, mark = Tag(name="summary"), Tag(name="span", attrs={"class": "code-mark"})
    mark.string = "Code"
    line.extend([mark, f" {title}"])
    return line


def gather_set_up(article: Tag) -> None:
    """Fold neighbouring cells that only set a page up, and show nothing, under one line."""
    group: Tag | None = None
    for cell in article.select("div.cell.container"):
        folded = cell.find("details", recursive=False)
        title = folded.summary.get_text() if folded else ""
        if not title.startswith("Code Set up") or cell.find(class_="cell_output"):
            group = None
            continue
        neighbour = cell.find_previous_sibling()
        if group is None or neighbour is not group:
            group = Tag(name="details", attrs={"class": "set-up"})
            cell.wrap(group)
            group.insert(0, summary_of_code("Set up this page"))
        else:
            group.append(cell.extract())


def number_figures(article: Tag, name: str) -> None:
    """Number the figures that a chapter draws, as "Figure 4.2": a number to speak of them by, and an address."""
    chapter = Path(name).name.partition("-")[0].lstrip("0")
    for number, figure in enumerate(article.select("div.cell figure"), start=1):
        figure["id"] = f"figure-{chapter}-{number}"
        figure.figcaption.select_one(".caption-number").string = f"Figure {chapter}.{number}. "
        figure.figcaption.select_one(".headerlink")["href"] = f"#figure-{chapter}-{number}"


def open_with_picture(article: Tag) -> None:
    """Show the picture of the cell tagged `opening` under the chapter's first sentence too."""
    figure = article.select_one("div.cell.tag_opening figure")
    if figure is None:
        return
    first = copy.copy(figure)
    first["id"], first["class"] = "opening", ["opening"]
    for part in first.select(".caption-number, .headerlink"):
        part.decompose()
    article.find("p", class_=lambda name: name != "reading-time").insert_after(first)


def share_opening_picture(soup: BeautifulSoup, path: Path, site: Path) -> None:
    """Put the picture that a chapter opens with on its card, where other pages have the cover."""
    picture = soup.select_one("article figure.opening img")
    if picture is None:
        return
    said = {tag["property"]: tag for tag in soup.head.find_all("meta", property=True)}
    drawn = draw_card(path.parent / picture["src"], said["og:title"]["content"], said["og:site_name"]["content"])
    name = f"_static/cards/{path.stem}.png"
    (site / name).parent.mkdir(exist_ok=True)
    drawn.save(site / name, optimize=True)
    said["og:image"]["content"] = said["og:image"]["content"].replace(COVER, name)
    said["og:image:alt"]["content"] = picture["alt"]
    for kind, length in zip(("width", "height"), drawn.size, strict=True):
        said["og:image"].insert_after(soup.new_tag("meta", property=f"og:image:{kind}", content=str(length)))


def point_at_lasting_ids(article: Tag) -> None:
    """Let the link beside a heading lead to the id that stays when the heading is reworded, where there is one.

    In a Markdown page such an id is written above the heading, as `(faq-nan)=`. Colab would print such a line, so the
    rooms of the museum, which a notebook holds, get theirs here, from their number.
    """
    for link in article.select(":is(h2, h3) > .headerlink"):
        heading = link.parent
        if room := re.match(r"Room (\d+)\.", heading.get_text()):
            heading.insert_before(Tag(name="span", attrs={"id": f"room-{room[1]}"}))
        lasting = heading.find_previous_sibling()
        if lasting is not None and lasting.name == "span" and lasting.get("id"):
            link["href"] = f"#{lasting['id']}"
            link["class"] = ["headerlink", "lasting"]


def minutes_to_run(app: Sphinx, name: str) -> float | None:
    """Minutes that a chapter took on two CPU cores; None for other pages."""
    times = json.loads((Path(app.srcdir) / "book" / "results" / "chapter-times.json").read_text(encoding="utf-8"))
    return times.get(Path(name).name, {}).get("minutes")


def add_badges(soup: BeautifulSoup, article: Tag, minutes: float | None) -> None:
    """Say under a chapter's title where to run it, and how long it takes; the other pages are looked things up in."""
    if minutes is None:
        return
    reading = math.ceil(seconds_to_read(article) / 60)
    line = Tag(name="p", attrs={"class": "reading-time"})
    for text, button in (("Run in Colab", "a[title='Launch on Colab']"), ("Download", "a.btn-download-source-button")):
        if found := soup.select_one(button):
            link = Tag(name="a", attrs={"href": found["href"]})
            link.string = text
            line.extend([link, " · "])
    line.append(f"{reading} minutes to read, {max(1, round(minutes))} to run on two CPU cores")
    article.find("h1").insert_after(line)


def seconds_to_read(article: Tag) -> float:
    """For the prose, the figures and tables, and the formulas that stand by themselves; not for code."""
    skipped = "pre, script, style, .cell_output, .math"
    outside = {id(text) for place in article.select(skipped) for text in place.find_all(string=True)}
    words = sum(len(text.split()) for text in article.find_all(string=True) if id(text) not in outside)
    words += len(article.select("span.math"))  # a formula within a line is a word
    pictures = article.select("table, img:not(.kd-play img, .opening img), .kd-play")
    formulas = article.select("div.math")
    return 60 * words / WORDS_A_MINUTE + SECONDS_A_PICTURE * len(pictures) + SECONDS_A_FORMULA * len(formulas)


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
