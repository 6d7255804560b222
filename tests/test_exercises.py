"""Exercises that answer back: the solutions pass, the wrong answers that readers give get their own hints."""

import ast
import functools
import re
import tomllib
from importlib import import_module
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from wrong_answers import WRONG

import kdutils.exercises
from kdutils.exercises import EXERCISES, check, verdict
from tests.pages import ORIGINALS

BOOK = Path(__file__).resolve().parents[1] / "book"
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

# kl_div warns of "mean", as it should: some wrong answers use it. The chapters import libraries that warn.
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean'", "ignore::DeprecationWarning")


def chapter_of(path: Path) -> str:
    """Its number in two digits: "03" of 03-kl-loss.ipynb, and of its second page, 03b-directions-and-limits.ipynb."""
    return re.match(r"(\d\d)[a-z]?-", path.name)[1]


def printed_exercises() -> dict[str, tuple[str, str]]:
    """From "03-1" to the text before the folded solution and the solution itself, as the chapters have them."""
    found = {}
    for path in ORIGINALS:
        notebook = nbformat.read(path, as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        section = text.split("\n## Exercises\n")[1].split("\n## ")[0]
        _, *parts = re.split(r"^\*\*(\d+\.\d+)\*\* ", section, flags=re.MULTILINE)
        for number, body in zip(parts[::2], parts[1::2], strict=True):
            chapter, place = number.split(".")
            task, solution = body.split("<details>")
            found[f"{int(chapter):02d}-{place}"] = task, solution.split("</details>")[0]
            assert chapter_of(path) == f"{int(chapter):02d}", number
    return found


PRINTED = printed_exercises()
CHAPTERS = sorted({name[:2] for name in PRINTED})


def stub(name: str) -> str:
    return PROGRAM.findall(PRINTED[name][0])[-1]


def namespace(chapter: str) -> dict:
    """What the import cells of the chapter's pages bring; nothing that the chapter trains or measures."""
    names: dict = {"__name__": "__main__"}
    for path in (path for path in ORIGINALS if chapter_of(path) == chapter):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        exec(next(cell.source for cell in cells if "from kdutils.notebook import" in cell.source), names)
    return names


@pytest.fixture(scope="module")
def imports() -> dict[str, dict]:
    return {chapter: namespace(chapter) for chapter in CHAPTERS}


# --- the pages ---------------------------------------------------------------------------------------------------


def test_every_exercise_has_a_check_and_every_check_an_exercise():
    assert list(PRINTED) == list(EXERCISES)
    assert set(WRONG) == set(EXERCISES)
    assert CHAPTERS == sorted({chapter_of(path) for path in ORIGINALS})
    assert all(3 <= sum(name[:2] == chapter for name in PRINTED) <= 6 for chapter in CHAPTERS)


def test_the_package_list_holds_it():
    """Or Colab, which installs from the repository, would have no exercises."""
    assert (
        "kdutils.exercises"
        in tomllib.loads((BOOK.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    )


def test_every_chapter_says_how_to_check():
    for path in ORIGINALS:
        assert "Each exercise checks itself" in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution_call_their_own_check(name):
    first, *rest = PROGRAM.findall(PRINTED[name][1])
    for program in (stub(name), first):
        assert re.findall(r'check\("([^"]*)"', program) == [name]
        assert "kdutils.exercises" in program, "a reader who pastes the cell needs the import"
    for program in (stub(name), first, *rest):
        ast.parse(program)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_folded_solution_passes(name, imports, capsys):
    exec(PROGRAM.findall(PRINTED[name][1])[0], dict(imports[name[:2]]))
    assert capsys.readouterr().out == "Right.\n"


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_as_printed_is_not_yet_right(name, imports, capsys):
    exec(stub(name), dict(imports[name[:2]]))
    said = capsys.readouterr().out.replace("\n", " ")
    assert said.startswith("Not yet. ")
    functions = [node for node in ast.parse(stub(name)).body if isinstance(node, ast.FunctionDef)]
    expected = "returns nothing" if functions else "letter" if '"..."' in stub(name) else "fill in"
    assert expected in said


# --- the hints ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hints() -> dict[str, list[str | None]]:
    """What each wrong answer is told, in the order of WRONG."""
    return {name: [verdict(name, wrong) for wrong, _ in answers] for name, answers in WRONG.items()}


@pytest.mark.parametrize("name", EXERCISES)
def test_wrong_answers_get_their_own_hint(name, hints):
    for hint, (_, phrase) in zip(hints[name], WRONG[name], strict=True):
        assert hint is not None, f"a wrong answer passes; its hint should say {phrase!r}"
        assert phrase in hint
        assert "your function raised" not in hint
    assert len(set(hints[name])) == len(hints[name]) >= 2


def test_hints_are_short_and_whole_sentences(hints):
    for name, hint in ((name, hint) for name, of_one in hints.items() for hint in of_one):
        assert len(hint) <= 330, f"{name}: {hint}"
        assert hint[0].isupper() or hint[0] in "εd`", f"{name}: {hint}"
        assert hint[-1] in ".?)", f"{name}: {hint}"


def test_every_hint_is_met_by_some_wrong_answer(hints, monkeypatch):
    """A hint that no answer can get would be a sentence that nobody has tried."""
    offered = set()

    def noting(answer, cases, right, wrong):
        offered.update(wrong)
        return None

    for number in range(1, 10):
        monkeypatch.setattr(import_module(f"kdutils.exercises.chapter_{number:02d}"), "compare", noting)
    for name in EXERCISES:
        verdict(name, print)
    assert len(offered) > 100
    assert not offered - {hint for of_one in hints.values() for hint in of_one}


def test_another_mistake_is_shown_with_input_expected_and_found():
    hint = verdict("03-4", lambda d, P_1: 0.123)
    assert "d = 0.7" in hint and "P_1 = 0.8" in hint and "-0.1318" in hint and "0.123" in hint


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exercise", "phrase"),
    [
        ("03-99", "03-1, 03-2"),
        ("99-1", "chapters 01 to 09"),
        ("kl", "chapters 01 to 09"),
        ("", "chapters 01 to 09"),
        (3.1, "comes first"),
        (len, "comes first"),
    ],
    ids=repr,
)
def test_an_unknown_exercise_is_named(exercise, phrase):
    assert phrase in verdict(exercise, len)


@pytest.mark.parametrize("name", ["03-1", "3.1", "3-1", "03.1", " 03-1 "])
def test_names_are_read_kindly(name):
    assert verdict(name, None) == verdict("03-1", None)


ANSWERS_OF_NO_USE = [None, ..., 3.5, "f", [1], {}, object(), torch.zeros(3), print, lambda: 1, lambda *a: None]


@pytest.mark.parametrize("name", EXERCISES)
def test_nothing_that_a_reader_may_pass_raises(name):
    for answer in ANSWERS_OF_NO_USE:
        said = verdict(name, answer)
        assert said and len(said) > 15, answer


def crash(s, t, T):
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (None, "no answer yet"),
        (2.0, "a function of s, t, T; your answer is of type float. Pass the function itself"),
        (lambda s, t: s, "3 arguments, s, t, T; it takes (s, t)"),
        (lambda s, t, T: None, "returns nothing"),
        (lambda s, t, T: ..., "returns nothing"),
        (lambda s, t, T: "0.3", "type str"),
        (lambda s, t, T: [None], "A number or a tensor"),
        (lambda s, t, T: s, "should be a single number; yours is of shape (5, 4)"),
        (lambda s, t, T: float("inf"), "your function gives inf"),
        (crash, "s of shape (5, 4), t of shape (5, 4), T = 3 your function raised KeyError: 'lost'"),
    ],
)
def test_an_answer_of_another_form_is_explained(answer, phrase):
    assert phrase in verdict("03-1", answer)


@pytest.mark.parametrize(("name", "phrase"), [("03-1", "no answer yet"), ("02-1", "fill in"), ("01-1", "one letter")])
def test_without_an_answer_it_says_what_is_missing(name, phrase, capsys):
    check(name)
    said = capsys.readouterr().out.replace("\n", " ")
    assert said.startswith("Not yet. ") and phrase in said


def test_the_verdict_is_printed(capsys):
    kdutils.exercises.check("03-1", None)
    check("03-4", lambda d, P_1: torch.sigmoid(torch.tensor(d)) - P_1)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Not yet. ") and last == "Right."


# --- right answers in other dress --------------------------------------------------------------------------------


def solution_function(name, imports):
    names = dict(imports[name[:2]])
    program = PROGRAM.findall(PRINTED[name][1])[0]
    exec(program, names)
    functions = [node.name for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
    return names[functions[-1]] if functions else None


@pytest.mark.parametrize("name", EXERCISES)
def test_float32_is_right_too(name, imports):
    function = solution_function(name, imports)
    if function is None:
        return

    @functools.wraps(function)
    def in_float32(*inputs):
        return function(*(x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs))

    assert verdict(name, in_float32) is None


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize(
    "dress",
    [torch.as_tensor, lambda x: torch.as_tensor(x).tolist(), lambda x: np.asarray(x)],
    ids=["tensor", "list", "array"],
)
def test_tensors_lists_and_arrays_are_right_too(name, dress, imports):
    function = solution_function(name, imports)
    if function is None or name == "05-3":  # there the answer is a loss to differentiate
        return

    @functools.wraps(function)
    def dressed(*inputs):
        found = function(*inputs)
        return dress(found) if not isinstance(found, (tuple, list)) else [dress(entry) for entry in found]

    assert verdict(name, dressed) is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("01-1", " (B) "),
        ("01-5", ["c", "a", "d", "b", "e"]),
        ("01-5", "c, a, d, b, e"),
        ("02-1", (100.0, 10, 10**0.5, 8.384)),
        ("02-1", torch.tensor([100, 10, 3.2, 8.4])),
        ("05-1", {15, 11, 7, 5}),
        ("05-2", [9e-4, 10]),
        ("08-3", [28.8]),
        ("08-3", 28.8),
        ("03-4", lambda d, P_1: torch.sigmoid(torch.tensor([d])) - P_1),
        ("03-1", lambda s, t, T: kdutils.kd_loss(s, t, T, reduction="none").mean(0, keepdim=True)),
    ],
)
def test_other_ways_to_say_it_are_right_too(name, answer):
    assert verdict(name, answer) is None


# --- nothing else happens ----------------------------------------------------------------------------------------


def test_random_numbers_types_and_the_readers_tensors_stay_as_they_were():
    def state():
        numpys = np.random.get_state()[1].tolist()
        return torch.random.get_rng_state().tolist(), numpys, torch.get_default_dtype(), torch.is_grad_enabled()

    numbers, before = torch.arange(4.0), state()
    for name, answers in WRONG.items():
        for answer in (answers[0][0], answers[-1][0], numbers, lambda *inputs: torch.rand(3)):
            verdict(name, answer)
    assert state() == before
    assert torch.equal(numbers, torch.arange(4.0))


def test_a_function_that_changes_its_arguments_does_no_harm():
    def in_place(s, t, T):
        s.div_(T)
        t.div_(T)
        log_q, log_p = s.log_softmax(-1), t.log_softmax(-1)
        return T**2 * torch.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    assert verdict("03-1", in_place) is None
    assert "T² times too small" in verdict("03-1", lambda s, t, T: in_place(s, t, T) / T**2)
