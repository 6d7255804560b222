"""The chapters as files (fast), and run with other parameters than their own (slow)."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from papermill.exceptions import PapermillExecutionError

from tests.pages import NOTEBOOKS, ORIGINALS
from tools.execute_notebooks import COVER, KEPT, TITLE, covers, source_sha256
from tools.set_repository import current_repository

BOOK = Path(__file__).resolve().parents[1] / "book"
SKELETON = ("What you will be able to do", "Predict", "Exercises", "What to remember", "Sources")
COLAB_CELL = """\
# @title Set up: fetch the book's package in Colab
# In Colab this fetches the book's package; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install --quiet --no-deps git+https://github.com/{}/{}"""
MYST = re.compile(r"^\s*(?::{3,}|`{3,}\{|~{3,}\{)|(?:^|[\s(])\{[A-Za-z][\w:+.-]*\}`[^`]", re.MULTILINE)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def test_every_chapter_is_in_the_table_of_contents():
    toc = yaml.safe_load((BOOK.parent / "_toc.yml").read_text(encoding="utf-8"))
    listed = {Path(chapter["file"]).name for part in toc["parts"] for chapter in part["chapters"]}
    assert ORIGINALS, "there is no chapter in book/"
    lost = {path.stem for path in NOTEBOOKS} ^ {name for name in listed if re.match(r"\d\d[a-z]?-", name)}
    assert not lost, f"in book/ or in _toc.yml, but not in both: {', '.join(sorted(lost))}"


def original(path: Path) -> Path:
    """The chapter that this one is, or that it translates."""
    return path.with_name(f"{path.stem.partition('.')[0]}.ipynb")


def test_every_translation_has_its_original(path):
    assert original(path) in ORIGINALS, f"{path.name} is named as a translation of {original(path).name}"


def test_the_picture_on_the_first_page_is_the_one_that_a_chapter_measured():
    pictures = [picture for path in ORIGINALS for picture in covers(nbformat.read(path, as_version=4))]
    assert pictures == [(BOOK / "_static" / COVER).read_bytes()]


def test_the_numbers_on_the_first_page_are_printed_by_the_chapter_beside_them():
    text = (BOOK / "index.md").read_text(encoding="utf-8")
    cards = re.findall(r"\{grid-item-card\} ([\d.,]+%?) [a-z ]+\n:link: (\d\d[a-z]?-[\w-]+)\n", text)
    assert len(cards) == 3
    for number, chapter in cards:
        printed = json.dumps(outputs(nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)))
        assert re.search(rf"(?<![\d.,]){re.escape(number)}", printed), f"{chapter} prints no {number}"


def test_is_valid(path):
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
    nbformat.validate(raw)


def test_was_executed_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run it again with make notebooks"


def test_code_is_what_was_executed(notebook):
    stored = notebook.metadata.get("kdutils", {}).get("source_sha256")
    assert stored == source_sha256(notebook), "a code cell was edited after the run: make notebooks"


def test_holds_no_error_and_nothing_from_stderr(notebook):
    bad = [o for o in outputs(notebook) if o.output_type == "error" or o.get("name") == "stderr"]
    assert not bad


def test_holds_no_widget(notebook):
    assert "widgets" not in notebook.metadata
    assert not [o for o in outputs(notebook) if any("widget" in mime for mime in o.get("data", {}))]


def test_metadata_say_nothing_of_one_run(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info", "kdutils", "accelerator", "colab"}
    assert notebook.metadata.accelerator == "GPU", "Colab would start it without a GPU"
    assert notebook.metadata.colab == {"gpuType": "T4", "provenance": []}
    assert set(notebook.metadata.kdutils) == {"quick", "source_sha256"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.language_info
    for cell in notebook.cells:
        assert set(cell.metadata) <= set(KEPT), cell.id
    assert [cell.id for cell in notebook.cells] == [f"cell-{i:02d}" for i in range(1, len(notebook.cells) + 1)]


def test_begins_with_a_title_and_the_colab_cell(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert re.match(r"# \S", notebook.cells[0].source)
    assert code_cells(notebook)[0].source == COLAB_CELL.format(*current_repository())


def folded(cell) -> bool:
    return "hide-input" in cell.metadata.get("tags", [])


def test_folded_code_says_what_it_does_and_open_code_has_no_title(notebook):
    for cell in code_cells(notebook):
        assert cell.source.startswith(TITLE) == folded(cell), cell.id
        assert cell.metadata.get("cellView") == ("form" if folded(cell) else None), f"{cell.id}: for Colab"
        if folded(cell):
            title = cell.source.splitlines()[0].removeprefix(TITLE)
            assert re.fullmatch(r"[A-Z].{4,58}[^.\s]", title), f"{cell.id}: {title!r}"


def test_code_that_sets_up_or_draws_is_folded(notebook):
    for cell in code_cells(notebook):
        source = cell.source
        sets_up = "parameters" in cell.metadata.get("tags", []) or "check_parameters(" in source
        assert folded(cell) or not sets_up, f"{cell.id} sets up"
        assert folded(cell) or "plt.show(" not in source, f"{cell.id} draws"


def test_colours_are_named_by_what_they_mean(notebook):
    unnamed = r"COLOURS|\b(BLUE|ORANGE|GREEN)\b|[\"']#[0-9a-fA-F]{3,8}[\"']|\bcolor=[\"'](?!black|white)"
    for cell in code_cells(notebook):
        found = re.search(unnamed, cell.source)
        assert found is None, f"{cell.id}: {found}"


def test_less_than_half_of_the_code_is_open(notebook):
    lines = {state: 1 for state in (True, False)}
    for cell in code_cells(notebook):
        lines[folded(cell)] += len(cell.source.splitlines())
    assert lines[False] < 0.45 * sum(lines.values()), f"{lines[False]} lines are open, {lines[True]} folded"


def test_has_one_title(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


def test_has_one_parameters_cell_which_is_checked_next(notebook):
    assert len(tagged(notebook, "parameters")) == 1
    cells = code_cells(notebook)
    place = cells.index(tagged(notebook, "parameters")[0])
    assert "check_parameters(" in cells[place + 1].source
    for name in parameters(notebook):
        assert name.isupper(), f"{name}: parameters are written in capitals"


def test_has_a_cell_whose_output_is_compared(notebook):
    compared = tagged(notebook, "nbval-check-output")
    assert compared
    for cell in compared:
        assert any("text" in o or "data" in o for o in cell.outputs), f"{cell.id} has no output to compare"
        for output in cell.outputs:
            assert "image/png" not in output.get("data", {}), f"{cell.id}: nbval does not compare pictures"


def test_markdown_reads_well_outside_of_the_site(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = MYST.search(cell.source)
            assert not found, f"{cell.id}: MyST syntax {found[0]!r} shows raw in Colab and on GitHub"
            assert not cell.get("attachments"), cell.id


def test_pictures_have_alt_text(notebook):
    for cell in code_cells(notebook):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) >= 40, f"{cell.id}: alt text {alt!r} says too little"


def test_outputs_are_small(path, notebook):
    for cell in code_cells(notebook):
        assert len(json.dumps(cell.outputs)) <= 300_000, cell.id
    assert path.stat().st_size <= 1_500_000


def headings_of(notebook) -> list[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^##+ +.+$", text, re.MULTILINE)


def test_has_the_lesson_skeleton(path, notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if path not in ORIGINALS:
        levels, wanted = (
            [heading.split()[0] for heading in headings_of(nbformat.read(one, as_version=4))]
            for one in (path, original(path))
        )
        assert levels == wanted, f"a translation has the headings of {original(path).name}, in their order"
        return
    headings = headings_of(notebook)
    places = [[i for i, heading in enumerate(headings) if part in heading] for part in SKELETON]
    assert all(places), f"of {SKELETON} only {[p for p, at in zip(SKELETON, places, strict=True) if at]} are there"
    assert places[0][0] == min(min(at) for at in places)
    assert "<details>" in text and "<summary>" in text, "the exercises have no folded solution"


# --- with other parameters ---------------------------------------------------------------------------------------


def parameters(notebook) -> dict[str, object]:
    """Names and default values in the parameters cell: plain literals, each with its type."""
    body = ast.parse(tagged(notebook, "parameters")[0].source).body
    for statement in body:
        assert isinstance(statement, ast.AnnAssign), f"write NAME: type = value, got {ast.unparse(statement)}"
    return {statement.target.id: ast.literal_eval(statement.value) for statement in body}


def check_with(notebook, **changed) -> None:
    """Run, in this process, what the notebook does up to the check of its parameters."""
    cells = code_cells(notebook)
    place = cells.index(tagged(notebook, "parameters")[0])
    namespace: dict[str, object] = {"__name__": "__main__"}
    for cell in cells[1 : place + 1]:
        lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith("%")]
        exec("\n".join(lines), namespace)
    namespace.update(changed)
    for statement in ast.parse(cells[place + 1].source).body:
        exec(compile(ast.Module([statement], []), "check", "exec"), namespace)
        if "check_parameters(" in ast.unparse(statement):
            break


def run(path: Path, tmp_path: Path, **changed):
    return papermill.execute_notebook(
        path, tmp_path / path.name, parameters=changed, cwd=BOOK, kernel_name="python3", progress_bar=False
    )


def test_declares_quick_parameters_that_exist(notebook):
    quick = notebook.metadata.kdutils.quick
    assert quick.get("DATASET") == "digits"
    assert set(quick) <= set(parameters(notebook))
    check_with(notebook, **quick)


def test_accepts_its_own_defaults(notebook):
    check_with(notebook)


@pytest.mark.parametrize("unknown", ["NO_SUCH_PARAMETER", "temperature", "seed"])
def test_refuses_an_unknown_parameter(notebook, unknown):
    with pytest.raises(ValueError, match=rf"unknown.*{unknown}"):
        check_with(notebook, **{unknown: 4.0})


@pytest.mark.parametrize("bad", [{"a": "mapping"}, "no-such-value", -12345, float("nan"), None, []], ids=repr)
def test_refuses_a_bad_value_of_every_parameter(notebook, bad):
    for name in parameters(notebook):
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            check_with(notebook, **{name: bad})


# With its quick parameters, and with its solutions, each chapter is run in test_colab.py. Here is what papermill does
# with a wrong one; that every chapter's own check refuses it is tested above, without a kernel.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "named"), [({"NO_SUCH_PARAMETER": 1}, "NO_SUCH_PARAMETER"), ({"DATASET": "cifar"}, "DATASET")]
)
def test_a_chapter_stops_at_a_wrong_parameter_in_papermill(tmp_path, changed, named):
    with pytest.raises(PapermillExecutionError) as caught:
        run(ORIGINALS[0], tmp_path, **changed)
    assert caught.value.ename == "ValueError"
    assert named in caught.value.evalue


# --- the guards themselves ---------------------------------------------------------------------------------------


def test_myst_is_recognised():
    for raw in ("```{note}\ntext\n```", ":::{tip}\n:::", "see {ref}`there`", "a {cite:p}`hinton`"):
        assert MYST.search(raw)
    for plain in ("```python\n{}\n```", "$\\frac{a}{b}$", "the set {a}, `{b}`", "$$\\sum_{i} p_{i}$$"):
        assert not MYST.search(plain)


@pytest.fixture
def tiny(tmp_path) -> Path:
    """An executed notebook with one compared cell."""
    cell = nbformat.v4.new_code_cell(
        "print(6 * 7)",
        execution_count=1,
        metadata={"tags": ["nbval-check-output"]},
        outputs=[nbformat.v4.new_output("stream", name="stdout", text="42\n")],
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    target = tmp_path / "tiny.ipynb"
    nbformat.write(notebook, target)
    return target


def nbval(path: Path) -> int:
    """Exit status of the command that `make test` runs on the chapters."""
    command = [sys.executable, "-m", "pytest", "-c", str(BOOK.parent / "pyproject.toml"), "--nbval-lax", str(path)]
    return subprocess.run(command, check=False, capture_output=True, cwd=path.parent, timeout=120).returncode


@pytest.mark.slow
def test_a_tampered_output_fails_nbval(tiny):
    assert nbval(tiny) == 0
    text = tiny.read_text()
    assert text.count("42\\n") == 1
    tiny.write_text(text.replace("42\\n", "41\\n"))
    assert nbval(tiny) == 1


def test_an_edited_cell_fails_the_hash(tmp_path):
    for path in ORIGINALS[:1]:
        copy = shutil.copy(path, tmp_path)
        notebook = nbformat.read(copy, as_version=4)
        code_cells(notebook)[-1].source += "\n# edited"
        assert notebook.metadata.kdutils.source_sha256 != source_sha256(notebook)
