"""Run the chapters in place with papermill and store them in a form that a second run does not change.

python -m tools.execute_notebooks                  every chapter
python -m tools.execute_notebooks 03-kl-loss       one of them

A notebook is replaced only when its whole run succeeded, and it is not run where it could not be replaced. The
minutes that each chapter took go to book/results/chapter-times.json, and from there to the table that the page on
reproducibility includes.
"""

import argparse
import base64
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from kdutils import environment, load_dataset, load_results, save_results
from kdutils.results import write_atomically

COVER = "mnist-result.png"  # in book/_static
BOOK = Path(__file__).resolve().parents[1] / "book"
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Without a version: that would change with every new Python, and the last cell of a chapter prints it anyway.
LANGUAGE_INFO = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}
# Colab reads these two and starts a runtime with a GPU; nothing else looks at them.
COLAB = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}
# What a cell may say about itself; `predict` is read by book/_ext/predict.py.
KEPT = ("tags", "mystnb", "cellView", "predict")


TITLE = "# @title "  # the first line of a folded cell: Colab shows it in place of the code, and so does the site


def source_sha256(notebook: NotebookNode) -> str:
    """Hash of all code but titles, cell by cell. Stored at execution, it shows when a cell was edited afterwards."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = [cell.source.partition("\n")[2] if cell.source.startswith(TITLE) else cell.source for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def normalise(notebook: NotebookNode) -> list[str]:
    """Take out, in place, all that differs from run to run without meaning; return what stood on stderr."""
    warnings: list[str] = []
    own = dict(notebook.metadata.get("kdutils", {}), source_sha256=source_sha256(notebook))
    notebook.metadata = NotebookNode(kernelspec=KERNELSPEC, language_info=LANGUAGE_INFO, kdutils=own, **COLAB)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in KEPT})
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type != "code":
            continue
        warnings += [output.text for output in cell.outputs if output.get("name") == "stderr"]
        cell.outputs = _normal_outputs(cell.outputs)
    return warnings


def execute(path: Path) -> float:
    """Run one notebook in its own folder at its defaults, replace the file, and return the minutes it took.

    Raises:
        PapermillExecutionError: a cell failed. The file is then as it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / path.name
        started = time.perf_counter()
        papermill.execute_notebook(
            path, output, cwd=path.parent, kernel_name="python3", progress_bar=False, log_output=False
        )
        minutes = (time.perf_counter() - started) / 60
        notebook = nbformat.read(output, as_version=4)
    for text in normalise(notebook):
        # Progress bars are left out of what is repeated here; a warning should be seen by somebody.
        for line in text.replace("\r", "\n").splitlines():
            if line.strip() and "it/s" not in line and "s/it" not in line:
                print(f"{path.name}, stderr: {line}", file=sys.stderr)
    write_atomically(path, (nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n").encode())
    for picture in covers(notebook):
        write_atomically(path.parent / "_static" / COVER, picture)
    return minutes


def covers(notebook: NotebookNode) -> list[bytes]:
    """The pictures of cells tagged `cover`; the book has one, which the README and the first page show."""
    cells = [cell for cell in notebook.cells if "cover" in cell.metadata.get("tags", [])]
    pictures = [
        output.data["image/png"] for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    return [base64.b64decode(picture) for picture in pictures]


def notebook_path(book: Path, name: str) -> Path:
    """The file that a name means: 03-kl-loss, 03-kl-loss.ipynb or book/03-kl-loss.ipynb; a dot is part of a name."""
    return book / f"{Path(name).name.removesuffix('.ipynb')}.ipynb"


def why_not_written(path: Path) -> str | None:
    """Why this file could not be written again; tried with as many bytes as it has, in a file that is gone at once.

    Known before the run: a chapter computes for minutes.
    """
    for folder in (path.parent, Path(tempfile.gettempdir())):  # papermill writes into the second
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(2 * path.stat().st_size))
        except OSError as error:
            return f"nothing can be written in {folder}: {error.strerror}"
    return None


def record_time(path: Path, minutes: float, dataset: str) -> None:
    """Note what a run took in results/chapter-times.json beside the notebook, and write the table anew."""
    target = path.parent / "results" / "chapter-times.json"
    target.parent.mkdir(exist_ok=True)
    times = load_results(target) if target.exists() else {}
    times[path.stem] = {"minutes": round(minutes, 1), "dataset": dataset, **environment()}
    # A chapter that was renamed or removed must not stay in the table.
    times = {name: times[name] for name in sorted(times) if (path.parent / f"{name}.ipynb").exists()}
    save_results(target, times)
    write_atomically(target.with_suffix(".md"), times_as_markdown(times).encode())


def times_as_markdown(times: dict[str, dict[str, Any]]) -> str:
    """One row a chapter, then each machine and its versions once."""
    lines = ["| Chapter | Minutes | Data | Run on |", "| :-- | --: | :-- | :-- |"]
    machines: list[str] = []
    for name, run in times.items():
        machine = "; ".join(f"{key} {value}" for key, value in run.items() if key not in ("minutes", "dataset"))
        if machine not in machines:
            machines.append(machine)
        letter = chr(ord("A") + machines.index(machine))
        lines.append(f"| [{name}]({name}.ipynb) | {run['minutes']:.1f} | {run['dataset']} | {letter} |")
    lines += [""] + [f"- **{chr(ord('A') + i)}**: {machine}" for i, machine in enumerate(machines)]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 1 if any chapter failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="chapters, such as 03-kl-loss; all of them if none is given")
    parser.add_argument("--book", type=Path, default=BOOK, help=argparse.SUPPRESS)
    parser.add_argument(
        "--any-data", action="store_true", help="store results of the embedded digits where MNIST is missing"
    )
    options = parser.parse_args(arguments)
    names = options.names or sorted(path.stem for path in options.book.glob("*.ipynb"))
    paths = [notebook_path(options.book, name) for name in names]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        print(f"no such notebook: {', '.join(missing)}", file=sys.stderr)
        return 1
    for path in paths:
        if reason := why_not_written(path):
            print(f"{path.stem} was not run: {reason}", file=sys.stderr)
            return 1
    dataset = load_dataset("auto").name
    if dataset != "mnist" and not options.any_data:
        print(
            "MNIST is not here, so the stored results would be those of the small digits. Set KD_DATA to a "
            "folder that holds MNIST/raw, or pass --any-data if that is what you want.",
            file=sys.stderr,
        )
        return 1
    failed = []
    for path in paths:
        print(f"{path.stem} ...", flush=True)
        try:
            minutes = execute(path)
            record_time(path, minutes, dataset)
        except PapermillExecutionError as error:
            print(f"{path.stem} failed and is left as it was:\n{error}", file=sys.stderr)
            failed.append(path.stem)
            continue
        except OSError as error:
            print(f"{path.stem} ran, but was not stored: {error}", file=sys.stderr)
            failed.append(path.stem)
            continue
        print(f"{path.stem} took {minutes:.1f} minutes", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _normal_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Drop stderr and widget views, join what one stream printed in pieces; of metadata keep how large a picture is."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
        elif "data" in output:
            output.data.pop("application/vnd.jupyter.widget-view+json", None)
            output.metadata = NotebookNode({kind: how for kind, how in output.metadata.items() if kind in output.data})
        kept.append(output)
    return kept


if __name__ == "__main__":
    sys.exit(main())
