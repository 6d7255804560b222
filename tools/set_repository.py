"""Write the address of your repository wherever the book has one.

python -m tools.set_repository https://github.com/you/your-book

The old address is the one in _config.yml. Besides the repository's own address that covers the links to Colab,
which hold owner and name, and the address of the published site. Either all of them are changed or none.
"""

import os
import re
import sys
from pathlib import Path

import nbformat
import yaml

from kdutils.results import write_atomically
from tools.execute_notebooks import source_sha256

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".md", ".ipynb", ".py", ".yml", ".toml", ".cff", ".txt", ".css"}
SKIPPED = {".git", ".venv", "_build", "tests"}
# Where the authors stand. No address says who they are, so that is left to you.
AUTHORS = {"LICENSE": "Copyright", "CITATION.cff": "authors", "_config.yml": "author and copyright"}
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+)")


def set_repository(url: str, root: Path = ROOT) -> list[Path]:
    """Replace the present address by ``url`` in every text file below ``root``; return the files that changed.

    Raises:
        ValueError: ``url`` is not of the form https://github.com/owner/name.
        OSError: a file could not be read or written; those written before it have their old text again.
    """
    new = _owner_and_name(url)
    old = current_repository(root)
    changes: dict[Path, tuple[str, str]] = {}
    # The old address is read from _config.yml. Written last, it is still there for a second try after a power cut.
    for path in sorted(text_files(root), key=lambda path: path == root / "_config.yml"):
        before = path.read_text(encoding="utf-8")
        after = _replace(before, old, new)
        if after != before:
            changes[path] = before, _with_new_hash(before, after) if path.suffix == ".ipynb" else after
    written: list[Path] = []
    try:
        for path, (_, after) in changes.items():
            _rewrite(path, after)
            written.append(path)
    except OSError:
        for path in written:
            _rewrite(path, changes[path][0])
        raise
    return written


def current_repository(root: Path = ROOT) -> tuple[str, str]:
    """Owner and name as _config.yml has them."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return _owner_and_name(config["repository"]["url"])


def text_files(root: Path = ROOT) -> list[Path]:
    """The book's own text files, in which an address can stand."""
    files = (path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return sorted(path for path in files if not SKIPPED & set(path.relative_to(root).parts))


def _rewrite(path: Path, text: str) -> None:
    times = path.stat()
    write_atomically(path, text.encode())
    if path.name == "pyproject.toml":  # with a new time, `make` would install everything again for an address
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _owner_and_name(url: str) -> tuple[str, str]:
    match = ADDRESS.fullmatch(url.removesuffix("/").removesuffix(".git"))
    if match is None:
        raise ValueError(f"the address must look like https://github.com/owner/name, got {url!r}")
    return match[1], match[2]


def _replace(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    # Nothing that only begins with the old name may be touched.
    end = r"(?![A-Za-z0-9_-])(?!\.(?!git\b)[A-Za-z0-9])"
    text = re.sub(rf"(github(?:\.com)?/){re.escape(old[0])}/{re.escape(old[1])}{end}", rf"\g<1>{new[0]}/{new[1]}", text)
    return re.sub(rf"\b{re.escape(old[0])}\.github\.io/{re.escape(old[1])}{end}", f"{new[0]}.github.io/{new[1]}", text)


def _with_new_hash(before: str, after: str) -> str:
    """The first cell holds the address, so the stored hash of the code has to follow, if it was right before."""
    old, new = (nbformat.reads(text, as_version=4) for text in (before, after))
    stored = old.metadata.get("kdutils", {}).get("source_sha256")
    return after.replace(stored, source_sha256(new)) if stored == source_sha256(old) else after


def main() -> int:
    """Command line; returns the exit status."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        changed = set_repository(sys.argv[1])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the address was not changed: {error}", file=sys.stderr)
        return 1
    print("\n".join(str(path.relative_to(ROOT)) for path in changed) or "nothing to change")
    print("Authors and licence are as they were. They stand in:")
    for name, what in AUTHORS.items():
        print(f"  {name}: {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
