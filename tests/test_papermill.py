"""What users of papermill are told: the help of every parameter, the page on CI, and the workflow on that page."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from tests.pages import NOTEBOOKS
from tools.set_repository import current_repository

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / "book" / "examples" / "run-a-chapter.yml"
PAGE = (ROOT / "book" / "ci.md").read_text(encoding="utf-8")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def default_values(path: Path) -> dict[str, object]:
    (cell,) = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    return {s.target.id: ast.literal_eval(s.value) for s in ast.parse(cell.source).body}


def is_of_type(value: object, written: str) -> bool:
    """Whether a value is of the type that stands in its annotation, such as `list[float]`."""
    container, _, inner = written.rstrip("]").partition("[")
    if type(value).__name__ != container:
        return False
    return isinstance(value, list) == bool(inner) and (not inner or all(is_of_type(entry, inner) for entry in value))


def test_every_parameter_has_type_help_and_default(path):
    known = papermill.inspect_notebook(path)
    values = default_values(path)
    assert list(known) == list(values)
    for name, told in known.items():
        assert is_of_type(values[name], told["inferred_type_name"]), f"{name}: {told['inferred_type_name']}"
        assert ast.literal_eval(told["default"]) == values[name]
        assert len(told["help"]) >= 8, f"{name}: {told['help']!r} is no help"


@pytest.mark.parametrize(
    ("value", "written", "right"),
    [(1, "int", True), (1, "float", False), ([1.0], "list[float]", True), ([1], "list[float]", False)]
    + [([1], "list", False), (1, "None", False), (True, "int", False), ("a", "str", True)],
)
def test_a_wrong_type_is_noticed(value, written, right):
    assert is_of_type(value, written) is right


def help_of(path: str) -> str:
    command = [sys.executable, "-m", "papermill", "--help-notebook", path]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", cwd=ROOT).stdout


@pytest.mark.slow
def test_the_command_says_so_too():
    path = ROOT / "book" / "04-mnist.ipynb"
    text = help_of(f"book/{path.name}")
    assert "Unknown type" not in text
    for name, told in papermill.inspect_notebook(path).items():
        assert re.search(rf"^  {name}: {re.escape(told['inferred_type_name'])} \(default ", text, re.MULTILINE)
        assert told["help"] in text


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints():
    (shown,) = re.findall(r"^```text\n(Usage: .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    printed = help_of("book/04-mnist.ipynb").splitlines()
    assert shown.splitlines() == [line.replace("python -m papermill", "papermill").rstrip() for line in printed]


def test_the_page_is_easy_to_find():
    assert "](book/ci.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](ci.md)" in (ROOT / "book" / "index.md").read_text(encoding="utf-8")


# --- the workflow ------------------------------------------------------------------------------------------------


def job() -> dict:
    (only,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    return only


def test_the_page_includes_the_workflow_and_fetches_the_book():
    assert re.search(r"^```\{literalinclude\} examples/run-a-chapter\.yml$", PAGE, re.MULTILINE)
    owner, name = current_repository()
    assert f"git clone --depth 1 https://github.com/{owner}/{name} measured" in [s.get("run") for s in job()["steps"]]


@pytest.mark.slow
def test_make_lint_covers_the_workflow(tmp_path):
    """With the linters that `make lint` names, on a copy of what they look at."""
    command = ["make", "--dry-run", "lint"]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", cwd=ROOT).stdout
    (command,) = [line for line in printed.splitlines() if "vendor.github-workflows" in line]
    for folder in (".github/workflows", "book/examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    assert subprocess.run(command, shell=True, check=False, capture_output=True, cwd=tmp_path).returncode == 0
    copy = tmp_path / WORKFLOW.relative_to(ROOT)
    copy.write_text(copy.read_text(encoding="utf-8").replace("runs-on:", "run-on:"), encoding="utf-8")
    assert subprocess.run(command, shell=True, check=False, capture_output=True, cwd=tmp_path).returncode != 0


class Runner:
    """A fresh machine after `actions/setup-python`: a folder, and a Python with pip, but no package of the book."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder / "workspace"
        self.folder.mkdir()
        python = folder / "setup-python"
        subprocess.run(["uv", "venv", "--quiet", "--seed", "--python", sys.executable, python], check=True)
        # The build of torch is left to this machine, and its version to the pins: any other means gigabytes.
        own = {key: value for key, value in job()["env"].items() if key != "UV_TORCH_BACKEND"}
        path = [str(python / "bin"), *(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p)]
        pins = {"UV_CONSTRAINT": str(ROOT / "requirements.txt")}
        self.environment = environment | own | pins | {"PATH": os.pathsep.join(path)}

    def run(self, script: str) -> subprocess.CompletedProcess:
        """As GitHub runs a step."""
        command = ["bash", "-e", "-c", script]
        return subprocess.run(
            command, check=False, capture_output=True, encoding="utf-8", cwd=self.folder, env=self.environment
        )


@pytest.fixture(scope="module")
def runner(tmp_path_factory, published) -> Runner:
    """After the steps of the workflow, which all went well."""
    runner = Runner(tmp_path_factory.mktemp("runner"), published.environment)
    for step in job()["steps"]:
        if "run" in step:
            done = runner.run(step["run"])
            assert done.returncode == 0, f"{step['name']}: {done.stderr[-6000:]}"
    return runner


@pytest.mark.slow
def test_the_workflow_runs_the_chapter(runner, published):
    assert runner.run("git -C measured rev-parse HEAD").stdout.strip() == published.commit
    where = runner.run(".venv/bin/python -c 'import kdutils; print(kdutils.__file__)'").stdout.strip()
    assert Path(where).is_relative_to(runner.folder / ".venv"), where
    (uploaded,) = [step["with"]["path"] for step in job()["steps"] if "upload-artifact" in step.get("uses", "")]
    notebook = nbformat.read(runner.folder / uploaded, as_version=4)
    (injected,) = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert {'DATASET = "digits"', "SEEDS = 3", "TEMPERATURE = 4.0"} <= set(injected.source.splitlines())
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert "seeds    0, 1, 2\n" in "".join(output.get("text", "") for output in code[-1].outputs)


@pytest.mark.slow
def test_a_list_is_given_as_the_page_says(runner):
    (command,) = re.findall(r"^papermill book/(02-soft-targets.ipynb out.ipynb \\\n.*)$", PAGE, re.MULTILINE)
    done = runner.run(f".venv/bin/papermill --prepare-only measured/book/{command}")
    assert done.returncode == 0, done.stderr
    lines = [cell.source.splitlines() for cell in nbformat.read(runner.folder / "out.ipynb", as_version=4).cells]
    assert ["# Parameters", 'DATASET = "digits"', "TEMPERATURES = [1.0, 2.0, 4.0]"] in map(sorted, lines)


MESSAGES = re.findall(r"^\| `(-p [^`]+)` \| `(\w+: [^`]+)` \|$", PAGE, re.MULTILINE)


def test_the_page_has_messages():
    assert len(MESSAGES) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("written", "message"), MESSAGES, ids=[written for written, _ in MESSAGES])
def test_a_failure_reads_as_the_page_says(runner, written, message):
    done = runner.run(f"rm -f failed.ipynb; .venv/bin/papermill measured/book/04-mnist.ipynb failed.ipynb {written}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == message
    assert nbformat.read(runner.folder / "failed.ipynb", as_version=4).cells[0].source.count("#papermill-error-cell")


@pytest.mark.slow
def test_a_cell_that_takes_too_long_fails_the_step(runner):
    chapter = "measured/book/04-mnist.ipynb late.ipynb -p DATASET digits"
    done = runner.run(f"rm -f late.ipynb; .venv/bin/papermill --execution-timeout 1 {chapter}")
    assert done.returncode == 1
    assert "timed out" in done.stderr
    assert (runner.folder / "late.ipynb").is_file()
