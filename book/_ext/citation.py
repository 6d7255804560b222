"""How to cite the book, in the forms of APA and BibTeX, made from CITATION.cff."""

import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

NAMES = ("family-names", "given-names")  # of a person; anything else has a "name"


class CiteThisBook(SphinxDirective):
    """Both forms, where ``cite-this-book`` stands in a page."""

    def run(self) -> list[nodes.Node]:
        """A sentence with the link, and the entry to copy."""
        path = Path(self.env.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(path))
        cff = yaml.safe_load(path.read_text(encoding="utf-8"))
        released = str(cff.get("date-released") or self.config.copyright)
        before, after = apa(cff, released[:4])
        sentence = nodes.paragraph("", before)
        sentence += [nodes.emphasis("", cff["title"]), nodes.Text(after)]
        sentence += nodes.reference("", cff["url"], refuri=cff["url"])
        entry = bibtex(cff, released[:4])
        return [sentence, nodes.literal_block(entry, entry, language="bibtex")]


def apa(cff: dict, year: str) -> tuple[str, str]:
    """What stands before the title, which is set in italics, and what stands between title and address."""
    names = [apa_name(author) for author in cff["authors"]]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, & {names[-1]}"
    return f"{listed.removesuffix('.')}. ({year}). ", f" (Version {cff['version']}) [Computer software]. "


def apa_name(author: dict) -> str:
    """Family name and initials of a person; the name of anything else."""
    if "name" in author:
        return author["name"]
    initials = " ".join(f"{name[0]}." for name in author.get("given-names", "").split())
    return f"{author['family-names']}, {initials}".removesuffix(", ")


def bibtex(cff: dict, year: str) -> str:
    """The entry; braces keep the name of a group, with its comma, from being read as a person's."""
    people = [
        f"{{{author['name']}}}" if "name" in author else ", ".join(filter(None, map(author.get, NAMES)))
        for author in cff["authors"]
    ]
    key = re.sub(r"\W+", "-", cff["title"].lower()).strip("-")
    fields = {
        "author": " and ".join(people),
        "title": f"{{{cff['title']}}}",
        "year": year,
        "version": cff["version"],
        "license": cff["license"],
        "url": cff["url"],
    }
    return "\n".join([f"@software{{{key},", *(f"  {name} = {{{text}}}," for name, text in fields.items()), "}"])
