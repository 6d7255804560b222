"""The figures to play with in JupyterLab itself: run by the reader, and as a chapter is opened."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import nbformat
import pytest

from tests.pages import ORIGINALS

JUPYTERLAB = "jupyterlab==4.6.6"
CELLS = [
    """import torch
from kdutils.play import play_loss, play_temperature
play_temperature(torch.zeros(1, 1, 28, 28), torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([0]), ["nothing"])""",
    'play_loss(["a", "b"], 0, {"is wrong": ([2, 0], [0, 2])})',
]
LONG = 120_000  # milliseconds: on a busy machine Lab takes its time

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(package_index, tmp_path_factory):
    """JupyterLab with a notebook without outputs, a cell of a chapter, and the environment of the tests as kernel."""
    home = tmp_path_factory.mktemp("lab")
    kernel = home / "kernels" / "kdutils"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "kdutils", "language": "python"}))
    folder = home / "notebooks"
    folder.mkdir()
    metadata = {"kernelspec": {"name": "kdutils", "display_name": "kdutils"}}
    chapters = [nbformat.read(path, as_version=4) for path in ORIGINALS]
    for name, cells in (
        ("new", [nbformat.v4.new_code_cell(code) for code in CELLS]),
        ("chapter", [cell for chapter in chapters for cell in chapter.cells if "\nplay_loss(" in cell.source]),
    ):
        nbformat.write(nbformat.v4.new_notebook(metadata=metadata, cells=cells), folder / f"{name}.ipynb")

    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    options = [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--no-browser"]
    options += ["--ip=127.0.0.1", "--allow-root", "--LabApp.news_url=None"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "RUNTIME")}
    environment = os.environ | folders | {"JUPYTER_DATA_DIR": str(home)}
    command = ["uvx", "--quiet", "--from", JUPYTERLAB, "jupyter-lab", *options, str(folder)]
    address = f"http://127.0.0.1:{port}"
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(f"{address}/api?token={token}", server, home / "log")
            yield lambda notebook: f"{address}/doc/tree/{notebook}.ipynb?token={token}"
        finally:
            server.terminate()
            server.wait(60)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + LONG / 1000
    while True:
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.3)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(LONG)
    yield page
    page.close()


def test_a_figure_that_has_been_run_can_be_moved(lab, page):
    page.goto(lab("new"))
    page.get_by_text("kdutils | Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    for _ in CELLS:
        page.keyboard.press("Shift+Enter")
    temperature, loss = (page.locator(f".kd-play[data-figure={kind}]") for kind in ("temperature", "loss"))
    loss.locator(".kd-figure").wait_for()
    slider = temperature.locator("input[type=range]")
    slider.focus()
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "T = 100"
    assert "At T = 100 the soft target gives 34.0 % to class 0" in temperature.locator(".kd-sentence").inner_text()
    assert temperature.locator(".kd-entropy").inner_text().strip() == "entropy, from 0 to log 3"
    forward = loss.locator(".kd-numbers dd").nth(2)
    before = float(forward.inner_text())
    loss.get_by_role("button", name="One step").click()
    assert 0 < float(forward.inner_text()) < before
    for name in loss.locator(".kd-numbers dt").all():
        assert name.bounding_box()["height"] < 30, f"{name.inner_text()} is broken into lines"
    for figure in (temperature, loss):
        assert not figure.locator(".kd-still").is_visible()


def test_a_chapter_that_has_not_been_run_shows_the_still_picture(lab, page):
    """Lab runs no script in what somebody else has computed."""
    page.goto(lab("chapter"))
    still = page.locator("img.kd-still")
    still.wait_for()
    assert len(still.get_attribute("alt")) > 60
    assert page.locator(".kd-figure").count() == 0
