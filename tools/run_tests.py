"""Every check of the book, and at the end what each part took: `make test`.

Lint and build come first; where one fails, nothing else runs. Then the tests in tests/ and every chapter by nbval, two
jobs at a time, each with half of the cores: they train small networks, to which a second thread brings little, or wait
for a browser. All of them run, even after one failed.
"""

import collections
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
AT_A_TIME = 2
FILES = 15  # test files that the table names; the others are one line
PYTEST = [sys.executable, "-m", "pytest"]
CHAPTER = [*PYTEST, "--nbval-lax", "--nbval-cell-timeout=1200"]


class Done(NamedTuple):
    """A part that has run."""

    name: str
    seconds: float
    failed: bool


def run(name: str, command: list[str], quiet: bool = False) -> Done:
    """Run a command in the project's folder. A quiet one shows its output when it has ended."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // AT_A_TIME))}
    stream = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {}
    started = time.perf_counter()
    done = subprocess.run(command, check=False, cwd=ROOT, env=threads | os.environ, **stream)
    seconds = time.perf_counter() - started
    if quiet:
        text = done.stdout.decode(errors="replace").strip()
        shown = text if done.returncode else text.splitlines()[-1] if text else ""
        print(f"\n== {name}\n{shown}", flush=True)
    return Done(name, seconds, done.returncode != 0)


def seconds_by_file(report: Path) -> dict[str, float]:
    """From pytest's JUnit report, the slowest file first; setup and teardown are counted where they ran."""
    seconds: collections.Counter[str] = collections.Counter()
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        seconds[f"{case.get('classname', '?').replace('.', '/')}.py"] += float(case.get("time", 0))
    return dict(seconds.most_common())


def cost_table(parts: Iterable[Done], files: dict[str, float], total: float) -> str:
    """What each part took; below the tests their slowest files."""
    rows = []
    for part in parts:
        rows.append((part.name, part.seconds, "failed" if part.failed else ""))
        if part.name == "tests":
            slowest = list(files.items())
            rows += [(f"  {name}", seconds, "") for name, seconds in slowest[:FILES]]
            rest = slowest[FILES:]
            rows += [(f"  {len(rest)} other files", sum(seconds for _, seconds in rest), "")] if rest else []
    rows.append((f"all of it, {AT_A_TIME} jobs at a time", total, ""))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{name:<{width}} {seconds:7.0f} s  {note}".rstrip() for name, seconds, note in rows]
    return "\n".join(["", "What it took", *lines])


def main() -> int:
    """Command line; returns the exit status."""
    started = time.perf_counter()
    parts: list[Done] = []
    files: dict[str, float] = {}
    for name in ("lint", "book"):
        parts.append(run(name, ["make", "--no-print-directory", name]))
        if parts[-1].failed:
            break
    else:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_A_TIME) as pool:
            report = Path(folder) / "tests.xml"
            jobs = [pool.submit(run, "tests", [*PYTEST, "--durations=10", f"--junitxml={report}", "tests"])]
            for path in sorted(ROOT.glob("book/*.ipynb")):
                jobs.append(pool.submit(run, path.stem, [*CHAPTER, str(path)], quiet=True))
            parts += [job.result() for job in jobs]
            if report.exists():
                files = seconds_by_file(report)
    print(cost_table(parts, files, time.perf_counter() - started))
    failed = [part.name for part in parts if part.failed]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
