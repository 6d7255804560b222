"""book/examples/distill_images.py, run from the command line as a reader would."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from kdutils import load_dataset
from kdutils.datasets.pictures import make_picture_folder

BOOK = Path(__file__).resolve().parents[1] / "book"
SCRIPT = BOOK / "examples" / "distill_images.py"
QUICK = "--epochs 1 --teacher-epochs 1 --seeds 2 --rates 0.05 --temperatures 2 --device cpu --size 16".split()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    counts = {"train": 128, "val": 64, "test": 64}
    return make_picture_folder(tmp_path_factory.mktemp("data") / "pictures", load_dataset("digits"), counts)


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def first(pictures, tmp_path_factory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("result")
    done = run(pictures, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


def test_it_ends_with_a_student_a_file_for_other_programs_and_an_interval(first):
    out, said = first
    results = json.loads((out / "results.json").read_text())
    assert {len(errors) for errors in results["test_errors"].values()} == {2}
    assert len(results["fewer_errors"]) == 3 and results["of"] == 64
    assert results["export"]["largest_difference"] < 1e-3
    assert (out / "student.safetensors").is_file() and (out / "student.onnx").is_file()
    assert "Measured: soft weight 0.9 at T = 2" in said  # check_distillation has looked at a step
    assert "paired by seed" in said and "standard deviation" in said


def test_started_again_it_trains_nothing_and_says_the_same(first, pictures):
    out, said = first
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.ckpt")}
    assert len(before) == 1 + 2 + 4  # the teacher, the choice of each side, two seeds of each
    again = run(pictures, "--out", out, *QUICK)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.ckpt")} == before
    lines = [[line for line in text.splitlines() if "ms" not in line] for text in (said, again.stdout)]
    assert lines[0] == lines[1]


def test_help_and_what_is_wrong_are_said_in_a_sentence(tmp_path, pictures):
    shown = run("--help")
    assert shown.returncode == 0 and "FOLDER/train/cat" in shown.stdout
    absent = run(tmp_path, "--out", tmp_path / "out", *QUICK)
    assert absent.returncode == 1 and "train is not there. FOLDER needs train, val and test" in absent.stderr
    assert "Traceback" not in absent.stderr
    one = run(pictures, "--out", tmp_path / "out", "--seeds", 1)
    assert one.returncode == 2 and "--seeds must be at least 2" in one.stderr


def functions(source: str) -> dict[str, str]:
    """The bodies of a program's functions, without docstrings and types."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            plain = [ast.Assign([n.target], n.value, lineno=0) if isinstance(n, ast.AnnAssign) else n for n in body]
            found[node.name] = "\n".join(map(ast.unparse, plain))
    return found


def test_the_chapter_and_its_experiment_have_the_same_networks():
    cells = nbformat.read(BOOK / "09-your-own-data.ipynb", as_version=4).cells
    page = functions("\n".join(c.source for c in cells if c.cell_type == "code" and "%pip" not in c.source))
    script = functions((BOOK / "experiments" / "own_data.py").read_text(encoding="utf-8"))
    for name in ("make_teacher", "make_student"):
        assert page[name] == script[name], name
