"""What the book's notebooks share: checked parameters, tables, and the line that says what a run took."""

import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.display import Markdown, display

from .datasets.digits import DigitData
from .results import environment

# Names that IPython itself puts into a notebook.
_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}
# In the globals of a notebook whose names were checked; the kernel of another run does not have it.
_CHECKED = "_kdutils_names_checked"


def check_parameters(namespace: dict[str, Any], allowed: Mapping[str, Any]) -> None:
    """Refuse unknown parameters and bad values. Call it right after the parameters cell, with ``globals()``.

    papermill only warns when a parameter's name is misspelt, and then runs with the default. Names are looked at once
    in a kernel: when a reader runs the page again, the names that it made itself stand beside its parameters. Values
    are looked at each time.

    Args:
        namespace: the notebook's globals, at the first call when nothing but imports and parameters has run.
        allowed: for each parameter a ``set`` of choices, a ``range`` of whole numbers, a ``(low, high)`` pair of
            floats, ends included, ``Path`` for a folder that is there or an empty string, or a one-element list
            ``[rule]`` for a list of such values.

    Raises:
        ValueError: names the parameter, its value and what is allowed.
    """
    known = ", ".join(allowed)
    names = {} if _CHECKED in namespace else namespace
    for name, value in names.items():
        if name in allowed or name.startswith("_") or name in _IPYTHON:
            continue
        if not isinstance(value, types.ModuleType | type) and not callable(value):
            raise ValueError(f"unknown parameter {name} = {value!r}. This notebook knows: {known}")
    for name, rule in allowed.items():
        if name not in namespace:
            raise ValueError(f"parameter {name} is missing. This notebook needs: {known}")
        _check_value(name, namespace[name], rule)
    namespace[_CHECKED] = True


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Show a table: the first column to the left, the others, numbers as a rule, to the right."""
    lines = [" | ".join(header), " | ".join([":--"] + ["--:"] * (len(header) - 1))]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    display(Markdown("\n".join(f"| {line} |" for line in lines)))


def say(text: str) -> None:
    """Show a sentence of Markdown, so that the numbers in it come from the code beside it."""
    display(Markdown(text))


def published_results() -> Path:
    """The folder of what the long runs in ``book/experiments`` measured, in a checkout or in an installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "book" / "results"
    return checkout if checkout.is_dir() else package / "published"


def show_data(data: DigitData) -> None:
    """Say which data set this run has and how it is split; loudly so where it is not the one of the printed pages."""
    sizes = f"{len(data.train):,} images to train on, {len(data.val):,} to choose on, {len(data.test):,} to test on"
    say(f"Data: **{data.name}**, {sizes}.")
    if data.name != "mnist":
        say("**These are scikit-learn's small digits, not MNIST: the numbers below differ from the published ones.**")


def run_report(started: float, dataset: str, seeds: Sequence[int]) -> None:
    """Print what this run was: data, seeds, machine, versions, minutes since ``started`` (``time.perf_counter()``)."""
    machine = environment()
    minutes = (time.perf_counter() - started) / 60
    listed = ", ".join(map(str, seeds)) or "none"
    print(f"data     {dataset}")
    print(f"seeds    {listed}")
    print(
        f"machine  {machine['threads']} threads of {machine['processor']}, {machine['system']}, GPU: {machine['gpu']}"
    )
    print(f"versions python {machine['python']}, torch {machine['torch']}, numpy {machine['numpy']}")
    print(f"time     {minutes:.1f} minutes")


def _check_value(name: str, value: Any, rule: Any) -> None:
    if isinstance(rule, list):
        if not isinstance(value, list) or not value:
            raise ValueError(f"parameter {name} must be a list with at least one entry, got {value!r}")
        for entry in value:
            _check_value(name, entry, rule[0])
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(rule, set):
        good, wanted = value in list(rule), "one of " + ", ".join(map(repr, sorted(rule)))
    elif isinstance(rule, range):
        good, wanted = whole and value in rule, f"a whole number from {rule[0]} to {rule[-1]}"
    elif rule is Path:
        good = isinstance(value, str) and (value == "" or Path(value).expanduser().is_dir())
        wanted = "a folder that is there, or an empty string"
    else:
        low, high = rule
        good = (whole or isinstance(value, float)) and low <= value <= high
        wanted = f"a number from {low} to {high}"
    if not good:
        raise ValueError(f"parameter {name} must be {wanted}, got {value!r}")
