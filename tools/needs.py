"""What the checks and the PDF need of a machine, beside Python, make and git: what no Python package brings.

python3 -m tools.needs test       names what is missing; under CI (CI=true) that is an error
python3 -m tools.needs pdf        the same for what `make pdf` needs; missing is an error everywhere
python3 -m tools.needs debian     the Debian packages that would bring what is missing, for .ci/run

This is the one list of them. It stands on the standard library alone, since it runs before the environment exists.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Signs of the pages that a font for English need not have. The site leaves them to the reader's fonts.
SIGNS = ("术语表译", "✓✗‖≈ε")


class Need(NamedTuple):
    """Something that a machine may lack, what is lost without it, and how to get it."""

    is_there: Callable[[], bool]
    missing: str
    not_checked: str
    remedy: str
    debian: str = ""

    def sentence(self) -> str:
        """What is missing and the command that brings it."""
        return f"{self.missing}. {self.remedy}"


def system_need(is_there: Callable[[], bool], missing: str, not_checked: str, debian: str, macos: str = "") -> Need:
    """A need that packages of the system meet; without ``macos`` one that macOS always meets."""
    remedy = f"Debian: apt-get install {debian}" + (f"; macOS: {macos}" if macos else "")
    return Need(is_there, missing, not_checked, remedy, debian)


def find_chromium() -> "str | None":
    """Path of the system's Chromium, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def can_load(name: str) -> bool:
    """Whether a shared library of Linux is there; on other systems none of them is needed."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def fonts_have(signs: str) -> bool:
    """Whether some font has all of these signs. macOS has them from the start, and no fc-list to ask."""
    if sys.platform == "darwin":
        return True
    if shutil.which("fc-list") is None:
        return False
    pattern = ":charset=" + " ".join(f"{ord(sign):x}" for sign in signs)
    return bool(subprocess.run(["fc-list", pattern], check=False, capture_output=True).stdout.strip())


def ci() -> bool:
    """Whether this runs under CI, where nothing may be left out."""
    return os.environ.get("CI", "").lower() in ("1", "true")


# By the name of the fixture that asks for it, see tests/conftest.py.
NEEDS = {
    "chromium": system_need(
        lambda: find_chromium() is not None,
        "No Chromium on this machine",
        "the built pages in a browser, and the PDF",
        debian="chromium",
        macos="brew install --cask chromium",
    ),
    "libatomic": system_need(
        lambda: can_load("libatomic.so.1"),
        "No libatomic.so.1 on this machine, with which Playwright starts a browser",
        "the built pages in a browser, and the PDF",
        debian="libatomic1",
    ),
    "fonts": system_need(
        lambda: all(map(fonts_have, SIGNS)),
        "No font on this machine has the Chinese signs and the check marks of the pages, or there is no fc-list "
        "(fontconfig) to ask: the PDF would print boxes",
        "the PDF",
        debian="fontconfig fonts-dejavu-core fonts-wqy-microhei",
    ),
    "node": system_need(
        lambda: shutil.which("node") is not None,
        "No Node on this machine",
        "the JavaScript of the pages",
        debian="nodejs",
        macos="brew install node",
    ),
    "git": system_need(
        lambda: shutil.which("git") is not None,
        "No git on this machine",
        "the chapters in Colab, the workflow for CI, the links to files of the repository",
        debian="git",
        macos="brew install git",
    ),
    "ensurepip": system_need(
        lambda: importlib.util.find_spec("ensurepip") is not None,
        "This Python makes no environments: it has no ensurepip",
        "everything, where .venv is not there yet",
        debian="python3-venv",
        macos="brew install python",
    ),
}
PDF = ("chromium", "libatomic", "fonts")


def missing(names: "list[str] | tuple[str, ...]") -> list[Need]:
    """Those of the needs with these names that are not met."""
    return [NEEDS[name] for name in names if not NEEDS[name].is_there()]


def main() -> int:
    """Command line; returns the exit status."""
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what not in ("test", "pdf", "debian"):
        print(__doc__, file=sys.stderr)
        return 2
    lacking = missing(PDF if what == "pdf" else list(NEEDS))
    if what == "debian":
        for package in sorted({package for need in lacking for package in need.debian.split()}):
            print(package)
        return 0
    for need in lacking:
        loss = "" if what == "pdf" else f"\n  Not checked without it: {need.not_checked}."
        print(f"{need.sentence()}{loss}", file=sys.stderr)
    return int(bool(lacking) and (what == "pdf" or ci()))


if __name__ == "__main__":
    sys.exit(main())
