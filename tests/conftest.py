"""Chromium and Node of the system for the tests that use them, and a notice of what was left out without them."""

import os
import shutil
import sys
from pathlib import Path

import pytest

PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "node": ("node", "nodejs"),
}
INSTALL = {
    "chromium": "Chromium (Debian: apt-get install chromium; macOS: brew install --cask chromium)",
    "node": "Node 20 or later (Debian: apt-get install nodejs; macOS: brew install node)",
}
LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()


def pytest_configure(config):
    config.stash[LEFT_OUT] = {}
    # uv and the linters of this environment are found even where it is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def find(program: str) -> str | None:
    """Path of a program that the system brings, under any of its names."""
    return next((path for name in PROGRAMS[program] if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; where there is none, `pytest_runtest_setup` has spoken before."""
    return find("chromium")


@pytest.fixture(scope="session")
def node() -> str:
    """Path of Node, likewise."""
    return find("node")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without a program that it uses, a test is skipped, loudly; under CI it fails."""
    missing = [program for program in PROGRAMS if program in item.fixturenames and not find(program)]
    if not missing:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"no {missing[0]} on this machine; under CI the checks that use it may not be left out")
    item.config.stash[LEFT_OUT].setdefault(missing[0], []).append(item.nodeid)
    pytest.skip(f"no {missing[0]} on this machine")


def pytest_terminal_summary(terminalreporter, config):
    for program, left_out in config.stash[LEFT_OUT].items():
        terminalreporter.section(f"NOT CHECKED: what needs {program}", red=True, bold=True)
        terminalreporter.line(f"{len(left_out)} checks were left out:")
        for name in sorted({node.split("[")[0] for node in left_out}):
            terminalreporter.line(f"  {name}")
        terminalreporter.line(f"Install {INSTALL[program]} and run `make test` again.")
