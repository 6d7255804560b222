"""The figure "Same student, two lessons": what it computes, against PyTorch and SciPy, and what it is on the pages."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdutils import load_results, mean_interval
from tests.pages import PHONE, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "experiments"))

import lessons_picture

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "book" / "_static" / "js"
RECORD = load_results(lessons_picture.RECORD)
TWELVE, HUNDRED = ([e for e in RECORD["experiments"] if e["points"] == points][0] for points in (12, 100))
HOME, CHAPTER = "book/index.html", "book/01-background.html"
BOTH = pytest.mark.parametrize("page_name", [HOME, CHAPTER])
site = [pytest.mark.site, pytest.mark.slow]


def in_node(node: str, program: str, **values):
    """What a program prints as JSON; it may import the figure's modules and use the values."""
    names = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    done = subprocess.run(
        [node, "--input-type=module", "--eval", names + program],
        check=True,
        capture_output=True,
        text=True,
        cwd=SCRIPTS,
        timeout=60,
    )
    return json.loads(done.stdout)


# --- what it computes --------------------------------------------------------------------------------------------


def test_intervals_are_those_of_the_book(node):
    samples = [np.random.default_rng(n).normal(-5, 3, n).tolist() for n in (2, 3, 5, 7, 8, 9, 15, 20, 60, 400)]
    program = "import { meanInterval } from './interval.js'; console.log(JSON.stringify(samples.map(meanInterval)));"
    for sample, found in zip(samples, in_node(node, program, samples=samples), strict=True):
        wanted = mean_interval(sample)
        assert [found["mean"], found["low"], found["high"]] == pytest.approx(list(wanted), rel=2e-4), len(sample)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_answers_and_gradients_are_those_of_pytorch(node, temperature):
    program = """
        import { answer, gradient, makeNetwork, makePoints, random, softTargets } from './tiny.js';
        const next = random(6), points = makePoints(9, next), network = makeNetwork(5, next);
        const targets = softTargets(makeNetwork(8, next), points, temperature);
        console.log(JSON.stringify({ points, network, targets, logits: points.map(point => answer(network, point)),
          slopes: gradient(network, points, targets, temperature) }));"""
    found = in_node(node, program, temperature=temperature)
    weights = torch.tensor(found["network"], dtype=torch.float64, requires_grad=True)
    units = weights[:-3].reshape(-1, 6)
    points = torch.tensor([[point["x"], point["y"]] for point in found["points"]], dtype=torch.float64)
    logits = torch.tanh(points @ units[:, :2].T + units[:, 2]) @ units[:, 3:] + weights[-3:]
    torch.testing.assert_close(logits.detach(), torch.tensor(found["logits"], dtype=torch.float64))
    targets = torch.tensor(found["targets"], dtype=torch.float64)
    loss = F.kl_div(F.log_softmax(logits / temperature, dim=-1), targets, reduction="batchmean")
    (slopes,) = torch.autograd.grad(temperature**2 * loss, weights)
    torch.testing.assert_close(slopes, torch.tensor(found["slopes"], dtype=torch.float64))


def test_the_still_picture_shows_the_networks_of_the_record():
    run = RECORD["picture"]
    points = np.array([[x, y] for x, y, _ in run["points"]])
    logits = np.log(lessons_picture.answers(run["networks"]["teacher"], points)) / RECORD["settings"]["TEMPERATURE"]
    softened = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softened, run["targets"], atol=1e-9)


def test_the_still_picture_is_sharp_and_small():
    with Image.open(lessons_picture.PICTURE) as picture:
        assert picture.width >= 1300
    assert lessons_picture.PICTURE.stat().st_size < 150_000


def test_what_a_page_loads_for_it_is_small():
    names = ("lessons.js", "tiny.js", "interval.js", "teacher.js", "figure.js", "probability.js")
    assert sum((SCRIPTS / name).stat().st_size for name in names) < 32_000


# --- what the pages say about it ---------------------------------------------------------------------------------


def measured() -> str:
    """The sentence that both pages have, from the record."""
    wrong = 100 * np.array(TWELVE["wrong"])
    gain = mean_interval(wrong[:, 0] - wrong[:, 1])
    other = int((wrong[:, 0] < wrong[:, 1]).sum())
    return (
        f"In {len(wrong)} runs that we measured beforehand, the student of labels got {wrong[:, 0].mean():.1f} % of the"
        f" test points wrong and the teacher's student {wrong[:, 1].mean():.1f} %: {gain.mean:.1f} points fewer (95 %"
        f" interval {gain.low:.1f} to {gain.high:.1f}). In {other} of the {len(wrong)} it went the other way."
    )


def hundred() -> str:
    """What chapter 1 says of many points."""
    wrong = 100 * np.array(HUNDRED["wrong"])
    gain = mean_interval(wrong[:, 0] - wrong[:, 1])
    return (
        f"Labels now say more by themselves: in {len(wrong)} runs the gain was {gain.mean:.1f} points"
        f" ({gain.low:.1f} to {gain.high:.1f})."
    )


def texts() -> dict[str, str]:
    notebook = nbformat.read(ROOT / "book" / "01-background.ipynb", as_version=4)
    return {
        "index.md": (ROOT / "book" / "index.md").read_text(encoding="utf-8"),
        "chapter 1": "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"),
    }


@pytest.mark.parametrize("page", ["index.md", "chapter 1"])
def test_the_caption_says_what_was_measured(page):
    assert measured() in " ".join(texts()[page].split())


def test_chapter_1_says_what_many_points_do():
    assert hundred() in texts()["chapter 1"]


# --- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture
def open_figure(visit):
    """Open a page at the figure; under reduced motion a run is there at once, and none begins unasked."""

    def open_figure(page_name: str, motion: str = "reduce", **options):
        page = visit(page_name, reduced_motion=motion, **options)
        page.locator(".kd-play[data-figure=lessons] .kd-figure").scroll_into_view_if_needed()
        return page

    return open_figure


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def numbers(page) -> np.ndarray:
    """The table of runs: labels, distilled, difference."""
    page.locator(".kd-play[data-figure=lessons] details").evaluate("details => { details.open = true }")
    rows = page.locator(".kd-play[data-figure=lessons] tbody tr").all()
    return np.array(
        [[float(t.replace("−", "-")) for t in row.locator("td").all_inner_texts()] for row in rows], dtype=float
    )


def dots(page, row: str) -> int:
    return page.locator(f".kd-row.kd-{row} circle.kd-dot").count()


class TestOnThePages:
    pytestmark = site

    @BOTH
    def test_by_keyboard_alone_each_run_is_a_dot_and_is_said(self, open_figure, page_name):
        page = open_figure(page_name)
        page.get_by_role("button", name="Teach both").focus()
        page.keyboard.press("Enter")
        assert [dots(page, row) for row in ("labels", "distilled", "difference")] == [1, 1, 1]
        assert page.locator(".kd-row line.kd-span").count() == 0, "one run has no interval"
        page.keyboard.press("Space")
        page.keyboard.press("Enter")
        assert [dots(page, row) for row in ("labels", "distilled", "difference")] == [3, 3, 3]
        assert page.locator(".kd-row line.kd-span").count() == 3
        sentence = page.locator(".kd-play[data-figure=lessons] .kd-sentence").inner_text()
        assert sentence.startswith("Run 3: ") and "interval" in sentence
        wait_until(page, "document.querySelector('.kd-play[data-figure=lessons] [aria-live]').textContent")
        assert page.locator(".kd-play[data-figure=lessons] [aria-live]").inner_text() == sentence

    def test_the_intervals_are_those_of_its_dots(self, open_figure):
        page = open_figure(CHAPTER)
        press(page, "Teach 20 times")
        runs = numbers(page)
        assert runs.shape == (20, 3)
        np.testing.assert_allclose(runs[:, 2], runs[:, 1] - runs[:, 0], atol=0.11)
        for column, row in enumerate(("labels", "distilled", "difference")):
            text = page.locator(f".kd-row.kd-{row} .kd-interval").inner_text().replace("−", "-")
            shown = [float(part) for part in text.replace("(", " ").replace(")", "").replace("to", " ").split()]
            assert shown == pytest.approx(list(mean_interval(runs[:, column])), abs=0.15)
        press(page, "Start over")
        assert [dots(page, row) for row in ("labels", "distilled", "difference")] == [0, 0, 0]

    @BOTH
    def test_a_seed_gives_the_run_that_was_measured(self, browser, address, page_name):
        context = browser.new_context(reduced_motion="reduce")
        context.add_init_script(f"Math.random = () => ({RECORD['settings']['first_seed']} + 0.5) / 2 ** 32;")
        page = context.new_page()
        page.goto(f"{address}/{page_name}", wait_until="networkidle")
        press(page, "Teach both")
        assert numbers(page)[0, :2] == pytest.approx(100 * np.array(TWELVE["wrong"][0]), abs=0.51)
        context.close()

    def test_a_run_that_has_begun_is_counted(self, open_figure):
        """Whoever could break off a run that looks bad would bend the interval."""
        page = open_figure(CHAPTER, motion="no-preference")
        press(page, "Teach both")
        assert dots(page, "labels") == 0, "it takes its time where motion is welcome"
        press(page, "Teach both")
        wait_until(page, "document.querySelectorAll('.kd-row.kd-labels circle.kd-dot').length === 2")
        press(page, "Teach 20 times")
        wait_until(page, "document.querySelectorAll('.kd-row.kd-labels circle.kd-dot').length === 22")

    def test_it_plays_once_on_the_first_page_and_says_nothing_unasked(self, open_figure):
        page = open_figure(HOME, motion="no-preference")
        wait_until(page, "document.querySelectorAll('.kd-row.kd-labels circle.kd-dot').length === 1")
        page.wait_for_timeout(1500)
        assert dots(page, "labels") == 1
        assert page.locator(".kd-play[data-figure=lessons] [aria-live]").inner_text() == ""

    @BOTH
    def test_where_motion_is_not_wanted_nothing_begins_by_itself(self, open_figure, page_name):
        page = open_figure(page_name)
        page.wait_for_timeout(1000)
        assert dots(page, "labels") == 0

    def test_other_settings_begin_anew(self, open_figure):
        page = open_figure(CHAPTER)
        press(page, "Teach both")
        page.get_by_role("radio", name="100", exact=True).check()
        assert dots(page, "labels") == 0
        page.get_by_role("radio", name="has never learned").check()
        for _ in range(3):
            press(page, "Teach both")
        runs = numbers(page)
        assert (runs[:, 2] > 5).all(), "a teacher that knows nothing teaches nothing"

    @BOTH
    def test_without_scripts_and_on_paper_a_still_picture_stays(self, browser, address, open_figure, page_name):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{address}/{page_name}")
        still = page.locator(".kd-play[data-figure=lessons] img")
        assert still.is_visible() and len(still.get_attribute("alt")) > 100
        context.close()
        page = open_figure(page_name)
        still, live = (page.locator(f".kd-play[data-figure=lessons] {part}") for part in ("img", ".kd-figure"))
        assert live.is_visible() and not still.is_visible()
        page.emulate_media(media="print")
        still.evaluate("image => { image.loading = 'eager' }")  # as book.js does before printing
        still.wait_for(state="visible")
        assert not live.is_visible()

    @BOTH
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_a_phone(self, open_figure, page_name, scheme):
        page = open_figure(page_name, viewport=PHONE, scheme=scheme)
        press(page, "Teach 20 times")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        figure = page.locator(".kd-play[data-figure=lessons]")
        right = figure.bounding_box()["x"] + figure.bounding_box()["width"]
        for shape in figure.locator("circle, canvas, svg text").all():
            box = shape.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= right + 1
        for target in figure.locator("button, summary").all():
            assert target.bounding_box()["height"] >= 24
