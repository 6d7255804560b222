"""`make test` runs everything, fails if anything fails, and says what each part took."""

import subprocess
import sys

import pytest

from tests.pages import NOTEBOOKS
from tools import run_tests
from tools.run_tests import Done, cost_table, seconds_by_file


@pytest.fixture
def parts(monkeypatch):
    """The parts that `main` runs, none of which does anything; those in `failing` fail."""
    ran, failing = {}, set()

    def run(name, command, quiet=False):
        ran[name] = command
        return Done(name, 1.0, name in failing)

    monkeypatch.setattr(run_tests, "run", run)
    return ran, failing


def test_all_parts_run(parts, capsys):
    ran, _ = parts
    assert run_tests.main() == 0
    assert list(ran)[:2] == ["lint", "book"]
    assert set(ran) == {"lint", "book", "tests"} | {path.stem for path in NOTEBOOKS}
    assert ran["tests"][-1] == "tests"
    for path in NOTEBOOKS:
        assert ran[path.stem][-1] == str(path) and "--nbval-lax" in ran[path.stem]
    said = capsys.readouterr().out
    assert "What it took" in said and "failed" not in said


@pytest.mark.parametrize("name", ["tests", NOTEBOOKS[0].stem])
def test_a_part_that_fails_fails_the_whole_but_stops_no_other(parts, capsys, name):
    ran, failing = parts
    failing.add(name)
    assert run_tests.main() == 1
    assert len(ran) == 3 + len(NOTEBOOKS)
    said = capsys.readouterr().out
    assert "What it took" in said and said.endswith(f"failed: {name}\n")


@pytest.mark.parametrize("name", ["lint", "book"])
def test_nothing_is_tested_that_is_not_clean_and_built(parts, capsys, name):
    ran, failing = parts
    failing.add(name)
    assert run_tests.main() == 1
    assert list(ran)[-1] == name
    assert capsys.readouterr().out.endswith(f"failed: {name}\n")


def test_a_quiet_part_shows_its_last_line_or_if_it_failed_everything(capfd):
    done = run_tests.run("good", [sys.executable, "-c", "print('first'); print('last')"], quiet=True)
    assert not done.failed and done.seconds > 0
    assert capfd.readouterr().out == "\n== good\nlast\n"
    assert run_tests.run("bad", [sys.executable, "-c", "print('first'); raise SystemExit('last')"], quiet=True).failed
    said = capfd.readouterr().out
    assert said.startswith("\n== bad\n") and {"first", "last"} <= set(said.splitlines())


def test_each_of_two_jobs_gets_half_of_the_cores_unless_the_caller_says_otherwise(capfd, monkeypatch):
    command = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for given, found in ((None, "4"), ("3", "3")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        run_tests.run("threads", command, quiet=True)
        assert capfd.readouterr().out.split()[-1] == found


def test_the_table_names_the_slowest_files_and_adds_up_the_rest():
    files = {f"tests/test_{n}.py": 100.0 - n for n in range(17)}
    parts = [Done("lint", 2.4, False), Done("tests", 1500.0, True), Done("01-a", 30.0, False)]
    rows = [" ".join(line.split()) for line in cost_table(parts, files, 1502.5).splitlines()]
    assert rows == [
        "",
        "What it took",
        "lint 2 s",
        "tests 1500 s failed",
        *(f"tests/test_{n}.py {100 - n} s" for n in range(15)),
        "2 other files 169 s",
        "01-a 30 s",
        "all of it, 2 jobs at a time 1502 s",
    ]


@pytest.mark.slow
def test_the_report_of_pytest_is_read(tmp_path):
    (tmp_path / "tests").mkdir()
    for name, seconds in (("quick", 0.0), ("slow", 0.3)):
        text = "import time\n\n" + "".join(f"def test_{n}():\n    time.sleep({seconds})\n" for n in range(2))
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml=report.xml", "--rootdir=.", "tests"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    seconds = seconds_by_file(tmp_path / "report.xml")
    assert list(seconds) == ["tests/test_slow.py", "tests/test_quick.py"]
    assert seconds["tests/test_slow.py"] >= 0.6 > seconds["tests/test_quick.py"]
