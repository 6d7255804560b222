"""The JavaScript of the pages, by Node's own test runner."""

import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent / "js"


def test_the_pages_scripts(node):
    files = sorted(FOLDER.glob("*.test.js"))
    assert files
    done = subprocess.run([node, "--test", *files], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
