"""What must agree between files: the repository's address, the pins, the workflow; and the tools that change them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import kdutils
from kdutils.results import write_atomically
from tests.pages import ORIGINALS
from tools import execute_notebooks
from tools import set_repository as repository_tool
from tools.set_repository import AUTHORS, current_repository, set_repository, text_files

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]
ADDRESSES = (
    r"git\+https://github\.com/([\w-]+)/([\w.-]+?)(?=[\s\"'\\]|$)",
    r"colab\.research\.google\.com/github/([\w-]+)/([\w.-]+?)/",
    r"https?://([\w-]+)\.github\.io/([\w.-]+?)(?=[/\s\"')])",
)


# --- the address -------------------------------------------------------------------------------------------------


def test_the_address_is_the_same_everywhere():
    expected = current_repository()
    owner, name = expected
    url = f"https://github.com/{owner}/{name}"
    assert PROJECT["project"]["urls"]["Repository"] == url
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"] == url
    assert f"https://{owner}.github.io/{name}/" in (ROOT / "README.md").read_text(encoding="utf-8")
    baseurl = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
    assert baseurl == f"https://{owner}.github.io/{name}/"
    found = 0
    for path in text_files(ROOT):
        text = path.read_text(encoding="utf-8")
        for pattern in ADDRESSES:
            for match in re.finditer(pattern, text):
                if (match[1], match[2]) in {("you", "your-book")}:
                    continue
                found += 1
                assert (match[1], match[2]) == expected, f"{path.name}: {match[0]}"
    assert found >= 3


@pytest.fixture
def copy(tmp_path) -> Path:
    """The project's text without environment and site."""
    target = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", ".venv", "_build", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis")
    return Path(shutil.copytree(ROOT, target, ignore=ignored))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in text_files(folder)}


def test_set_repository_rewrites_a_copy_and_back(copy):
    owner, name = current_repository(copy)
    before = contents(copy)
    changed = set_repository("https://github.com/someone-else/another.book/", copy)
    assert {"_config.yml", "pyproject.toml", "CITATION.cff", "README.md"} <= {path.name for path in changed}
    assert {path.name for path in (copy / "book").glob("*.ipynb")} <= {path.name for path in changed}
    assert current_repository(copy) == ("someone-else", "another.book")
    for name_, content in contents(copy).items():
        assert f"{owner}/{name}".encode() not in content, name_
        assert f"{owner}.github.io".encode() not in content, name_
    for path in (copy / "book").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        stored = notebook.metadata.kdutils.source_sha256
        assert stored == execute_notebooks.source_sha256(notebook), "the hash of the code was not renewed"
    set_repository(f"https://github.com/{owner}/{name}", copy)
    assert contents(copy) == before


def test_set_repository_leaves_similar_names_alone(copy):
    owner, name = current_repository(copy)
    text = f"https://github.com/{owner}/{name}-extras https://github.com/{owner}/{name}.wiki\n"
    (copy / "similar.md").write_text(text + f"See https://github.com/{owner}/{name}. Or {name}.\n", encoding="utf-8")
    set_repository("https://github.com/a/b", copy)
    assert (copy / "similar.md").read_text(encoding="utf-8") == text + f"See https://github.com/a/b. Or {name}.\n"


@pytest.mark.parametrize("url", ["", "someone/book", "https://gitlab.com/a/b", "https://github.com/a", "a b"])
def test_set_repository_refuses_other_addresses(copy, url):
    before = contents(copy)
    with pytest.raises(ValueError, match="https://github.com/owner/name"):
        set_repository(url, copy)
    assert contents(copy) == before


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("done", [0, 3, -1])
def test_set_repository_that_is_stopped_half_way_can_be_called_again(copy, monkeypatch, failure, done):
    before, url = contents(copy), "https://github.com/someone-else/another-book"
    changed = len(set_repository(url, copy))
    finished = contents(copy)
    set_repository("https://github.com/{}/{}".format(*current_repository()), copy)
    assert contents(copy) == before
    calls = []

    def fail_once(path, content):
        calls.append(path)
        if len(calls) == (done % changed) + 1:
            raise failure
        write_atomically(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(repository_tool, "write_atomically", fail_once)
        with pytest.raises(type(failure)):
            set_repository(url, copy)
    if isinstance(failure, OSError):
        assert contents(copy) == before, "all or nothing"
    set_repository(url, copy)
    assert contents(copy) == finished


def test_a_new_address_makes_nothing_to_install(copy):
    times = (copy / "pyproject.toml").stat().st_mtime_ns
    assert copy / "pyproject.toml" in set_repository("https://github.com/a/b", copy)
    assert (copy / "pyproject.toml").stat().st_mtime_ns == times


def test_set_repository_says_where_the_authors_stand(monkeypatch, capsys):
    monkeypatch.setattr(repository_tool, "set_repository", lambda url: [])
    monkeypatch.setattr(sys, "argv", ["set_repository", "https://github.com/a/b"])
    assert repository_tool.main() == 0
    said = capsys.readouterr().out
    assert "Authors and licence are as they were" in said
    for name, what in AUTHORS.items():
        assert f"{name}: {what}" in said
        assert re.search(r"The authors of .?Knowledge Distillation", (ROOT / name).read_text(encoding="utf-8"))


# --- the page of trained weights ---------------------------------------------------------------------------------

WEIGHTS = (ROOT / "book" / "weights.md").read_text(encoding="utf-8")
WORDS = r"\d+ errors of 10,000 \w+ images".replace(" ", r"\s+")  # they may stand on two lines
ENTRY = re.compile(
    r"\n- \*\*`(?P<name>.+?)`\*\*, (?P<bytes>[\d,]+)\s+bytes:"
    rf"(?:\s+`(?P<network>.+?)`,\s+(?P<parameters>[\d,]+)\s+parameters,\s+(?P<errors>{WORDS})\.)?"
)


def listed_weights() -> dict[str, tuple[str | None, int, int, str]]:
    """From each path to its network, its parameters, its bytes and what is said of its errors."""
    rows = {}
    for folder, part in re.findall(r"^## In `(.+?)`$(.*?)(?=^## )", WEIGHTS, re.MULTILINE | re.DOTALL):
        for entry in ENTRY.finditer(part):
            parameters, size = (int((entry[key] or "0").replace(",", "")) for key in ("parameters", "bytes"))
            errors = " ".join((entry["errors"] or "").split())
            rows[f"{folder}/{entry['name']}"] = entry["network"], parameters, size, errors
    return rows


def published_errors(path: Path) -> str:
    """What the record beside the weights says."""
    record = kdutils.load_results(path.with_suffix(".json"))["notes"]
    if "val_errors" in record:
        return f"{record['val_errors']} errors of 10,000 validation images"
    return f"{record['run']['test_errors']} errors of 10,000 test images"


def test_every_file_of_weights_is_listed_with_its_size_and_its_sum():
    folders = (ROOT / "book" / "results", ROOT / "book" / "_static" / "playground")
    files = {path.relative_to(ROOT).as_posix(): path for folder in folders for path in folder.rglob("*.safetensors")}
    assert {name: path.stat().st_size for name, path in files.items()} == {
        name: size for name, (_, _, size, _) in listed_weights().items()
    }
    sums = {name: value for value, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", WEIGHTS, re.MULTILINE)}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_no_other_weights_lie_in_the_book():
    """Where the list above looks for none."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "book").rglob("*.safetensors")}
    assert files == set(listed_weights())


def test_the_listed_networks_and_errors_are_those_of_the_records():
    playground = kdutils.load_results(ROOT / "book" / "_static" / "playground" / "playground.json")["networks"]
    records = {record["file"]: record for record in playground.values()}
    for name, (network, parameters, _, errors) in listed_weights().items():
        path = ROOT / name
        if not network:
            assert "logits" in path.name and not parameters and not errors
            continue
        built = eval(f"kdutils.{network}")
        assert parameters == kdutils.count_parameters(built), name
        if path.name in records:
            record = records[path.name]
            architecture, config = record["architecture"], record["config"]
            assert errors == f"{record['test_errors']['stored']} errors of 10,000 test images"
        else:
            architecture, config = type(built).__name__, kdutils.load_model(path).config
            assert errors == published_errors(path)
        assert architecture == type(built).__name__
        assert json.loads(json.dumps(built.config)).items() >= config.items()


def test_the_listed_lines_load_the_weights(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "book" / "experiments")
    import playground

    names: dict = {}
    for program in re.findall(r"^```python\n(.*?)^```$", WEIGHTS, re.MULTILINE | re.DOTALL):
        exec(program, names)
    assert kdutils.count_parameters(names["teacher"]) == 206_922
    assert names["logits"].shape == (60_000, 10) and names["logits"].dtype == torch.float32
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    recorded = kdutils.load_results(playground.RECORD)["networks"]
    for name, network in (("distilled", kdutils.MLP((128,))), ("labels", kdutils.MLP((128,)))):
        loaded = names["from_playground"](names["folder"] / f"{name}.safetensors", network)
        assert torch.equal(loaded(images), playground.restored(recorded[name])(images))
    assert torch.equal(names["student"](images), playground.restored(recorded["distilled"])(images))


# --- the page of notation ----------------------------------------------------------------------------------------

COMMANDS = re.compile(r"\\(?:text|mathrm|tag|begin|end)\{[^}]*\}|_\\text\{[^}]*\}")
NO_SYMBOLS = {"d", "e", "x", "m"}  # of dH/dT, of the exponential, of a function's argument, of a derivation


def letters(markdown: str) -> set[str]:
    """Which letters stand in the formulas of a text, Greek ones by their commands."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    formulas = re.findall(r"\$\$.*?\$\$|\$[^$\n]+\$", text, re.DOTALL)
    greek = r"\\(?:alpha|delta|varepsilon|lambda|mu)\b"
    found = [re.findall(rf"{greek}|(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", COMMANDS.sub(" ", f)) for f in formulas]
    return {letter for of_one in found for letter in of_one}


def test_the_letters_that_chapters_share_stand_in_the_notation():
    text = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
    symbols = set().union(*(letters(row.split(" | ")[0]) for row in text.splitlines() if row.startswith("| ")))
    used: dict[str, list[str]] = {}
    for path in ORIGINALS:
        cells = nbformat.read(path, as_version=4).cells
        for letter in letters("\n".join(cell.source for cell in cells if cell.cell_type == "markdown")):
            used.setdefault(letter, []).append(path.stem)
    shared = {letter for letter, chapters in used.items() if len(chapters) > 1} - NO_SYMBOLS
    assert {"T", "C", "N", "P", "Q", "w"} <= shared, "the formulas were not read"
    assert shared <= symbols, {letter: used[letter] for letter in shared - symbols}


# --- requirements ------------------------------------------------------------------------------------------------


def test_every_requirement_is_pinned_and_names_no_host():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|^-", text, re.MULTILINE)
    for pin in PINS:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], str(pin)


def test_requirements_meet_the_projects_ranges():
    pinned = {pin.name.lower(): pin for pin in PINS if pin.marker is None or pin.marker.evaluate()}
    wanted = PROJECT["project"]["dependencies"] + sum(PROJECT["project"]["optional-dependencies"].values(), [])
    for requirement in map(Requirement, wanted):
        pin = pinned[requirement.name.lower()]
        (specifier,) = pin.specifier
        assert requirement.specifier.contains(specifier.version), f"{pin} is not {requirement}: make lock"


def test_the_environment_is_the_pinned_one():
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate():
            installed = Version(version(pin.name)).public  # without "+cpu" or "+cu130"
            assert pin.specifier.contains(installed), f"{pin.name} {installed} is installed, {pin} is pinned"


def test_no_cuda_library_is_pinned():
    """Or UV_TORCH_BACKEND=cpu would install several GB for nothing."""
    assert not [pin.name for pin in PINS if re.match(r"nvidia|cuda|triton", pin.name)]


def test_the_site_is_built_by_version_1():
    assert "jupyter-book==1.0.4.post1" in map(str, PINS)


# --- workflow ----------------------------------------------------------------------------------------------------


def lint_workflow(path: Path) -> int:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def test_the_workflow_is_valid():
    assert lint_workflow(ROOT / ".github" / "workflows" / "book.yml") == 0


def test_a_broken_workflow_is_noticed(tmp_path):
    text = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    broken = tmp_path / "book.yml"
    broken.write_text(text.replace("runs-on:", "run-on:", 1), encoding="utf-8")
    assert lint_workflow(broken) != 0


def test_the_workflow_runs_what_a_contributor_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in [command.strip() for command in commands]
    assert workflow["permissions"] == {"contents": "read"}
    # YAML reads the key "on" as true.
    assert set(workflow[True]) == {"push", "pull_request", "schedule", "workflow_dispatch"}


# --- running the chapters ----------------------------------------------------------------------------------------


def write(path: Path, *sources: str, **metadata) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# Title"), *map(nbformat.v4.new_code_cell, sources)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, path)
    return path


def make_notebooks(book: Path, *names: str) -> int:
    return execute_notebooks.main(["--book", str(book), "--any-data", *names])


@pytest.mark.slow
def test_a_second_run_changes_nothing(tmp_path, capfd):
    noisy = """
import sys, warnings
print("a"); print("progress 3it/s", file=sys.stderr); warnings.warn("look here"); print("b")
"""
    path = write(tmp_path / "01-tiny.ipynb", noisy, "1 + 1", kdutils={"quick": {"DATASET": "digits"}}, other="gone")
    assert make_notebooks(tmp_path) == 0
    assert "look here" in capfd.readouterr().err
    first = path.read_bytes()
    assert make_notebooks(tmp_path, "01-tiny") == 0
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["cell-01", "cell-02", "cell-03"]
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2]
    assert [output.text for output in notebook.cells[1].outputs] == ["a\nb\n"]
    assert notebook.metadata.kdutils.quick == {"DATASET": "digits"}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "kdutils", "accelerator", "colab"}
    assert all(not cell.metadata for cell in notebook.cells)
    table = (tmp_path / "results" / "chapter-times.md").read_text(encoding="utf-8")
    assert "| [01-tiny](01-tiny.ipynb) | 0." in table and "- **A**: python" in table
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-tiny.ipynb", "results"]


@pytest.mark.slow
def test_a_failed_run_leaves_the_notebook_alone(tmp_path, capfd):
    path = write(tmp_path / "01-bad.ipynb", "print(1)", "1 / 0")
    good = write(tmp_path / "02-good.ipynb", "print(1)")
    before, good_before = path.read_bytes(), good.read_bytes()
    assert make_notebooks(tmp_path) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert path.read_bytes() == before
    assert good.read_bytes() != good_before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-bad.ipynb", "02-good.ipynb", "results"]


def test_an_unknown_chapter_is_named(tmp_path, capfd):
    assert make_notebooks(tmp_path, "99-none") == 1
    assert "99-none" in capfd.readouterr().err


def test_published_results_are_those_of_mnist(tmp_path, capfd, monkeypatch):
    write(tmp_path / "01-tiny.ipynb", "1")
    monkeypatch.setattr(execute_notebooks, "load_dataset", lambda name: type("Data", (), {"name": "digits"}))
    assert execute_notebooks.main(["--book", str(tmp_path)]) == 1
    assert "KD_DATA" in capfd.readouterr().err


@pytest.fixture
def executed(monkeypatch) -> list[str]:
    """The names of the notebooks that would have been run."""
    names = []
    monkeypatch.setattr(execute_notebooks, "execute", lambda path: names.append(path.name) or 0.1)
    monkeypatch.setattr(execute_notebooks, "load_dataset", lambda name: type("Data", (), {"name": "digits"}))
    return names


@pytest.mark.parametrize("name", ["08-speed.de", "08-speed.de.ipynb", "book/08-speed.de.ipynb"])
def test_the_chapter_that_is_named_is_the_one_that_runs(tmp_path, capfd, executed, name):
    write(tmp_path / "08-speed.ipynb", "1")
    assert make_notebooks(tmp_path, name) == 1
    assert "no such notebook" in capfd.readouterr().err
    write(tmp_path / "08-speed.de.ipynb", "1")
    assert make_notebooks(tmp_path, name) == 0
    assert executed == ["08-speed.de.ipynb"]


def test_where_nothing_can_be_written_no_chapter_runs(tmp_path, capsys, executed):
    import resource

    write(tmp_path / "01-tiny.ipynb", "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as a full disk
    try:
        assert make_notebooks(tmp_path) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert "01-tiny was not run: nothing can be written in" in said and str(tmp_path) in said
    assert not executed
    assert [path.name for path in tmp_path.iterdir()] == ["01-tiny.ipynb"]


def test_a_result_that_cannot_be_stored_is_said_in_a_sentence(tmp_path, capfd, executed, monkeypatch):
    write(tmp_path / "01-tiny.ipynb", "1")

    def fail(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(execute_notebooks, "write_atomically", fail)
    assert make_notebooks(tmp_path) == 1
    assert "01-tiny ran, but was not stored: [Errno 28] No space left" in capfd.readouterr().err


@pytest.mark.slow
def test_an_installed_package_brings_results_and_scripts_along(tmp_path):
    """As in Colab, where a chapter has no checkout around it."""
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*install, "--target", tmp_path / "site", ROOT], check=True, cwd=tmp_path)
    program = (
        "from kdutils.notebook import published_results\nfrom kdutils.play import page_scripts\n"
        "for folder in published_results(), page_scripts():\n"
        "    print(folder); print(*sorted(file.name for file in folder.iterdir()))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    folder, names, scripts, files = done.stdout.splitlines()
    assert Path(folder) == tmp_path / "site" / "kdutils" / "published", done.stderr
    assert {"mnist-choice.json", "mnist-teacher.safetensors", "mnist-teacher.json"} <= set(names.split())
    assert Path(scripts) == tmp_path / "site" / "kdutils" / "pages"
    assert {"figure.css", "figure.js", "probability.js", "temperature.js", "loss.js"} <= set(files.split())
