"""The figures to play with, outside of the site: one output that works wherever a notebook is shown."""

import re

import nbformat
import pytest
import torch

from kdutils import play
from tests.pages import ORIGINALS

TEACHER, STUDENT, LABEL = [3.0, 2.0, -3.0, -2.0], [3.0, -4.0, 0.0, 0.0], 0
CLASSES = ["2", "3", "7", "8"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

# How JupyterLab and Colab show an HTML output: set as text, which runs no script, and then each script made anew.
INSERT = """html => {
  const output = document.body.appendChild(document.createElement('div'));
  output.innerHTML = html;
  for (const old of output.querySelectorAll('script')) {
    const script = document.createElement('script');
    for (const { name, value } of old.attributes) script.setAttribute(name, value);
    script.textContent = old.textContent;
    old.replaceWith(script);
  }
}"""


@pytest.fixture
def shown(monkeypatch):
    """Call a figure; return the HTML that it displays."""
    outputs = []
    monkeypatch.setattr(play, "display", lambda bundle, raw: outputs.append(bundle["text/html"]))

    def shown(figure, *arguments, **options) -> str:
        figure(*arguments, **options)
        return outputs[-1]

    return shown


@pytest.fixture
def temperature_html(shown) -> str:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3, 10, generator=generator)
    images = torch.rand(3, 1, 28, 28, generator=generator)
    return shown(play.play_temperature, images, logits, torch.tensor([2, 0, 9]), ["first", "second", "third"])


@pytest.fixture
def loss_html(shown) -> str:
    return shown(play.play_loss, CLASSES, LABEL, {"misses a class": (TEACHER, STUDENT), "is done": (TEACHER, TEACHER)})


@pytest.fixture(params=["in the page", "inserted"])
def open_(request, browser):
    """Show an output as a page does, or as JupyterLab and Colab do; nothing may fail, or be asked of anybody."""
    contexts, wrong = [], []

    def open_(html: str, viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("data:", "about:")) or wrong.append(r.url))
        if request.param == "inserted":
            page.set_content("<!doctype html><html lang=en><title>notebook</title><body></body></html>")
            page.evaluate(INSERT, html)
        else:
            page.set_content(f"<!doctype html><html lang=en><title>page</title><body>{html}</body></html>")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)


def tab_to(page, selector: str) -> None:
    """Press Tab until the element has the focus, as somebody without a mouse does."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab never reaches {selector}")


def soft(logits: list[float], temperature: float) -> torch.Tensor:
    return torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, dim=-1)


@pytest.mark.slow
def test_temperature_moves_by_keyboard_alone(open_, temperature_html):
    page = open_(temperature_html)
    tab_to(page, "input[type=radio]")
    page.keyboard.press("ArrowRight")
    assert page.locator(".kd-picture span").inner_text() == "second"
    before = page.locator(".kd-sentence").inner_text()
    tab_to(page, "input[type=range]")
    page.keyboard.press("End")
    assert page.locator("input[type=range]").get_attribute("aria-valuetext") == "T = 100"
    sentence = page.locator(".kd-sentence").inner_text()
    assert sentence != before
    assert "100 % to class 0" in sentence
    heights = page.locator("rect.kd-bar").evaluate_all("bars => bars.map(bar => bar.height.baseVal.value)")
    assert len(heights) == 10 and max(heights) < 1.5 * min(heights), "at T = 100 all bars are nearly level"
    page.wait_for_function("document.querySelector('[aria-live]').textContent.includes('T = 100')")
    assert page.locator("[aria-live]").inner_text() == f"second. {sentence}"


@pytest.mark.slow
def test_temperature_says_what_pytorch_says(open_, temperature_html):
    page = open_(temperature_html)
    page.locator("summary").click()
    logits = [float(t) for t in page.locator("tbody td:nth-child(2)").all_inner_texts()]
    for position, temperature in ((0, 1.0), (0.6, 4.0), (1.3, 20.0)):
        page.locator("input[type=range]").fill(str(position))
        target = soft(logits, temperature)
        for shown_, share in zip(page.locator("tbody td:nth-child(4)").all_inner_texts(), target, strict=True):
            assert float(shown_.strip("<>% ")) == pytest.approx(100 * float(share), abs=0.6), shown_
        nats = float(torch.special.entr(target).sum())
        said = re.search(r"Entropy (\d\.\d\d) nats", page.locator(".kd-sentence").inner_text())[1]
        assert float(said) == pytest.approx(nats, abs=0.011)


@pytest.mark.slow
def test_loss_moves_by_keyboard_alone_and_says_what_pytorch_says(open_, loss_html):
    page = open_(loss_html)
    tab_to(page, ".kd-class:nth-child(2) input.kd-student")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    student = [*STUDENT]
    student[1] += 0.5
    page.locator(".kd-slider input").fill("0.6")  # T = 4
    p, q = soft(TEACHER, 4), soft(student, 4)
    expected = [
        -(p * p.log()).sum(),
        -(p * q.log()).sum(),
        (p * (p / q).log()).sum(),
        (q * (q / p).log()).sum(),
        16 * (p * (p / q).log()).sum(),
        -soft(student, 1).log()[LABEL],
    ]
    said = [float(text) for text in page.locator(".kd-numbers dd").all_inner_texts()]
    assert said == pytest.approx([float(value) for value in expected], abs=6e-4)
    page.wait_for_function("document.querySelector('[aria-live]').textContent.includes('T = 4.0')")
    assert "Strongest push: 3 up" in page.locator("[aria-live]").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("choice", range(4))
def test_arrows_follow_autograd(open_, loss_html, choice):
    page = open_(loss_html)
    page.locator(".kd-choice input").nth(choice).check()
    page.locator(".kd-slider input").fill("0.3")  # T = 2
    p, s = soft(TEACHER, 2), torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True)
    q = torch.softmax(s / 2, dim=-1)
    forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
    loss = (4 * forward, forward, 4 * reverse, -torch.log_softmax(s, dim=-1)[LABEL])[choice]
    (gradient,) = torch.autograd.grad(loss, s)
    lengths = page.locator(".kd-arrow").evaluate_all(
        "arrows => arrows.map(a => (a.classList.contains('kd-up') ? 12 : -12) * a.style.getPropertyValue('--length'))"
    )
    assert lengths == pytest.approx((-2 * gradient).tolist(), abs=1e-9)  # learning rate 2, twelve units of logit wide


@pytest.mark.slow
def test_ten_steps_bring_the_student_nearer(open_, loss_html):
    page = open_(loss_html)
    forward = page.locator(".kd-numbers dd").nth(2)
    before = float(forward.inner_text())
    page.get_by_role("button", name="Ten steps").click()
    assert float(forward.inner_text()) < 0.5 * before
    page.get_by_role("button", name="is done").click()
    assert float(forward.inner_text()) == 0
    assert page.locator(".kd-arrow:visible").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["temperature_html", "loss_html"])
def test_fits_a_phone(open_, figure, request):
    page = open_(request.getfixturevalue(figure), PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, input, summary')].map(e => [e.outerHTML.slice(0, 80), e])
        .filter(([, e]) => Math.max(e.getBoundingClientRect().height, e.closest('label')?.offsetHeight ?? 0) < 24)
        .map(([html]) => html)"""
    )
    assert not small, "too small for a finger"


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["temperature_html", "loss_html"])
def test_without_scripts_a_still_picture_stays(browser, figure, request):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(request.getfixturevalue(figure))
    still = page.locator("img.kd-still")
    assert still.is_visible() and still.bounding_box()["width"] > 300
    assert len(still.get_attribute("alt")) > 60
    assert page.locator("input").count() == 0
    context.close()


@pytest.mark.slow
def test_where_the_script_fails_the_still_picture_stays(browser, temperature_html):
    context = browser.new_context()
    page = context.new_page()
    page.set_content(temperature_html.replace('"digits"', '"no_digits"'))
    assert page.locator("img.kd-still").is_visible()
    context.close()


@pytest.mark.slow
def test_one_output_shown_twice_works_twice(open_, temperature_html):
    page = open_(temperature_html + temperature_html)
    assert page.locator(".kd-figure").count() == 2
    page.locator("input[type=range]").nth(1).fill("2")
    page.locator("input[type=radio]").nth(1).check()
    said = page.locator(".kd-slider span").all_inner_texts()
    assert said == ["T = 4.0", "T = 100"]


def test_an_output_is_small_and_holds_no_module_syntax(temperature_html, loss_html):
    for html in (temperature_html, loss_html):
        assert len(html) < 90_000
        assert not re.search(r"^(import|export) ", html, re.MULTILINE)
        assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", html)


def test_the_chapters_hold_the_present_scripts():
    shown = 0
    for path in ORIGINALS:
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                if kind := re.search(r'class="kd-play" data-figure="(\w+)"', html):
                    shown += 1
                    assert play.one_script("probability.js", "figure.js", f"{kind[1]}.js") in html, (
                        f"run {path.stem} again"
                    )
                    assert (play.page_scripts() / "figure.css").read_text() in html, f"run {path.stem} again"
    assert shown == 2


def test_text_from_outside_cannot_leave_its_place(shown):
    html = shown(play.play_loss, ["</script><b>", '"><i>'], 0, {"</script>": ([1.0, 2.0], [2.0, 1.0])})
    assert "<b>" not in html and "<i>" not in html


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2, 3, 2 and 2"):
        play.play_temperature(torch.rand(2, 1, 28, 28), torch.rand(3, 10), torch.tensor([0, 1]), ["a", "b"])
    with pytest.raises(ValueError, match="'short' needs 2 logits"):
        play.play_loss(["a", "b"], 0, {"short": ([1.0], [2.0, 1.0])})
