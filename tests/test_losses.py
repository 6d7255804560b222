"""The distillation loss against hand-computed values, other libraries, its gradient formula and its two limits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax
from torchmetrics.functional import kl_divergence

from kdutils import distillation_loss, kd_loss, soften
from kdutils.losses import unchecked_distillation_loss
from tests.logits import for_all_cases, logits, numeric_gradient

# Written out on paper. At T = 2 the teacher's first row softens to (3/4, 1/4), the student's to (1/2, 1/2).
STUDENT = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
TEACHER = torch.tensor([[2 * math.log(3), 0.0], [1.0, 2.0]], dtype=torch.float64)
FIRST_ROW = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)  # KL of the first row; that of the second is 0


pytestmark = pytest.mark.usefixtures("one_thread")


def gradient(student, teacher, temperature):
    student = student.clone().requires_grad_()
    kd_loss(student, teacher, temperature).backward()
    return student.grad


# --- values ------------------------------------------------------------------------------------------------------


def test_soften_gives_the_probabilities_worked_out_by_hand():
    expected = torch.tensor([3 / 4, 1 / 4], dtype=torch.float64)
    torch.testing.assert_close(soften(TEACHER[0], temperature=2), expected)


def test_kd_loss_gives_the_value_worked_out_by_hand():
    assert kd_loss(STUDENT, TEACHER, 2).item() == pytest.approx(2**2 * FIRST_ROW / 2, rel=1e-14)


def test_each_reduction_gives_the_value_worked_out_by_hand():
    assert kd_loss(STUDENT, TEACHER, 2, reduction="sum").item() == pytest.approx(4 * FIRST_ROW, rel=1e-14)
    assert kd_loss(STUDENT, TEACHER, 2, reduction="none").tolist() == pytest.approx([4 * FIRST_ROW, 0], rel=1e-14)


def test_default_temperature_is_4():
    assert kd_loss(STUDENT, TEACHER) == kd_loss(STUDENT, TEACHER, 4.0)


@pytest.mark.parametrize("temperature", [np.int64(2), np.float32(2), np.float64(2)])
def test_numpys_numbers_are_temperatures_too(temperature):
    assert kd_loss(STUDENT, TEACHER, temperature) == kd_loss(STUDENT, TEACHER, 2)


@for_all_cases
def test_kd_loss_equals_scipys_and_torchmetrics_divergence(case):
    student, teacher, temperature = case
    rows_s, rows_t = (x.reshape(-1, x.shape[-1]) / temperature for x in (student, teacher))
    loss = kd_loss(student, teacher, temperature).item()
    by_scipy = rel_entr(softmax(rows_t, axis=1), softmax(rows_s, axis=1)).sum() / len(rows_s)
    by_torchmetrics = kl_divergence(rows_t.log_softmax(1), rows_s.log_softmax(1), log_prob=True).item()
    assert loss == pytest.approx(temperature**2 * by_scipy, rel=1e-7, abs=1e-9)
    assert loss == pytest.approx(temperature**2 * by_torchmetrics, rel=1e-7, abs=1e-9)


@for_all_cases
def test_kd_loss_is_zero_at_equality_and_never_negative(case):
    student, teacher, temperature = case
    assert kd_loss(teacher, teacher, temperature) == 0
    assert kd_loss(student, teacher, temperature) > -1e-10  # not quite 0: the sum of KL's terms rounds


@for_all_cases
def test_shifting_all_logits_of_an_example_changes_nothing(case):
    student, teacher, temperature = case
    shift = logits(*student.shape[:-1], 1, seed=1, scale=10)
    expected = kd_loss(student, teacher, temperature)
    torch.testing.assert_close(kd_loss(student + shift, teacher, temperature), expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(kd_loss(student, teacher - shift, temperature), expected, rtol=1e-7, atol=1e-9)


@for_all_cases
def test_leading_dimensions_all_count_as_examples(case):
    student, teacher, temperature = case
    flat_s, flat_t = (x.reshape(-1, x.shape[-1]) for x in (student, teacher))
    torch.testing.assert_close(kd_loss(student, teacher, temperature), kd_loss(flat_s, flat_t, temperature))
    each = kd_loss(student, teacher, temperature, reduction="none")
    assert each.shape == student.shape[:-1]
    torch.testing.assert_close(each.flatten(), kd_loss(flat_s, flat_t, temperature, reduction="none"))


# --- the gradient ------------------------------------------------------------------------------------------------


@for_all_cases
def test_gradient_is_T_times_the_difference_of_soft_targets_over_N(case):
    student, teacher, temperature = case
    examples = student[..., 0].numel()
    expected = temperature * (softmax(student / temperature, -1) - softmax(teacher / temperature, -1)) / examples
    torch.testing.assert_close(gradient(student, teacher, temperature), torch.as_tensor(expected))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_passes_gradcheck(temperature):
    teacher = logits(3, 5, seed=1)
    student = logits(3, 5, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: kd_loss(s, teacher, temperature), student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_equals_a_finite_difference(temperature):
    student, teacher = logits(3, 5, seed=2), logits(3, 5, seed=1)
    numeric = numeric_gradient(lambda s: kd_loss(s, teacher, temperature), student)
    torch.testing.assert_close(gradient(student, teacher, temperature), numeric, rtol=1e-6, atol=1e-8)


def test_no_gradient_reaches_the_teacher():
    student, teacher = logits(3, 5).requires_grad_(), logits(3, 5, seed=1).requires_grad_()
    distillation_loss(student, teacher, torch.tensor([0, 1, 2])).total.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


# --- the limits --------------------------------------------------------------------------------------------------


def test_high_temperature_tends_to_matching_centred_logits():
    student, teacher = logits(4, 10, seed=1), logits(4, 10, seed=2)
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit, slope = gap.square().sum() / (2 * 10) / 4, gap / 10 / 4
    errors = [abs(kd_loss(student, teacher, t) / limit - 1).item() for t in (10, 100, 1000)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]  # it falls as 1/T
    assert errors[2] < 0.01
    torch.testing.assert_close(gradient(student, teacher, 1e5), slope, rtol=1e-2, atol=1e-5)


def test_low_temperature_tends_to_matching_the_teachers_label():
    student, teacher, t = logits(4, 10, seed=1), logits(4, 10, seed=2), 1e-3
    label, answer = teacher.argmax(1), student.argmax(1)
    torch.testing.assert_close(soften(teacher, t), F.one_hot(label, 10).double())
    cross_entropy = F.cross_entropy(student / t, label)
    torch.testing.assert_close(kd_loss(student, teacher, t) / t**2, cross_entropy)
    labels_apart = (F.one_hot(answer, 10) - F.one_hot(label, 10)).double() / 4
    torch.testing.assert_close(gradient(student, teacher, t) / t, labels_apart)


@pytest.mark.parametrize("temperature, tolerance", [(1.0, 0.5), (10.0, 1e-2), (1000.0, 1e-4)])
def test_soft_targets_become_uniform_as_the_temperature_grows(temperature, tolerance):
    far = (soften(torch.tensor([1.0, 0.0, -1.0]), temperature) - 1 / 3).abs().max()
    assert tolerance / 10 < far < 10 * tolerance


# --- number formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_half_precision_is_finite_and_right_at_logits_of_80(dtype, temperature):
    student = torch.tensor([[80, -80, 0, 3], [-80, 80, 1, 2]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[-80, 80, 3, 0], [-80, 80, 2, 1]], dtype=dtype)
    parts = distillation_loss(student, teacher, torch.tensor([1, 1]), temperature=temperature)
    parts.total.backward()
    exact = kd_loss(student.detach().double(), teacher.double(), temperature)
    assert parts.soft.dtype == torch.float32 and student.grad.dtype == dtype
    assert parts.soft.item() == pytest.approx(exact.item(), rel=1e-5)
    assert torch.isfinite(torch.stack(parts)).all() and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_and_double_precision_are_kept(dtype):
    student, teacher = logits(3, 5, dtype=dtype), logits(3, 5, seed=1, dtype=dtype)
    assert soften(student).dtype == kd_loss(student, teacher).dtype == dtype


# --- the full loss -----------------------------------------------------------------------------------------------


def test_parts_are_the_values_worked_out_by_hand():
    # At T = 1 the student gives class 1 the probability 1/2 in the first row and e/(1 + e) in the second.
    soft, hard = 4 * FIRST_ROW / 2, (math.log(2) + math.log(1 + math.exp(-1))) / 2
    parts = distillation_loss(STUDENT, TEACHER, torch.tensor([1, 1]), temperature=2, soft_weight=0.75)
    assert [part.item() for part in parts] == pytest.approx([0.75 * soft + 0.25 * hard, soft, hard], rel=1e-14)


def test_temperature_leaves_the_hard_term_alone():
    cold, hot = (distillation_loss(STUDENT, TEACHER, torch.tensor([1, 0]), temperature=t) for t in (1, 20))
    assert cold.hard == hot.hard
    assert cold.soft != hot.soft


@pytest.mark.parametrize("soft_weight, term", [(0.0, "hard"), (1.0, "soft")])
def test_a_weight_of_0_or_1_leaves_one_term(soft_weight, term):
    parts = distillation_loss(STUDENT, TEACHER, torch.tensor([1, 0]), soft_weight=soft_weight)
    assert parts.total == getattr(parts, term)


def test_full_loss_takes_leading_dimensions():
    student, teacher, labels = logits(2, 3, 5), logits(2, 3, 5, seed=1), torch.arange(6).reshape(2, 3) % 5
    nested = distillation_loss(student, teacher, labels)
    flat = distillation_loss(student.reshape(6, 5), teacher.reshape(6, 5), labels.reshape(6))
    torch.testing.assert_close(torch.stack(nested), torch.stack(flat))


def test_the_unchecked_loss_gives_the_same_numbers():
    labels = torch.tensor([1, 0])
    checked = distillation_loss(STUDENT, TEACHER, labels, temperature=3.0, soft_weight=0.4)
    assert unchecked_distillation_loss(STUDENT, TEACHER, labels, 3.0, 0.4) == checked
