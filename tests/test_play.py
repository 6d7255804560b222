"""The figures to play with, outside of the site: one output that works wherever a notebook is shown."""

import functools
import re

import nbformat
import pytest
import torch

from kdutils import distillation_loss, kd_loss, play, reverse_kd_loss
from tests.pages import CHAPTERS, ORIGINALS, tab_to, wait_until
from tests.test_lessons import in_node
from tools.serve_site import SITE

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
    page.locator(".kd-slider input").last.fill("0.6")  # T = 4
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
    assert "Longest step: 3 up" in page.locator("[aria-live]").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("choice", range(5))
def test_arrows_follow_autograd(open_, loss_html, choice):
    page = open_(loss_html)
    page.locator(".kd-choice input").nth(choice).check()
    page.locator(".kd-slider input").last.fill("0.3")  # T = 2
    p, s = soft(TEACHER, 2), torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True)
    q = torch.softmax(s / 2, dim=-1)
    forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
    label = -torch.log_softmax(s, dim=-1)[LABEL]
    loss = (4 * forward, forward, 4 * reverse, label, 0.9 * 4 * forward + 0.1 * label)[choice]
    (gradient,) = torch.autograd.grad(loss, s)
    lengths = page.locator(".kd-arrow").evaluate_all(
        "arrows => arrows.map(a => (a.classList.contains('kd-up') ? 12 : -12) * a.style.getPropertyValue('--length'))"
    )
    assert lengths == pytest.approx((-2 * gradient).tolist(), abs=1e-9)  # learning rate 2, twelve units of logit wide


FOLLOWED = {
    "squared": lambda s, T: kd_loss(s, torch.tensor([TEACHER]).double(), T),
    "forgotten": lambda s, T: kd_loss(s, torch.tensor([TEACHER]).double(), T) / T**2,
    "reverse": lambda s, T: reverse_kd_loss(s, torch.tensor([TEACHER]).double(), T),
    "label": lambda s, T: torch.nn.functional.cross_entropy(s, torch.tensor([LABEL])),
    "both": lambda s, T: (
        distillation_loss(
            s, torch.tensor([TEACHER]).double(), torch.tensor([LABEL]), temperature=T, soft_weight=0.7
        ).total
    ),
}


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("loss", FOLLOWED)
def test_a_student_goes_the_way_that_pytorch_takes_it(node, loss, temperature):
    """Logits and losses at every step, by the book's own losses, autograd and SGD."""
    program = """
        import { descend } from './descent.js';
        console.log(JSON.stringify(descend(student, { teacher, label, loss, temperature, weight: 0.7 }, 30)));"""
    way = in_node(node, program, student=STUDENT, teacher=TEACHER, label=LABEL, loss=loss, temperature=temperature)
    logits = torch.tensor([STUDENT], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=2)
    assert len(way) == 31
    for here in way:
        value = FOLLOWED[loss](logits, temperature)
        assert here["loss"] == pytest.approx(value.item(), rel=1e-9, abs=1e-12)
        assert here["student"] == pytest.approx(logits[0].tolist(), rel=1e-9, abs=1e-12)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


@pytest.mark.slow
def test_ten_steps_bring_the_student_nearer(open_, loss_html):
    page = open_(loss_html, reduced_motion="reduce")
    forward = page.locator(".kd-numbers dd").nth(2)
    before = float(forward.inner_text())
    page.get_by_role("button", name="Ten steps").click()
    assert float(forward.inner_text()) < 0.5 * before
    page.get_by_role("button", name="is done").click()
    assert float(forward.inner_text()) == 0
    assert page.locator(".kd-arrow:visible").count() == 0


# Counts what a screen reader is given to read.
LISTEN = """window.heard = [];
new MutationObserver(() => heard.push(document.querySelector('[aria-live]').textContent))
  .observe(document.querySelector('[aria-live]'), { childList: true });"""


def steps_of(page) -> int:
    """Steps taken, as the figure says it; the curve and the trails must have as many."""
    said = re.search(r" after (\d+) steps?; ", page.locator(".kd-way").inner_text())
    taken = int(said[1]) if said else 0
    assert page.locator(".kd-line").get_attribute("d").count("L") == taken
    for trail in page.locator(".kd-trail path").all():
        assert trail.get_attribute("d").count("M") == taken + 1
    return taken


@pytest.mark.slow
def test_a_student_learns_step_by_step_and_can_be_stopped(open_, loss_html):
    page = open_(loss_html, reduced_motion="no-preference")
    page.evaluate(LISTEN)
    assert steps_of(page) == 0
    tab_to(page, ".kd-learn")
    page.keyboard.press("Enter")
    page.wait_for_function("/ after ([5-9]|[1-9][0-9]) steps/.test(document.querySelector('.kd-way').textContent)")
    page.wait_for_timeout(1000)
    assert page.evaluate("heard") == [], "it is silent while it learns"
    assert page.evaluate("document.activeElement.textContent") == "Stop"
    page.keyboard.press("Enter")
    taken = page.evaluate("document.querySelector('.kd-way').textContent")
    page.wait_for_timeout(1000)
    assert page.locator(".kd-way").inner_text() == taken and 5 <= steps_of(page) < 100
    assert page.evaluate("document.activeElement.textContent") == "Let the student learn"
    (heard,) = page.evaluate("heard")
    assert heard.startswith(taken)


@pytest.mark.slow
def test_it_says_its_end_once(open_, loss_html):
    page = open_(loss_html, reduced_motion="no-preference")
    page.evaluate(LISTEN)
    page.get_by_role("button", name="Ten steps").click()
    page.wait_for_function("heard.length")
    assert steps_of(page) == 10
    (heard,) = page.evaluate("heard")
    assert " after 10 steps; " in heard


@pytest.mark.slow
def test_where_motion_is_not_wanted_the_end_is_there_at_once(open_, loss_html):
    page = open_(loss_html, reduced_motion="reduce")
    page.get_by_role("button", name="Let the student learn").click()
    assert steps_of(page) == 100
    assert page.get_by_role("button", name="Stop").count() == 0
    page.get_by_role("button", name="One step").click()
    assert steps_of(page) == 101, "the way goes on"
    page.locator(".kd-class:nth-child(2) input.kd-student").press("ArrowLeft")
    assert steps_of(page) == 0, "a student that was moved begins a way of its own"


@pytest.mark.slow
def test_a_setting_that_is_changed_ends_the_learning(open_, loss_html):
    page = open_(loss_html, reduced_motion="no-preference")
    page.get_by_role("button", name="Let the student learn").click()
    page.locator(".kd-choice input").nth(2).check()
    page.wait_for_timeout(500)
    assert steps_of(page) == 0
    assert page.get_by_role("button", name="Let the student learn").count() == 1


@pytest.mark.slow
def test_a_push_too_small_to_see_is_shown_and_named(open_, loss_html):
    page = open_(loss_html)
    page.locator(".kd-choice input").nth(1).check()  # T² forgotten
    page.locator(".kd-slider input").last.fill("2")  # T = 100
    assert page.locator(".kd-arrow:visible").count() == 4
    assert all(re.fullmatch(r"step [+−]0\.000\d+", text) for text in page.locator(".kd-step").all_inner_texts())


@pytest.mark.slow
def test_the_loss_that_is_followed_is_marked(open_, loss_html):
    page = open_(loss_html)
    marked = []
    for choice in page.locator(".kd-choice input").all():
        choice.check()
        marked.append(page.locator(".kd-followed dt").all_inner_texts())
        assert page.locator(".kd-slider:visible").count() == (2 if choice.get_attribute("value") == "both" else 1)
    label = "−log Q of the label, T = 1"
    squared = "T² · KL(P ‖ Q)"
    assert marked == [[squared], ["KL(P ‖ Q), forward"], ["KL(Q ‖ P), reverse"], [label], [squared, label]]


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["temperature_html", "loss_html"])
def test_fits_a_phone(open_, figure, request):
    page = open_(request.getfixturevalue(figure), PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, input, summary')].map(e => [e.outerHTML.slice(0, 80), e])
        .filter(([, e]) => e.checkVisibility())
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
                    assert play.figure_script(kind[1]) in html, f"run {path.stem} again"
                    assert (play.page_scripts() / "figure.css").read_text() in html, f"run {path.stem} again"
    assert shown == 2


# --- a setting as a link -----------------------------------------------------------------------------------------

ADDRESS = "https://book.test/chapter.html"  # nobody is asked: the test answers
ON_SITE, IN_NOTEBOOK = "<article class=bd-article>{}</article>", "<div>{}</div>"
HERE = "<h2 id=elsewhere>elsewhere</h2><p style='height: 3000px'>"


@pytest.fixture
def open_at(browser):
    """Open a page that holds an output at an address; nothing may fail."""
    contexts, wrong = [], []

    def open_at(html: str, address: str = ADDRESS, around: str = ON_SITE, script: str = ""):
        context = browser.new_context(viewport=WIDE, permissions=["clipboard-read", "clipboard-write"])
        contexts.append(context)
        body = f"<!doctype html><html lang=en><title>page</title><body>{HERE}{around.format(html)}</body></html>"
        context.route("**/*", lambda route: route.fulfill(body=body, content_type="text/html; charset=utf-8"))
        context.add_init_script(script)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)


def state(page) -> list[str]:
    """All that a figure shows and where its handles are."""
    inputs = page.locator(".kd-figure input").evaluate_all("inputs => inputs.map(i => `${i.value} ${i.checked}`)")
    return [*inputs, page.locator(".kd-sentence, .kd-way").inner_text(), page.locator("[role=status]").inner_text()]


def move(page) -> None:
    page.locator(".kd-figure input[type=radio]").last.check()
    page.locator(".kd-slider:visible input").last.fill("0.6")


BOTH = pytest.mark.parametrize("figure", ["temperature", "loss"])
COPY = "Copy link to this setting"


@pytest.mark.slow
@BOTH
def test_a_setting_can_be_sent_as_a_link(open_at, figure, request):
    html = request.getfixturevalue(f"{figure}_html")
    page = open_at(html, f"{ADDRESS}?highlight=kl#elsewhere")
    before = state(page)
    move(page)
    if figure == "loss":
        page.locator(".kd-slider input").first.fill("0.35")
        page.locator("input.kd-student").first.fill("-1.5")
        page.locator("input.kd-teacher").last.fill("2.5")
    moved = state(page)
    assert moved != before
    assert page.url == f"{ADDRESS}?highlight=kl#elsewhere", "nobody has asked for a link"
    page.get_by_role("button", name=COPY).click()
    page.get_by_text("Link copied.").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert link.startswith(f"{ADDRESS}?highlight=kl&figure-{figure}=") and link.endswith(f"#figure-{figure}")
    received = open_at(html, link)
    assert state(received) == moved
    assert received.locator(":target").get_attribute("data-figure") == figure
    assert received.evaluate("scrollY") > 1000, "the link leads to the figure"


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("bad", ["", "1", "4_squared", "NaN_0", "4_99", "__proto__", "<script>", "%E0%A4%A", "9" * 999])
def test_a_setting_that_is_none_changes_nothing(open_at, figure, bad, request):
    html = request.getfixturevalue(f"{figure}_html")
    page = open_at(html, f"{ADDRESS}?figure-{figure}={bad}#elsewhere")
    assert state(page) == state(open_at(html))
    assert page.locator(":target").get_attribute("id") == "elsewhere"


@pytest.mark.slow
def test_a_setting_for_other_classes_changes_nothing(open_at, loss_html, shown):
    page = open_at(loss_html, f"{ADDRESS}?figure-loss=4_both_0.5_1_2_3_1_2_3")
    assert state(page) == state(open_at(loss_html))
    three = shown(play.play_loss, ["a", "b", "c"], 0, {"is done": ([1, 2, 3], [1, 2, 3])})
    assert state(open_at(three, f"{ADDRESS}?figure-loss=4_both_0.5_1_2_3_1_2_0")) != state(open_at(three))


@pytest.mark.slow
@BOTH
def test_a_notebook_has_no_link_and_reads_none(open_at, figure, request):
    html = request.getfixturevalue(f"{figure}_html")
    setting = {"temperature": "20_1", "loss": "20_both_0.5_1_1_1_1_0_0_0_0"}[figure]
    site, notebook = (
        open_at(html, f"{ADDRESS}?figure-{figure}={setting}", around) for around in (ON_SITE, IN_NOTEBOOK)
    )
    assert site.get_by_role("button", name=COPY).count() == 1
    assert notebook.get_by_role("button", name=COPY).count() == 0
    assert "T = 20" in site.locator(".kd-slider").last.inner_text()
    assert "T = 20" not in notebook.locator(".kd-slider").last.inner_text()


@pytest.mark.slow
def test_where_nothing_can_be_copied_the_link_is_in_the_address(open_at, temperature_html):
    page = open_at(temperature_html, script="Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name=COPY).click()
    page.get_by_text("in the address bar").wait_for()
    assert page.url == f"{ADDRESS}?figure-temperature=4_0#figure-temperature"


@functools.cache
def chapter_of(figure: str) -> str:
    """The page of the site that has this figure."""
    (page,) = (c for c in CHAPTERS if f'data-figure="{figure}"' in (SITE / f"{c}.html").read_text(encoding="utf-8"))
    return f"{page}.html"


@pytest.mark.slow
@pytest.mark.site
@BOTH
def test_the_chapter_opens_at_a_setting_that_was_sent(visit, figure):
    setting = {"temperature": "20_1", "loss": "20_both_0.5_1_1_1_1_0_0_0_0"}[figure]
    page = visit(f"{chapter_of(figure)}?figure-{figure}={setting}#figure-{figure}")
    live = page.locator(f".kd-play[data-figure={figure}]")
    assert "T = 20" in live.locator(".kd-slider").last.inner_text()
    wait_until(page, f"Math.abs(document.querySelector('#figure-{figure}').getBoundingClientRect().top) < 300")
    live.get_by_role("button", name=COPY).click()
    wait_until(page, f"document.querySelector('#figure-{figure} [role=status]').textContent")
    assert page.url.endswith(f"?figure-{figure}={setting}#figure-{figure}")
    other = page.locator("article h2").last.evaluate("heading => (heading.closest('section') ?? heading).id")
    page.evaluate("id => { location.hash = id }", other)
    assert page.locator(":target").get_attribute("id") == other


def test_text_from_outside_cannot_leave_its_place(shown):
    html = shown(play.play_loss, ["</script><b>", '"><i>'], 0, {"</script>": ([1.0, 2.0], [2.0, 1.0])})
    assert "<b>" not in html and "<i>" not in html


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2, 3, 2 and 2"):
        play.play_temperature(torch.rand(2, 1, 28, 28), torch.rand(3, 10), torch.tensor([0, 1]), ["a", "b"])
    with pytest.raises(ValueError, match="'short' needs 2 logits"):
        play.play_loss(["a", "b"], 0, {"short": ([1.0], [2.0, 1.0])})
