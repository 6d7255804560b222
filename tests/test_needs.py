"""What a machine may lack: the list of it, in an environment without each; and what `.ci/run` makes of that."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest
from tools import needs

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {"chromium": "chromium", "fonts": "fc-list", "node": "node", "git": "git"}


@pytest.fixture
def machine(tmp_path) -> Path:
    """A folder of programs that do nothing: all that the list asks for. Its fc-list knows every sign."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in PROGRAMS.values():
        put(folder / program, "echo font.ttf")
    return folder


def put(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def say(machine: Path, what: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the list as make does, with nothing on the PATH but the machine's programs, and no site-packages."""
    command = [sys.executable, "-S", "-m", "tools.needs", what]
    environment = {"PATH": str(machine), **variables}
    return subprocess.run(command, check=False, capture_output=True, encoding="utf-8", cwd=ROOT, env=environment)


def test_where_nothing_is_missing_nothing_is_said(machine):
    for what in ("test", "pdf", "debian"):
        done = say(machine, what, CI="true")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_missing_is_named_with_the_command_that_brings_it(machine, name):
    (machine / PROGRAMS[name]).unlink()
    done = say(machine, "test")
    assert done.returncode == 0, "off CI the rest is checked"
    need = needs.NEEDS[name]
    assert done.stderr == f"{need.sentence()}\n  Not checked without it: {need.not_checked}.\n"
    assert f"Debian: apt-get install {need.debian}" in done.stderr
    assert say(machine, "test", CI="true").returncode == 1
    assert say(machine, "pdf").returncode == (name in needs.PDF)
    assert say(machine, "debian").stdout.split() == sorted(need.debian.split())


def test_a_font_without_the_chinese_signs_is_not_enough(machine):
    put(machine / "fc-list", 'case "$1" in *672f*) ;; *) echo dejavu.ttf ;; esac')
    assert "apt-get install fontconfig fonts-dejavu-core fonts-wqy-microhei" in say(machine, "pdf").stderr
    put(machine / "fc-list", 'case "$1" in *2713*) ;; *) echo chinese.ttf ;; esac')
    assert "check marks" in say(machine, "pdf").stderr


def test_a_library_that_does_not_load_is_missing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert needs.can_load(ctypes.util.find_library("c"))  # under whatever name this machine has it
    assert not needs.can_load("no-such-library")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert needs.can_load("no-such-library")


def test_other_words_are_answered_with_the_usage(machine):
    done = say(machine, "everything")
    assert done.returncode == 2 and "python3 -m tools.needs debian" in done.stderr


def test_the_check_marks_and_chinese_signs_are_those_of_the_pages():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.*") if path.is_file())
    for sign in "".join(needs.SIGNS):
        assert sign in pages or f"\\u{ord(sign):04x}" in pages, f"no page has {sign}: ask for one that they have"


# --- who asks the list -------------------------------------------------------------------------------------------


def test_a_test_can_ask_for_everything_in_the_list():
    for name in [*needs.NEEDS, "package_index"]:
        assert name in conftest.ALL_NEEDS
        assert hasattr(conftest, name) or name == "ensurepip", f"{name} has no fixture"


@pytest.mark.slow
def test_without_it_a_test_is_left_out_loudly_and_under_ci_it_fails(tmp_path):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_javascript.py"]
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"PATH": str(tmp_path)}
    options = {"check": False, "capture_output": True, "encoding": "utf-8", "cwd": ROOT}
    done = subprocess.run(command, env=environment, **options)
    assert done.returncode == 0
    assert "NOT CHECKED: the JavaScript of the pages" in done.stdout
    assert "1 skipped" in done.stdout and "apt-get install nodejs" in done.stdout
    done = subprocess.run(command, env=environment | {"CI": "true"}, **options)
    assert done.returncode == 1
    assert "No Node on this machine. Debian: apt-get install nodejs" in done.stdout


@pytest.fixture
def ci(machine, tmp_path) -> Path:
    """.ci/run in a project that has nothing but the list; make, apt-get and sudo write down how they were called."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tools", project / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", project / ".ci")
    for program in ("make", "apt-get"):
        put(machine / program, f'echo {program} "$@" "data=$KD_DATA" >> {tmp_path}/calls')
    put(machine / "sudo", 'exec "$@"')
    for program in ("bash", "dirname", "env", "id", "sh"):
        (machine / program).symlink_to(shutil.which(program))
    put(machine / "python3", f'exec {sys.executable} -S "$@"')
    return project / ".ci" / "run"


def run_ci(script: Path) -> list[str]:
    environment = {"PATH": str(script.parents[2] / "bin"), "CI": "true"}
    subprocess.run([script], check=True, env=environment, stdin=subprocess.DEVNULL)
    return (script.parents[2] / "calls").read_text(encoding="utf-8").splitlines()


def test_ci_installs_what_is_missing_and_nothing_else(ci, machine):
    assert run_ci(ci) == ["make test data="]
    (machine / "chromium").unlink()
    (machine / "node").unlink()
    assert run_ci(ci)[1:] == [
        "apt-get update data=",
        "apt-get install --yes --no-install-recommends chromium nodejs data=",
        "make test data=",
    ]


def test_ci_takes_the_data_that_lies_beside_the_project(ci, tmp_path):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert run_ci(ci) == [f"make test data={tmp_path}/shared/data"]


def test_ci_fails_where_the_list_cannot_be_read(ci, machine):
    put(machine / "python3", "exit 3")
    with pytest.raises(subprocess.CalledProcessError):
        run_ci(ci)
