"""The system's Chromium for the tests that use one, and a notice of what was left out where there is none."""

import os
import shutil
import sys
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[LEFT_OUT] = []
    # uv and the linters of this environment are found even where it is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; where there is none, `pytest_runtest_setup` has spoken before."""
    return next(path for name in BROWSERS if (path := shutil.which(name)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without a browser, tests that use one are skipped, loudly; under CI they fail."""
    if "chromium" not in item.fixturenames or any(map(shutil.which, BROWSERS)):
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail("no Chromium on this machine; under CI the checks of the built pages may not be left out")
    item.config.stash[LEFT_OUT].append(item.nodeid)
    pytest.skip("no Chromium on this machine")


def pytest_terminal_summary(terminalreporter, config):
    left_out = config.stash[LEFT_OUT]
    if left_out:
        terminalreporter.section("NOT CHECKED: the built pages in a browser", red=True, bold=True)
        terminalreporter.line(f"{len(left_out)} checks were left out, because no Chromium was found:")
        for name in sorted({node.split("[")[0] for node in left_out}):
            terminalreporter.line(f"  {name}")
        terminalreporter.line("Install it (Debian: apt-get install chromium; macOS: brew install --cask chromium)")
        terminalreporter.line("and run `make test` again.")
