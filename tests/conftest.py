"""What several tests stand on, and a loud notice of what was left out because the machine lacks something."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"""
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "node": ("node", "nodejs"),
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


@functools.cache
def index_answers() -> bool:
    """Whether a package can be had from the index; the cache is not asked."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["uv", "pip", "install", "--dry-run", "--no-cache", "--python", sys.executable]
        command += ["--target", folder, "setuptools"]
        return subprocess.run(command, check=False, capture_output=True, cwd=folder).returncode == 0


@pytest.fixture(scope="session")
def package_index() -> None:
    """For tests that install packages; where no index answers, `pytest_runtest_setup` has spoken before."""


class Published(NamedTuple):
    """The working tree as if it were published."""

    commit: str
    environment: dict[str, str]  # with it, git fetches that commit from the address of the book


@pytest.fixture(scope="session")
def published(tmp_path_factory, package_index) -> Published:
    """For somebody who has nothing of this machine but the way to its package index, and fetches the book with git."""
    from tools.set_repository import current_repository

    home = tmp_path_factory.mktemp("home")
    repository = home / "published.git"

    def git(*arguments: str) -> str:
        command = ["git", f"--git-dir={repository}", f"--work-tree={ROOT}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()

    # All that git does not ignore, so that what is tested is what the next commit would publish.
    git("init", "--quiet", "--initial-branch=main")
    git("config", "uploadpack.allowFilter", "true")
    git("add", "--all")
    git("-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "commit", "--quiet", "--message=as it stands")
    owner, name = current_repository()
    address = f"https://github.com/{owner}/{name}"
    (home / ".gitconfig").write_text(f'[url "{repository.as_uri()}"]\n    insteadOf = {address}\n')

    foreign = ("KD_DATA", "PYTHON", "VIRTUAL_ENV", "JUPYTER", "IPYTHON", "GIT_", "XDG_", "PYTEST")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    cache = subprocess.run(["uv", "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
    environment |= {"HOME": str(home), "UV_CACHE_DIR": cache}
    for key, config in (("PIP_CONFIG_FILE", "pip/pip.conf"), ("UV_CONFIG_FILE", "uv/uv.toml")):
        if (path := Path.home() / ".config" / config).is_file():
            environment.setdefault(key, str(path))
    return Published(git("rev-parse", "HEAD"), environment)


# --- what a machine may lack -------------------------------------------------------------------------------------


class Need(NamedTuple):
    """Something that tests with a fixture of this name cannot do without."""

    is_there: Callable[[], bool]
    missing: str
    not_checked: str
    remedy: str


NEEDS = {
    "chromium": Need(
        lambda: find("chromium") is not None,
        "no Chromium on this machine",
        "the built pages in a browser",
        "Install it (Debian: apt-get install chromium; macOS: brew install --cask chromium)",
    ),
    "node": Need(
        lambda: find("node") is not None,
        "no Node on this machine",
        "the JavaScript of the pages",
        "Install version 20 or later (Debian: apt-get install nodejs; macOS: brew install node)",
    ),
    "package_index": Need(
        index_answers,
        "no package index within reach",
        "the chapters in Colab, the oldest versions, the workflow for CI",
        "Connect this machine to a package index",
    ),
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without what it needs, a test is skipped, loudly; under CI it fails."""
    for name, need in NEEDS.items():
        if name not in item.fixturenames or need.is_there():
            continue
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{need.missing}; under CI this may not be left out: {need.not_checked}")
        item.config.stash[LEFT_OUT].setdefault(name, []).append(item.nodeid)
        pytest.skip(need.missing)


def pytest_terminal_summary(terminalreporter, config):
    for name, left_out in config.stash[LEFT_OUT].items():
        need = NEEDS[name]
        terminalreporter.section(f"NOT CHECKED: {need.not_checked}", red=True, bold=True)
        terminalreporter.line(f"{len(left_out)} checks were left out ({need.missing}):")
        for node in sorted({node.split("[")[0] for node in left_out}):
            terminalreporter.line(f"  {node}")
        terminalreporter.line(need.remedy)
        terminalreporter.line("and run `make test` again.")


# --- the built site in a browser that can reach nothing but this machine -------------------------------------------


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
