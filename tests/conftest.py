"""What several tests stand on, and a loud notice of what was left out because the machine lacks something."""

import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from playwright.sync_api import sync_playwright
from torch import nn

from tests.pages import DESKTOP, wait_for_mathematics
from tools.needs import NEEDS, Need, ci, find_chromium
from tools.serve_site import FLAGS, SITE, serve

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()


def pytest_configure(config):
    config.stash[LEFT_OUT] = {}
    # uv and the linters of this environment are found even where it is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@pytest.fixture(scope="module")
def one_thread():
    """Networks this small gain nothing from a second thread, and on a busy machine lose a lot by waiting for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def mixed_model() -> nn.Module:
    """A network in training mode with one child that its owner has put into eval mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 10))
    model.train()
    model[2].eval()
    return model


@pytest.fixture(scope="session")
def extension():
    """Modules of the book's own extension of Sphinx, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_ext")
        yield importlib.import_module


# --- what a machine may lack: a fixture for each entry of the list in tools/needs.py ------------------------------
# Where something is missing, `pytest_runtest_setup` has spoken before any of them is called.


@pytest.fixture(scope="session")
def libatomic() -> None:
    """For tests that start Playwright."""


@pytest.fixture(scope="session")
def chromium(libatomic) -> str:
    """Path of the system's Chromium."""
    return find_chromium()


@pytest.fixture(scope="session")
def fonts() -> None:
    """For tests that print."""


@pytest.fixture(scope="session")
def git() -> None:
    """For tests that ask the repository."""


@pytest.fixture(scope="session")
def node() -> str:
    """Path of Node."""
    return shutil.which("node")


@functools.cache
def index_answers() -> bool:
    """Whether a package can be had from the index; the cache is not asked."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["uv", "pip", "install", "--dry-run", "--no-cache", "--python", sys.executable]
        command += ["--target", folder, "setuptools"]
        return subprocess.run(command, check=False, capture_output=True, cwd=folder).returncode == 0


@pytest.fixture(scope="session")
def package_index() -> None:
    """For tests that install packages."""


class Published(NamedTuple):
    """The working tree as if it were published."""

    commit: str
    environment: dict[str, str]  # with it, git fetches that commit from the address of the book


@pytest.fixture(scope="session")
def published(tmp_path_factory, package_index, git) -> Published:
    """For somebody who has nothing of this machine but the way to its package index, and fetches the book with git."""
    from tools.set_repository import current_repository

    home = tmp_path_factory.mktemp("home")
    repository = home / "published.git"

    def run_git(*arguments: str) -> str:
        command = ["git", f"--git-dir={repository}", f"--work-tree={ROOT}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()

    # All that git does not ignore, so that what is tested is what the next commit would publish.
    run_git("init", "--quiet", "--initial-branch=main")
    run_git("config", "uploadpack.allowFilter", "true")
    run_git("add", "--all")
    run_git(
        "-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "commit", "--quiet", "--message=as it stands"
    )
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
    return Published(run_git("rev-parse", "HEAD"), environment)


# No package of the system brings it, so it is not in the list of those.
INDEX = Need(
    index_answers,
    "No package index within reach",
    "the chapters in Colab and JupyterLab, the oldest versions, the workflow for CI",
    "Connect this machine to a package index",
)
ALL_NEEDS = NEEDS | {"package_index": INDEX}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without what it needs, a test is skipped, loudly; under CI it fails."""
    for name, need in ALL_NEEDS.items():
        if name not in item.fixturenames or need.is_there():
            continue
        if ci():
            pytest.fail(f"{need.sentence()}. Under CI this may not be left out: {need.not_checked}")
        item.config.stash[LEFT_OUT].setdefault(name, []).append(item.nodeid)
        pytest.skip(need.missing)


def pytest_terminal_summary(terminalreporter, config):
    for name, left_out in config.stash[LEFT_OUT].items():
        need = ALL_NEEDS[name]
        terminalreporter.section(f"NOT CHECKED: {need.not_checked}", red=True, bold=True)
        terminalreporter.line(f"{len(left_out)} checks were left out ({need.missing}):")
        for node in sorted({node.split("[")[0] for node in left_out}):
            terminalreporter.line(f"  {node}")
        terminalreporter.line(need.remedy)
        terminalreporter.line("and run `make test` again.")


# --- the built site in a browser that can reach nothing but this machine -------------------------------------------


@pytest.fixture(scope="session")
def built():
    assert (SITE / "index.html").is_file(), "build the site first: make book"


@pytest.fixture(scope="module")
def address(built):
    with serve() as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium):
    # For one module: the tool that prints the book starts a Playwright of its own, and there can be one at a time.
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
