"""The system's Chromium for the tests that use one, and a notice of what was left out where there is none."""

import os
import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.pages import DESKTOP, wait_for_mathematics
from tools.serve_site import FLAGS, SITE, find_chromium, serve

LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[LEFT_OUT] = []
    # uv and the linters of this environment are found even where it is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; where there is none, `pytest_runtest_setup` has spoken before."""
    return find_chromium()


@pytest.fixture(scope="session")
def built():
    assert (SITE / "index.html").is_file(), "build the site first: make book"


@pytest.fixture(scope="module")
def address(built):
    with serve() as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open a page; when the test ends, nothing may have failed, complained, or been asked of another machine."""
    contexts, wrong = [], []

    def guard(route):
        if route.request.url.startswith(f"{address}/"):
            route.continue_()
        else:
            wrong.append(f"asked elsewhere: {route.request.url}")
            route.abort()

    def visit(page_name: str, viewport=None, scheme="light", **options):
        context = browser.new_context(viewport=viewport or DESKTOP, color_scheme=scheme, **options)
        contexts.append(context)
        context.route(re.compile(r"^(?!data:|blob:)"), guard)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url} {request.failure}"))
        page.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
        page.on("websocket", lambda socket: wrong.append(f"asked elsewhere: {socket.url}"))
        page.goto(f"{address}/{page_name}", wait_until="networkidle")
        wait_for_mathematics(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without a browser, tests that use one are skipped, loudly; under CI they fail."""
    if "chromium" not in item.fixturenames or find_chromium():
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
