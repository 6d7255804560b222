"""Print the built site into one PDF: each page by Chromium, with its formulas and pictures, then all of them joined.

python -m tools.make_pdf                  writes _build/book.pdf
"""

import io
import sys
from pathlib import Path

import yaml
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject

from tools import needs
from tools.serve_site import FLAGS, ROOT, SITE, documents, serve

TARGET = ROOT / "_build" / "book.pdf"
PAPER = {"width": 673, "height": 977}  # what the margins of book.css leave of A4, in CSS pixels

READY = """async ([address, published]) => {
  dispatchEvent(new Event('beforeprint'));
  const pictures = [...document.querySelectorAll('article img')].map(image => image.decode());
  const late = new Promise((_, fail) => setTimeout(fail, 60_000, new Error(
    `${location.pathname}: formulas, letters or pictures did not come within a minute`)));
  await Promise.race([late, Promise.all([window.MathJax?.startup?.promise, document.fonts.ready, ...pictures])]);
  for (const link of document.querySelectorAll('article a[href]')) {
    const onThisPage = new URL(link.href).pathname === location.pathname;
    if (!onThisPage) link.href = link.href.replace(address, published);
  }
}"""
# Counts on through the book: a page of the site does not know how many stand before it.
NUMBERS = """@page {{ @bottom-left {{ content: "{title}"; font: 8pt sans-serif }}
  @bottom-right {{ content: counter(page); font: 8pt sans-serif }} }}
@page :first {{ counter-set: page {first} }}"""


def make_pdf(site: Path = SITE, target: Path = TARGET) -> int:
    """Write the PDF and return the number of its pages.

    Raises:
        FileNotFoundError: the site is not built, or this machine lacks something: a browser, a font with every sign.
    """
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"there is no site in {site}; build it first: make book")
    if lacking := needs.missing(needs.PDF):
        raise FileNotFoundError("\n".join(need.sentence() for need in lacking))
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    published = config["html"]["baseurl"].rstrip("/")
    writer, starts = PdfWriter(), {}
    with serve(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.find_chromium(), args=FLAGS)
        page = browser.new_page(viewport=PAPER, color_scheme="light")
        page.emulate_media(media="print")
        for document in documents():
            page.goto(f"{address}/{document}.html")
            first = len(writer.pages) + 1
            page.add_style_tag(content=NUMBERS.format(title=config["title"], first=first))
            page.evaluate(READY, [address, published])
            starts[f"{published}/{document}.html".lower()] = first - 1
            writer.append(PdfReader(io.BytesIO(print_page(page))), outline_item=heading(page), import_outline=True)
        browser.close()
    lead_links_within(writer, starts)
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target)
    return len(writer.pages)


def print_page(page: Page) -> bytes:
    """The page as a PDF; paper and margins are those of the print stylesheet."""
    return page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def heading(page: Page) -> str:
    """The title as it stands above the text."""
    return page.locator("article h1").first.evaluate("h => h.textContent.replace('#', '').trim()")


def lead_links_within(writer: PdfWriter, starts: dict[str, int]) -> None:
    """Let links to other pages of the book lead to where they begin in the file, instead of to the site."""
    for page in writer.pages:
        for annotation in page.get("/Annots", []):
            link = annotation.get_object()
            address = link.get("/A", {}).get("/URI", "").partition("#")[0].lower()  # a browser lowers the host
            if address in starts:
                target = writer.pages[starts[address]].indirect_reference
                place = ArrayObject([target, NameObject("/Fit")])
                link[NameObject("/A")] = DictionaryObject(
                    {NameObject("/S"): NameObject("/GoTo"), NameObject("/D"): place}
                )


def main() -> int:
    """Command line; returns the exit status."""
    try:
        pages = make_pdf()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{TARGET.relative_to(ROOT)}: {pages} pages, {TARGET.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
