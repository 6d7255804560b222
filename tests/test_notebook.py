"""What notebooks share: parameters that are checked, tables, and the report on a run."""

import math
import time

import pytest

from kdutils import notebook
from kdutils.notebook import check_parameters, markdown_table, run_report, say

RULES = {
    "DATASET": {"auto", "mnist", "digits"},
    "EPOCHS": range(1, 101),
    "SOFT_WEIGHT": (0.0, 1.0),
    "SEEDS": [range(0, 1000)],
}
GOOD = {"DATASET": "digits", "EPOCHS": 3, "SOFT_WEIGHT": 0.9, "SEEDS": [0, 1, 2]}


@pytest.fixture
def shown(monkeypatch):
    """The Markdown that the notebook would show."""
    texts = []
    monkeypatch.setattr(notebook, "display", lambda item: texts.append(item.data))
    return texts


def test_good_parameters_pass_beside_imports_and_ipythons_own_names():
    namespace = {"math": math, "MLP": notebook.Markdown, "say": say, "In": [], "Out": {}, "_": 1, "_i1": "x"}
    check_parameters(namespace | GOOD, RULES)


@pytest.mark.parametrize("name, value", [("EPOCH", 3), ("epochs", 3), ("TEMPERATURES", [1, 2]), ("FLAG", None)])
def test_an_unknown_parameter_is_named_with_the_known_ones(name, value):
    with pytest.raises(ValueError) as error:
        check_parameters(GOOD | {name: value}, RULES)
    assert f"unknown parameter {name} = {value!r}" in str(error.value)
    assert "DATASET, EPOCHS, SOFT_WEIGHT, SEEDS" in str(error.value)


def test_a_page_may_be_run_again_in_its_kernel():
    """Then the names that it made stand beside its parameters. A bad value is still refused."""
    namespace = dict(GOOD)
    check_parameters(namespace, RULES)
    namespace |= {"STARTED": 9741.2, "data": [1, 2], "EPOCHS": 100}
    check_parameters(namespace, RULES)
    with pytest.raises(ValueError, match="parameter EPOCHS must be a whole number from 1 to 100, got 101"):
        check_parameters(namespace | {"EPOCHS": 101}, RULES)


def test_what_was_refused_once_is_refused_again():
    namespace = GOOD | {"EPOCH": 3}
    for _ in range(2):
        with pytest.raises(ValueError, match="unknown parameter EPOCH = 3"):
            check_parameters(namespace, RULES)
    namespace = GOOD | {"EPOCHS": 0}
    with pytest.raises(ValueError, match="EPOCHS"):
        check_parameters(namespace, RULES)
    namespace |= {"EPOCHS": 3, "EPOCH": 3}  # no check of this kernel has passed yet
    with pytest.raises(ValueError, match="unknown parameter EPOCH = 3"):
        check_parameters(namespace, RULES)


def test_a_missing_parameter_is_named():
    with pytest.raises(ValueError, match="parameter EPOCHS is missing"):
        check_parameters({name: GOOD[name] for name in GOOD if name != "EPOCHS"}, RULES)


@pytest.mark.parametrize(
    "name, value", [("DATASET", "mnist"), ("EPOCHS", 1), ("EPOCHS", 100), ("SOFT_WEIGHT", 0), ("SOFT_WEIGHT", 1.0)]
)
def test_the_ends_of_a_rule_are_allowed(name, value):
    check_parameters(GOOD | {name: value}, RULES)


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("DATASET", "cifar", "one of 'auto', 'digits', 'mnist'"),
        ("DATASET", ["mnist"], "one of 'auto', 'digits', 'mnist'"),
        ("EPOCHS", 0, "a whole number from 1 to 100"),
        ("EPOCHS", 101, "a whole number from 1 to 100"),
        ("EPOCHS", 2.0, "a whole number from 1 to 100"),
        ("EPOCHS", True, "a whole number from 1 to 100"),
        ("EPOCHS", "3", "a whole number from 1 to 100"),
        ("SOFT_WEIGHT", 1.5, "a number from 0.0 to 1.0"),
        ("SOFT_WEIGHT", math.nan, "a number from 0.0 to 1.0"),
        ("SOFT_WEIGHT", False, "a number from 0.0 to 1.0"),
        ("SOFT_WEIGHT", None, "a number from 0.0 to 1.0"),
        ("SEEDS", [], "a list with at least one entry"),
        ("SEEDS", 3, "a list with at least one entry"),
        ("SEEDS", "012", "a list with at least one entry"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError) as error:
        check_parameters(GOOD | {name: value}, RULES)
    assert str(error.value) == f"parameter {name} must be {allowed}, got {value!r}"


def test_one_bad_entry_of_a_list_is_named():
    with pytest.raises(ValueError, match="parameter SEEDS must be a whole number from 0 to 999, got -1"):
        check_parameters(GOOD | {"SEEDS": [0, -1]}, RULES)


def test_a_table_keeps_its_cells_in_place_and_turns_numbers_to_the_right(shown):
    markdown_table(["network", "errors"], [["teacher", 67], ["student", 146]])
    assert shown == ["| network | errors |\n| :-- | --: |\n| teacher | 67 |\n| student | 146 |"]


def test_say_shows_the_sentence(shown):
    say("It makes **74** errors.")
    assert shown == ["It makes **74** errors."]


def test_the_run_report_names_data_seeds_versions_and_minutes(capsys):
    run_report(time.perf_counter() - 90, "digits", [0, 1])
    printed = capsys.readouterr().out
    for piece in ("digits", "0, 1", "torch", "GPU", "1.5 minutes"):
        assert piece in printed
