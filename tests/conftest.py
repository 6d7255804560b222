"""Chromium and Node of the system for the tests that use them, and a notice of what was left out without them."""

import functools
import http.server
import os
import re
import shutil
import sys
import threading
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"""
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


# --- the built site in a browser that can reach nothing but this machine ---


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser(chromium):
    with sync_playwright() as playwright:
        flags = re.split(r"\s(?=--)", FLAGS)
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
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

    def visit(page_name: str, viewport=None, scheme="light"):
        context = browser.new_context(viewport=viewport or {"width": 1280, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.route(re.compile(r"^(?!data:|blob:)"), guard)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url} {request.failure}"))
        page.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
        page.on("websocket", lambda socket: wrong.append(f"asked elsewhere: {socket.url}"))
        page.goto(f"{address}/{page_name}", wait_until="networkidle")
        if page.locator(".math").count():
            page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
            page.evaluate("MathJax.startup.promise.then(() => true)")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)
