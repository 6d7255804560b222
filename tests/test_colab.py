"""Each chapter and its solutions where Colab opens it, in the oldest environment that is allowed; and the way there."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup, SoupStrainer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.pages import NOTEBOOKS
from tools.set_repository import current_repository

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OLDEST_PYTHON = PROJECT["requires-python"].removeprefix(">=")
KERNEL = [requirement for requirement in EXTRAS["book"] if requirement.startswith("ipykernel")]


# --- environments of the oldest versions -------------------------------------------------------------------------


def oldest_environment(name: str, *extra: str) -> Path:
    """Python of an environment with the lower bounds in pyproject.toml, of `extra` too; kept until anything changes."""
    folder = ROOT / ".venv" / name
    wanted = [*PROJECT["dependencies"], *extra]
    order = "\n".join([OLDEST_PYTHON, os.environ.get("UV_TORCH_BACKEND", ""), *wanted])
    python, state = folder / "bin" / "python", folder / "state"
    if python.exists():
        uv("pip", "uninstall", "--quiet", f"--python={python}", PROJECT["name"])
    if not state.is_file() or state.read_text() != f"{order}\n{installed(python)}":
        shutil.rmtree(folder, ignore_errors=True)
        uv("venv", "--quiet", "--seed", "--python", OLDEST_PYTHON, str(folder))
        options = ["--quiet", "--resolution=lowest-direct", "--only-binary=:all:"]
        uv("pip", "install", *options, f"--python={python}", *wanted)
        state.write_text(f"{order}\n{installed(python)}")
    return python


def uv(*arguments: str) -> None:
    # Not in the project's folder: there uv would read the pins that `make lock` uses.
    elsewhere = tempfile.gettempdir()
    done = subprocess.run(["uv", *arguments], check=False, capture_output=True, text=True, cwd=elsewhere)
    if done.returncode != 0:
        pytest.fail(f"uv {' '.join(arguments)}\n{done.stderr}", pytrace=False)


def site_packages(python: Path) -> Path:
    (folder,) = python.parents[1].glob("lib/python*/site-packages")
    return folder


def installed(python: Path) -> dict[str, tuple[int, int]]:
    """Name and version of each package, and which file says what belongs to it: another one if installed again."""
    records = [(path.name, path / "RECORD") for path in site_packages(python).glob("*.dist-info")]
    return {name: (record.stat().st_ino, record.stat().st_mtime_ns) for name, record in sorted(records)}


def versions(python: Path) -> dict[str, Version]:
    pairs = [name.removesuffix(".dist-info").rsplit("-", 1) for name in installed(python)]
    return {canonicalize_name(name): Version(Version(number).public) for name, number in pairs}


@pytest.fixture(scope="session")
def colab(package_index) -> Path:
    """Has what Colab has: the packages that kdutils needs, another pair of torch and numpy than the pins, a kernel."""
    return oldest_environment("oldest", *KERNEL)


@pytest.fixture(scope="session")
def oldest_with_tests(package_index) -> Path:
    return oldest_environment("oldest-with-tests", *EXTRAS["book"], *EXTRAS["test"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["colab", "oldest_with_tests"])
def test_the_oldest_versions_are_the_lower_bounds(name, request):
    found = versions(request.getfixturevalue(name))
    wanted = PROJECT["dependencies"] + (KERNEL if name == "colab" else EXTRAS["book"] + EXTRAS["test"])
    for requirement in map(Requirement, wanted):
        (bound,) = requirement.specifier
        assert bound.operator in (">=", "=="), f"{requirement} has no lower bound"
        assert found[canonicalize_name(requirement.name)] == Version(bound.version), requirement
    for package in ("torch", "torchvision", "numpy", "matplotlib"):
        assert found[package] < Version(Version(version(package)).public), f"{package} is no other than the pinned one"


@pytest.mark.slow
def test_the_package_works_with_the_oldest_versions(oldest_with_tests, tmp_path):
    modules = [path.stem for path in (ROOT / "kdutils").iterdir()]  # folders too
    tests = sorted({t for m in modules for t in [*ROOT.glob(f"tests/test_{m}.py"), *ROOT.glob(f"tests/test_{m}_*.py")]})
    assert len(tests) >= 10
    command = [oldest_with_tests, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    # The database of examples belongs to the version that wrote it.
    environment = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-6000:]


# --- Colab -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def runtime(colab, published, tmp_path_factory) -> dict[str, str]:
    """Environment in which papermill finds a kernel "colab", in which `google.colab` is imported from the start."""
    folder = tmp_path_factory.mktemp("runtime")
    (folder / "modules" / "google" / "colab").mkdir(parents=True)
    (folder / "modules" / "google" / "colab" / "__init__.py").touch()
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-colab.py").write_text("import google.colab\ndel google\n")
    kernel = {
        "argv": [str(colab), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 as in Colab",
        "language": "python",
        "env": {"PYTHONPATH": str(folder / "modules"), "IPYTHONDIR": str(folder / "ipython")},
    }
    (folder / "kernels" / "colab").mkdir(parents=True)
    (folder / "kernels" / "colab" / "kernel.json").write_text(json.dumps(kernel))
    return published.environment | {"JUPYTER_PATH": str(folder)}


@pytest.fixture
def bare(colab) -> Path:
    """The Python of Colab before the first cell: without kdutils."""
    uv("pip", "uninstall", "--quiet", f"--python={colab}", PROJECT["name"])
    assert PROJECT["name"] not in versions(colab)
    return colab


def run_in_colab(path: Path, parameters: dict, runtime: dict[str, str], tmp_path: Path) -> nbformat.NotebookNode:
    content, output = tmp_path / "content", tmp_path / "output.ipynb"
    content.mkdir()
    command = [sys.executable, "-m", "papermill", "--kernel=colab", "--no-progress-bar", f"--cwd={content}"]
    command += ["--parameters_yaml", json.dumps(parameters), str(path), str(output)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=runtime, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-6000:]
    return nbformat.read(output, as_version=4)


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """The programs that are folded away below the exercises."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folded = re.findall(r"^<details>(.*?)^</details>", text, re.MULTILINE | re.DOTALL)
    return [code for part in folded for code in re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL)]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_and_its_solutions_run_in_colab(path, bare, runtime, published, tmp_path):
    """Here only a chapter runs with other parameters than its own, the quick ones that it names."""
    before = installed(bare)
    notebook = nbformat.read(path, as_version=4)
    assert solutions(notebook)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in solutions(notebook)]
    longer = tmp_path / path.name
    nbformat.write(notebook, longer)
    result = run_in_colab(longer, notebook.metadata.kdutils.quick, runtime, tmp_path)

    after = installed(bare)
    again = [name for name in before if after.get(name) != before[name]]
    assert not again, f"the first cell installed again or removed {again}"
    (new,) = after.keys() - before.keys()
    origin = json.loads((site_packages(bare) / new / "direct_url.json").read_text())
    owner, name = current_repository()
    assert origin["url"] == f"https://github.com/{owner}/{name}"
    assert origin["vcs_info"]["commit_id"] == published.commit
    cells = [cell for cell in result.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert any("injected-parameters" in cell.metadata.get("tags", []) for cell in cells)
    report = "".join(output.get("text", "") for output in cells[-1 - len(solutions(notebook))].outputs)
    assert f"torch {versions(bare)['torch']}" in report, "another environment ran the chapter"


@pytest.mark.slow
def test_a_package_that_is_installed_again_is_noticed(package_index, tmp_path):
    uv("venv", "--quiet", "--seed", str(tmp_path / "venv"))
    python = tmp_path / "venv" / "bin" / "python"
    before = installed(python)
    assert before and installed(python) == before
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--force-reinstall", "pip"], check=True)
    assert installed(python) != before


# --- links to files of the repository ----------------------------------------------------------------------------


@functools.cache
def tracked() -> set[str]:
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", cwd=ROOT).stdout
    files = set(listed.split("\0")) - {""}
    return files | {str(folder) for file in files for folder in Path(file).parents}


def repository_paths(html: str) -> list[str]:
    """The paths to which a page links in the repository's main branch, in Colab or on GitHub."""
    owner, name = map(re.escape, current_repository())
    places = rf"https://(?:colab\.research\.google\.com/github|github\.com)/{owner}/{name}"
    links = [link["href"] for link in BeautifulSoup(html, "html.parser", parse_only=SoupStrainer("a", href=True))]
    matches = [re.match(rf"{places}/(?:blob|tree|raw|edit)/([^/]+)/?([^?#]*)", link) for link in links]
    assert {match[1] for match in matches if match} <= {"main"}, "a link leads to another branch"
    return [unquote(match[2]) for match in matches if match]


@pytest.mark.site
@pytest.mark.slow
@pytest.mark.usefixtures("git")
def test_every_link_into_the_repository_leads_to_a_tracked_file():
    pages = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
    assert pages, "build the site first: make book"
    launched = set()
    for page in pages:
        paths = repository_paths(page.read_text(encoding="utf-8"))
        lost = [path for path in paths if path.rstrip("/") not in tracked() and path]
        assert not lost, f"{page.relative_to(SITE)} links to {lost}, which git does not track"
        launched |= set(paths)
    assert {f"book/{path.name}" for path in NOTEBOOKS} <= launched


@pytest.mark.usefixtures("git")
def test_a_link_into_the_repository_is_recognised():
    owner, name = current_repository()
    for place in ("colab.research.google.com/github", "github.com"):
        link = f'<p><a href="https://{place}/{owner}/{name}/blob/main/04-mnist.ipynb#a">x</a> <a href="/b">y</a></p>'
        assert repository_paths(link) == ["04-mnist.ipynb"]
        with pytest.raises(AssertionError, match="another branch"):
            repository_paths(link.replace("/main/", "/master/"))
    assert "04-mnist.ipynb" not in tracked() and "book/04-mnist.ipynb" in tracked()
