"""Every bad input to a loss is a ValueError that names the argument and its value."""

import math

import pytest
import torch

from kdutils import distillation_loss, kd_loss, soften

GOOD = torch.zeros(2, 3)
NAN, INFINITE = torch.full((2, 3), math.nan), torch.tensor([[0.0, math.inf, 0.0], [0.0, -math.inf, 0.0]])


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, -math.inf, None, "4", True, torch.tensor(4.0)])
@pytest.mark.parametrize(
    "call",
    [
        lambda t: soften(GOOD, t),
        lambda t: kd_loss(GOOD, GOOD, t),
        lambda t: distillation_loss(GOOD, GOOD, torch.tensor([0, 1]), temperature=t),
    ],
    ids=["soften", "kd_loss", "distillation_loss"],
)
def test_a_bad_temperature_is_named(call, value):
    with pytest.raises(ValueError) as error:
        call(value)
    assert "temperature" in str(error.value) and repr(value) in str(error.value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, None, "0.5", True])
def test_a_bad_soft_weight_is_named(value):
    with pytest.raises(ValueError) as error:
        distillation_loss(GOOD, GOOD, torch.tensor([0, 1]), soft_weight=value)
    assert "soft_weight" in str(error.value) and repr(value) in str(error.value)


@pytest.mark.parametrize(
    "student, teacher, message",
    [
        (GOOD, torch.zeros(2, 4), r"student_logits and teacher_logits .* \(2, 3\) and \(2, 4\)"),
        (GOOD, torch.zeros(1, 3), r"student_logits and teacher_logits .* \(2, 3\) and \(1, 3\)"),  # would broadcast
        (GOOD, torch.zeros(3), r"student_logits and teacher_logits .* \(2, 3\) and \(3,\)"),  # would broadcast
        (torch.zeros(0, 3), torch.zeros(0, 3), r"student_logits .* at least one example, got \(0, 3\)"),
        (torch.tensor(1.0), torch.tensor(1.0), r"student_logits .* shape \(\.\.\., C\) .* got \(\)"),
        (GOOD.long(), GOOD.long(), "student_logits must be floating point, got torch.int64"),
        (NAN, GOOD, "student_logits must be finite, but 6 of its 6 values are nan"),
        (GOOD, NAN, "teacher_logits must be finite, but 6 of its 6 values are nan"),
        (INFINITE, GOOD, "student_logits must be finite, but 2 of its 6"),
        (GOOD, INFINITE, "teacher_logits must be finite, but 2 of its 6"),
    ],
)
def test_bad_logits_are_named(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        kd_loss(student, teacher)
    with pytest.raises(ValueError, match=message):
        distillation_loss(student, teacher, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "labels, message",
    [
        (torch.tensor([0, 3]), r"labels must lie in 0 … 2, got values from 0 to 3"),
        (torch.tensor([-1, 2]), r"labels must lie in 0 … 2, got values from -1 to 2"),
        (torch.tensor([0.0, 1.0]), r"labels must be int64 class numbers, got torch.float32"),
        (torch.tensor([0]), r"labels must have shape \(2,\) .* got \(1,\)"),
        (torch.tensor([[0, 1]]), r"labels must have shape \(2,\) .* got \(1, 2\)"),
    ],
)
def test_bad_labels_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(GOOD, GOOD, labels)


@pytest.mark.parametrize("value, message", [("mean", "got 'mean' .*use \"batchmean\""), (None, "got None")])
def test_a_bad_reduction_is_named(value, message):
    with pytest.raises(ValueError, match="reduction .*" + message):
        kd_loss(GOOD, GOOD, reduction=value)


@pytest.mark.parametrize("bad", [NAN, INFINITE])
def test_soften_refuses_logits_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="logits must be finite"):
        soften(bad)
