"""Measurements against independent libraries and hand-counted formulas."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW
from torchmetrics.classification import MulticlassCalibrationError

from kdutils import (
    MLP,
    Split,
    accuracy,
    agreement,
    count_errors,
    expected_calibration_error,
    holm,
    mean_interval,
    negative_log_likelihood,
    paired_p_value,
    predict_logits,
)


def examples(n=500, classes=10, scale=2.0, seed=0):
    """Logits (N, C) that favour the label, as a trained network's do, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(n), labels] += 2.0
    return logits, labels


def digits(n=20, seed=0):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


# --- predictions -------------------------------------------------------------------------------------------------


def test_predict_logits_restores_each_modules_own_mode(mixed_model):
    before = [module.training for module in mixed_model.modules()]
    assert True in before and False in before
    predict_logits(mixed_model, digits())
    assert [module.training for module in mixed_model.modules()] == before


def test_predict_logits_restores_the_modes_when_the_model_fails(mixed_model):
    before = [module.training for module in mixed_model.modules()]
    with pytest.raises(RuntimeError):
        predict_logits(mixed_model, torch.zeros(2, 1, 5, 5))
    assert [module.training for module in mixed_model.modules()] == before


def test_predict_logits_runs_in_eval_mode_without_gradients_and_changes_no_buffer(mixed_model):
    mixed_model.train()
    buffers = {name: value.clone() for name, value in mixed_model.named_buffers()}
    logits = predict_logits(mixed_model, digits())
    assert not logits.requires_grad
    assert torch.equal(logits, predict_logits(mixed_model, digits()))  # with dropout on they would differ
    for name, value in mixed_model.named_buffers():
        assert torch.equal(value, buffers[name]), name


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_predict_logits_does_not_depend_on_the_batches(mixed_model, batch_size):
    mixed_model.eval().double()
    images = digits().double()
    with torch.no_grad():
        expected = mixed_model(images)
    torch.testing.assert_close(predict_logits(mixed_model, images, batch_size), expected)


def test_predict_logits_refuses_an_empty_set():
    with pytest.raises(ValueError, match="inputs must hold at least one example"):
        predict_logits(MLP((4,)), torch.zeros(0, 1, 28, 28))


def test_count_errors_counts_the_wrong_labels():
    model = MLP((4,))
    right = predict_logits(model, digits()).argmax(1)
    labels = right.clone()
    labels[:3] = (labels[:3] + 1) % 10
    assert count_errors(model, Split(digits(), labels)) == 3
    assert count_errors(model, Split(digits(), right)) == 0


# --- numbers from logits -----------------------------------------------------------------------------------------


def test_accuracy_equals_scikit_learns():
    logits, labels = examples()
    assert accuracy(logits, labels) == pytest.approx(accuracy_score(labels, logits.argmax(1)))


def test_negative_log_likelihood_equals_scikit_learns():
    logits, labels = examples()
    expected = log_loss(labels, logits.softmax(1).numpy(), labels=range(10))
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected)


@pytest.mark.parametrize("bins", [1, 5, 15, 100])
@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_calibration_error_equals_torchmetrics(bins, scale):
    logits, labels = examples(scale=scale)
    oracle = MulticlassCalibrationError(num_classes=10, n_bins=bins, norm="l1")
    expected = oracle(logits.softmax(1), labels).item()
    assert expected_calibration_error(logits, labels, bins) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_worked_out_by_hand():
    # Two answers at confidence 0.6, one of them right; two at 0.9, both right: (|1.2 − 1| + |1.8 − 2|) / 4.
    probabilities = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 1])
    assert expected_calibration_error(probabilities.log(), labels, bins=10) == pytest.approx(0.1)
    # In a single bin the two errors cancel: 3 of 4 right, at a mean confidence of 3/4.
    assert expected_calibration_error(probabilities.log(), labels, bins=1) == pytest.approx(0.0, abs=1e-12)


def test_a_sure_and_right_network_is_calibrated_and_a_sure_and_wrong_one_is_not():
    logits, labels = 1000 * torch.eye(10), torch.arange(10)
    assert expected_calibration_error(logits, labels) == 0
    assert expected_calibration_error(logits, labels.roll(1)) == 1


def test_agreement_counts_equal_answers_right_or_wrong():
    one = torch.eye(4)
    other = one[[0, 1, 3, 2]]
    assert agreement(one, one * 7) == 1
    assert agreement(one, other) == 0.5


@pytest.mark.parametrize("measure", [accuracy, negative_log_likelihood, expected_calibration_error])
@pytest.mark.parametrize(
    "logits, labels", [((3, 10), (2,)), ((3, 10), (3, 1)), ((3,), (3,)), ((2, 3, 10), (2, 3)), ((0, 10), (0,))]
)
def test_mismatched_logits_and_labels_are_refused(measure, logits, labels):
    with pytest.raises(ValueError) as error:
        measure(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))
    assert str(logits) in str(error.value) and str(labels) in str(error.value)


def test_agreement_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"logits_a and logits_b .* \(3, 10\) and \(1, 10\)"):
        agreement(torch.zeros(3, 10), torch.zeros(1, 10))


@pytest.mark.parametrize("bins", [0, -1, 2.5, None])
def test_a_bad_number_of_bins_is_named(bins):
    with pytest.raises(ValueError, match=f"bins .* got {bins}"):
        expected_calibration_error(*examples(5), bins=bins)


# --- intervals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("values", [[1.0, 2.0], [146, 152, 139, 150, 148], list(np.geomspace(1, 1e4, 30))])
def test_interval_equals_statsmodels(values, confidence):
    interval = mean_interval(values, confidence)
    low, high = DescrStatsW(values).tconfint_mean(alpha=1 - confidence)
    assert interval == pytest.approx((np.mean(values), low, high))


def test_interval_covers_the_true_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(loc=100, scale=10, size=(4000, 5))
    covered = np.mean([low <= 100 <= high for _, low, high in map(mean_interval, samples)])
    assert covered == pytest.approx(0.95, abs=0.01)  # with the normal's 1.96 in place of t's 2.78 it would be 0.88


def test_equal_values_give_an_interval_of_no_width():
    assert mean_interval([7, 7, 7]) == (7, 7, 7)


@pytest.mark.parametrize(
    "values, confidence, message",
    [
        ([], 0.95, r"values must hold at least two numbers.* got \[\]"),
        ([5], 0.95, r"values must hold at least two numbers.* got \[5.0\]"),
        ([[1, 2], [3, 4]], 0.95, "values must hold at least two numbers"),
        ([1, math.nan], 0.95, r"values must be finite, got \[1.0, nan\]"),
        ([1, math.inf], 0.95, r"values must be finite, got \[1.0, inf\]"),
        ([1, 2], 0, "confidence must lie between 0 and 1, got 0"),
        ([1, 2], 95, "confidence must lie between 0 and 1, got 95"),
        ([1, 2], math.nan, "confidence must lie between 0 and 1, got nan"),
    ],
)
def test_a_bad_interval_is_refused(values, confidence, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values, confidence)


@pytest.mark.parametrize("differences", [[3, -1, 4, 1, -5, 9], [1.0, 2.0], [0.5, -0.5], list(np.geomspace(1, 1e4, 30))])
def test_p_value_equals_statsmodels(differences):
    assert paired_p_value(differences) == pytest.approx(DescrStatsW(differences).ttest_mean(0)[1])


def test_p_value_of_differences_that_are_all_the_same():
    assert (paired_p_value([2, 2, 2]), paired_p_value([0, 0, 0])) == (0, 1)
    with pytest.raises(ValueError, match="values must hold at least two numbers"):
        paired_p_value([3])


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_holm_equals_statsmodels(count):
    p_values = np.random.default_rng(count).uniform(size=count) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([0.04, 0.04, 0.01]) == pytest.approx([0.08, 0.08, 0.03])


@pytest.mark.parametrize("p_values", [[], [0.2, math.nan], [1.2], [[0.1, 0.2]]])
def test_holm_refuses_what_are_no_p_values(p_values):
    with pytest.raises(ValueError, match="p_values must be numbers between 0 and 1"):
        holm(p_values)
