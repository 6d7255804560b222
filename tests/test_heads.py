"""Losses for sigmoid heads and for heads that give numbers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdutils import kd_loss
from kdutils.heads import binary_kd_loss, regression_kd_loss
from tests.logits import for_all_cases, kl_by_hand, logits, numeric_gradient, value_and_gradient


def bernoulli(values, temperature):
    """Probabilities of yes and no, ``(..., K, 2)``."""
    yes = 1 / (1 + np.exp(-values.double().numpy() / temperature))
    return np.stack([yes, 1 - yes], axis=-1)


# --- sigmoid heads -----------------------------------------------------------------------------------------------


def test_binary_gives_the_value_worked_out_by_hand():
    # At T = 2 the teacher says 3/4 and 1/2, the student 1/2 and 1/2; the second example is equal in both.
    teacher = torch.tensor([[2 * math.log(3), 0.0], [1.0, 2.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    first = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    assert binary_kd_loss(student, teacher, 2).item() == pytest.approx(4 * first / 2, rel=1e-14)
    assert binary_kd_loss(student, teacher) == binary_kd_loss(student, teacher, 4.0)


@for_all_cases
def test_binary_equals_the_formula_summed_over_the_labels(case):
    student, teacher, temperature = (x.clamp(-20, 20) if isinstance(x, torch.Tensor) else max(x, 1.0) for x in case)
    p, q = bernoulli(teacher, temperature), bernoulli(student, temperature)
    expected = temperature**2 * kl_by_hand(p, q).sum(-1).mean()
    assert binary_kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@for_all_cases
def test_one_label_is_kd_loss_on_the_two_logits_0_and_z(case):
    student, teacher, temperature = case
    one = [x[..., :1] for x in (student, teacher)]
    two = [torch.cat([torch.zeros_like(z), z], dim=-1) for z in one]
    torch.testing.assert_close(
        binary_kd_loss(*one, temperature), kd_loss(*two, temperature), rtol=1e-7, atol=1e-9 * temperature**2
    )
    _, gradient = value_and_gradient(lambda s: binary_kd_loss(s, one[1], temperature), one[0])
    _, expected = value_and_gradient(lambda s: kd_loss(s, two[1], temperature), two[0])
    torch.testing.assert_close(gradient, expected[..., 1:], rtol=1e-7, atol=1e-9 * temperature)


@for_all_cases
def test_the_labels_are_judged_one_by_one(case):
    student, teacher, temperature = case
    columns = zip(student.split(1, dim=-1), teacher.split(1, dim=-1), strict=True)
    torch.testing.assert_close(
        binary_kd_loss(student, teacher, temperature), sum(binary_kd_loss(s, t, temperature) for s, t in columns)
    )


@for_all_cases
def test_binary_is_zero_at_equality_never_negative_and_the_same_for_yes_and_no(case):
    student, teacher, temperature = case
    assert binary_kd_loss(teacher, teacher, temperature) == 0
    loss = binary_kd_loss(student, teacher, temperature)
    assert loss > -1e-10
    torch.testing.assert_close(binary_kd_loss(-student, -teacher, temperature), loss)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_binary_gradient_is_T_times_the_difference_of_the_sigmoids_over_N(temperature):
    student, teacher = logits(3, 5, seed=2), logits(3, 5, seed=1)
    _, gradient = value_and_gradient(lambda s: binary_kd_loss(s, teacher, temperature), student)
    expected = temperature * (torch.sigmoid(student / temperature) - torch.sigmoid(teacher / temperature)) / 3
    torch.testing.assert_close(gradient, expected)
    numeric = numeric_gradient(lambda s: binary_kd_loss(s, teacher, temperature), student)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)


def test_at_a_low_temperature_binary_tends_to_the_teachers_answer():
    student, teacher, t = logits(4, 3, seed=1), logits(4, 3, seed=2), 1e-3
    expected = F.binary_cross_entropy_with_logits(student / t, (teacher > 0).double(), reduction="sum") / 4
    torch.testing.assert_close(binary_kd_loss(student, teacher, t) / t**2, expected)


def test_at_a_high_temperature_binary_tends_to_matching_logits():
    student, teacher = logits(4, 3, seed=1), logits(4, 3, seed=2)
    limit = (student - teacher).square().sum() / 8 / 4
    assert binary_kd_loss(student, teacher, 1e3).item() == pytest.approx(limit.item(), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_binary_in_half_precision_is_finite_and_right_at_logits_of_80(dtype, temperature):
    student, teacher = torch.tensor([[80, -80, 0]], dtype=dtype), torch.tensor([[-80, 80, 3]], dtype=dtype)
    value, gradient = value_and_gradient(lambda s: binary_kd_loss(s, teacher, temperature), student)
    exact = binary_kd_loss(student.double(), teacher.double(), temperature).item()
    assert value.dtype == torch.float32 and gradient.dtype == dtype and gradient.isfinite().all()
    assert value.item() == pytest.approx(exact, rel=1e-5)


# --- numbers -----------------------------------------------------------------------------------------------------


def test_regression_gives_the_value_worked_out_by_hand():
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    teacher = torch.tensor([[4.0, 6.0], [0.0, 1.0]])
    assert regression_kd_loss(student, teacher) == (9 + 16 + 1) / 2
    assert regression_kd_loss(student, teacher, reduction="sum") == 26
    assert regression_kd_loss(student, teacher, reduction="none").tolist() == [25, 1]


@for_all_cases
def test_regression_is_pytorchs_mean_square_times_the_number_of_outputs(case):
    student, teacher, _ = case
    expected = F.mse_loss(student, teacher) * student.shape[-1]
    torch.testing.assert_close(regression_kd_loss(student, teacher), expected)


def test_regression_gradient_is_twice_the_distance_over_N():
    student, teacher = logits(3, 5, seed=2), logits(3, 5, seed=1)
    _, gradient = value_and_gradient(lambda s: regression_kd_loss(s, teacher), student)
    torch.testing.assert_close(gradient, 2 * (student - teacher) / 3)


def test_regression_takes_maps_of_numbers_and_half_precision():
    student, teacher = torch.full((2, 1, 4, 4), 300.0).half(), torch.zeros(2, 1, 4, 4).half()
    assert regression_kd_loss(student, teacher) == 4 * 90_000  # more than half precision can hold


# --- what neither can know ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss, what", [(binary_kd_loss, "labels"), (regression_kd_loss, "outputs")])
def test_a_single_dimension_could_be_examples_or_labels(loss, what):
    with pytest.raises(ValueError) as error:
        loss(torch.zeros(8), torch.zeros(8))
    for words in ("(8,)", f"8 examples or 8 {what}", "unsqueeze(-1)", "unsqueeze(0)"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: binary_kd_loss(torch.zeros(2, 3), torch.zeros(2, 1)),
            r"student_logits and teacher_logits .*same shape",
        ),
        (lambda: binary_kd_loss(torch.zeros(2, 3), torch.full((2, 3), math.nan)), "teacher_logits must be finite"),
        (lambda: binary_kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), 0), "temperature"),
        (lambda: binary_kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), reduction="mean"), "reduction"),
        (lambda: regression_kd_loss(torch.zeros(2, 3), torch.zeros(2, 1)), r"student and teacher .*same shape"),
        (lambda: regression_kd_loss(torch.full((2, 3), math.inf), torch.zeros(2, 3)), "student must be finite"),
        (lambda: regression_kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), reduction="mean"), "reduction"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
