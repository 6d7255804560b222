"""The other directions: KL(student ‖ teacher) and the generalised Jensen–Shannon divergence between the two."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon

from kdutils import kd_loss
from kdutils.losses import jsd_loss, reverse_kd_loss
from tests.logits import for_all_cases, kl_by_hand, logits, numeric_gradient, probabilities, value_and_gradient
from tests.mutants import Table

BETAS = (0.1, 0.5, 0.9)
DIRECTIONS = {"reverse": reverse_kd_loss} | {f"jsd {beta}": partial(jsd_loss, beta=beta) for beta in BETAS}
for_each_direction = pytest.mark.parametrize("loss", DIRECTIONS.values(), ids=list(DIRECTIONS))

# At T = 2 the teacher softens to (3/4, 1/4) and the student to (1/2, 1/2).
HALVES = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
QUARTERS = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)


def largest(beta):
    """The divergence of two distributions that have no outcome in common."""
    return -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)


# --- values ------------------------------------------------------------------------------------------------------


def test_reverse_gives_the_value_worked_out_by_hand():
    expected = 2**2 * (1 / 2 * math.log((1 / 2) / (3 / 4)) + 1 / 2 * math.log((1 / 2) / (1 / 4)))
    assert reverse_kd_loss(HALVES, QUARTERS, 2).item() == pytest.approx(expected, rel=1e-14)


def test_jsd_gives_the_value_worked_out_by_hand():
    # β = 1/4: the mixture is (1/4 · 3/4 + 3/4 · 1/2, 1/4 · 1/4 + 3/4 · 1/2) = (9/16, 7/16).
    of_teacher = 3 / 4 * math.log((3 / 4) / (9 / 16)) + 1 / 4 * math.log((1 / 4) / (7 / 16))
    of_student = 1 / 2 * math.log((1 / 2) / (9 / 16)) + 1 / 2 * math.log((1 / 2) / (7 / 16))
    expected = 2**2 * (of_teacher / 4 + 3 * of_student / 4)
    assert jsd_loss(HALVES, QUARTERS, 2, beta=0.25).item() == pytest.approx(expected, rel=1e-14)


def test_the_defaults_are_a_temperature_of_4_and_equal_shares():
    assert reverse_kd_loss(HALVES, QUARTERS) == reverse_kd_loss(HALVES, QUARTERS, 4.0)
    assert jsd_loss(HALVES, QUARTERS) == jsd_loss(HALVES, QUARTERS, 4.0, beta=0.5)


@for_all_cases
def test_reverse_equals_the_formula_and_kd_loss_with_changed_places(case):
    student, teacher, temperature = case
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    loss = reverse_kd_loss(student, teacher, temperature).item()
    assert loss == pytest.approx(temperature**2 * kl_by_hand(q, p).mean(), rel=1e-7, abs=1e-9)
    assert loss == pytest.approx(kd_loss(teacher, student, temperature).item(), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("beta", BETAS)
@for_all_cases
def test_jsd_equals_the_formula(beta, case):
    student, teacher, temperature = case
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    mixture = beta * p + (1 - beta) * q
    expected = temperature**2 * (beta * kl_by_hand(p, mixture) + (1 - beta) * kl_by_hand(q, mixture)).mean()
    assert jsd_loss(student, teacher, temperature, beta=beta).item() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@for_all_cases
def test_jsd_at_one_half_equals_scipys(case):
    student, teacher, temperature = case
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    expected = temperature**2 * np.mean(np.nan_to_num(jensenshannon(p, q, axis=-1)) ** 2)
    assert jsd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


# --- bounds, equality, symmetry ----------------------------------------------------------------------------------


@for_each_direction
@for_all_cases
def test_never_negative_and_zero_at_equality(loss, case):
    student, teacher, temperature = case
    assert loss(student, teacher, temperature) > -1e-10
    assert loss(teacher, teacher, temperature).abs() < 1e-12 * temperature**2


@for_each_direction
@for_all_cases
def test_the_gradient_is_zero_at_equality_and_sums_to_zero_elsewhere(loss, case):
    student, teacher, temperature = case
    _, gradient = value_and_gradient(lambda s: loss(s, teacher, temperature), teacher)
    assert gradient.abs().max() < 1e-12 * temperature
    _, gradient = value_and_gradient(lambda s: loss(s, teacher, temperature), student)
    assert gradient.sum(-1).abs().max() < 1e-10 * temperature


@pytest.mark.parametrize("beta", [0.01, *BETAS, 0.99])
@for_all_cases
def test_jsd_never_exceeds_its_bound(beta, case):
    student, teacher, temperature = case
    assert jsd_loss(student, teacher, temperature, beta=beta) <= temperature**2 * largest(beta) + 1e-9


@pytest.mark.parametrize("beta", [0.01, *BETAS, 0.99])
def test_jsd_reaches_its_bound_where_nothing_is_in_common(beta):
    student, teacher = torch.tensor([[[800.0, 0.0]], [[0.0, 800.0]]])
    assert jsd_loss(student, teacher, 1.0, beta=beta).item() == pytest.approx(largest(beta), rel=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@for_all_cases
def test_jsd_is_the_same_with_changed_places_and_shares(beta, case):
    student, teacher, temperature = case
    there, back = (
        jsd_loss(student, teacher, temperature, beta=beta),
        jsd_loss(teacher, student, temperature, beta=1 - beta),
    )
    torch.testing.assert_close(there, back, rtol=1e-9, atol=1e-9)


@for_each_direction
@for_all_cases
def test_shifting_all_logits_of_an_example_changes_nothing(loss, case):
    student, teacher, temperature = case
    shift = logits(*student.shape[:-1], 1, seed=1, scale=10)
    expected = loss(student, teacher, temperature)
    torch.testing.assert_close(loss(student + shift, teacher - shift, temperature), expected, rtol=1e-7, atol=1e-9)


# --- limits ------------------------------------------------------------------------------------------------------


def test_near_its_ends_jsd_is_a_small_share_of_either_kl_and_tends_to_0():
    student, teacher = logits(2, 8, 10)
    for beta in (1e-4, 1e-6):
        low, high = jsd_loss(student, teacher, 1.0, beta=beta), jsd_loss(student, teacher, 1.0, beta=1 - beta)
        torch.testing.assert_close(low / beta, kd_loss(student, teacher, 1.0), rtol=1000 * beta, atol=0)
        torch.testing.assert_close(high / beta, reverse_kd_loss(student, teacher, 1.0), rtol=1000 * beta, atol=0)


@pytest.mark.parametrize(
    "loss, share", [(reverse_kd_loss, 1), *((partial(jsd_loss, beta=b), b * (1 - b)) for b in BETAS)]
)
def test_high_temperature_tends_to_matching_centred_logits(loss, share):
    student, teacher = logits(2, 4, 10)
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = share * gap.square().sum() / (2 * 10) / 4
    errors = [abs(loss(student, teacher, t) / limit - 1).item() for t in (100, 1000, 10_000)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] and errors[2] < 1e-3


def test_reverse_keeps_one_of_the_teachers_answers_where_forward_covers_both():
    teacher = torch.tensor([[5.0, -5.0, 5.0]])
    one, between = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])  # surely one, or any of the three
    assert reverse_kd_loss(one, teacher, 1.0) < reverse_kd_loss(between, teacher, 1.0)
    assert kd_loss(one, teacher, 1.0) > kd_loss(between, teacher, 1.0)


# --- the gradient, number formats, inputs ------------------------------------------------------------------------


@for_each_direction
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_equals_a_finite_difference(loss, temperature):
    student, teacher = logits(3, 5, seed=2), logits(3, 5, seed=1)
    _, gradient = value_and_gradient(lambda s: loss(s, teacher, temperature), student)
    numeric = numeric_gradient(lambda s: loss(s, teacher, temperature), student)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)


@for_each_direction
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_half_precision_is_finite_and_right_at_logits_of_80(loss, dtype, temperature):
    student = torch.tensor([[80, -80, 0, 3], [-80, 80, 1, 2]], dtype=dtype)
    teacher = torch.tensor([[-80, 80, 3, 0], [-80, 80, 2, 1]], dtype=dtype)
    value, gradient = value_and_gradient(lambda s: loss(s, teacher, temperature), student)
    exact = loss(student.double(), teacher.double(), temperature).item()
    assert value.dtype == torch.float32 and gradient.dtype == dtype and gradient.isfinite().all()
    assert value.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, -0.5, 1.5, math.nan, None, "0.5", True, torch.tensor(0.5)])
def test_a_beta_that_is_not_strictly_inside_is_named_and_the_way_out_too(value):
    with pytest.raises(ValueError) as error:
        jsd_loss(HALVES, QUARTERS, beta=value)
    for words in ("beta", repr(value), "kd_loss", "reverse_kd_loss"):
        assert words in str(error.value)


def test_numpys_numbers_are_betas_too():
    assert jsd_loss(HALVES, QUARTERS, beta=np.float64(0.25)) == jsd_loss(HALVES, QUARTERS, beta=0.25)


@for_each_direction
def test_bad_input_is_named_as_by_kd_loss(loss):
    for bad in (torch.zeros(1, 3), torch.zeros(2, dtype=torch.float64), torch.full((1, 2), math.nan)):
        with pytest.raises(ValueError, match="student_logits"):
            loss(bad, QUARTERS)
    with pytest.raises(ValueError, match="temperature"):
        loss(HALVES, QUARTERS, 0)
    with pytest.raises(ValueError, match="reduction"):
        loss(HALVES, QUARTERS, reduction="mean")


# --- mistakes that are easy to make in a divergence with three distributions -------------------------------------

T, STUDENT, TEACHER = 3.0, logits(4, 5, seed=3), logits(4, 5, seed=4)


def check_value(loss):
    assert loss(HALVES, QUARTERS, 2.0, 0.25).item() == pytest.approx(jsd_by_hand(HALVES, QUARTERS, 2.0, 0.25), rel=1e-9)


def check_bound(loss):
    student, teacher = torch.tensor([[[80.0, 0.0]], [[0.0, 80.0]]], dtype=torch.float64)
    for beta in (0.1, 0.5):
        assert loss(student, teacher, T, beta) <= T**2 * largest(beta) + 1e-9


def check_places(loss):
    torch.testing.assert_close(loss(STUDENT, TEACHER, T, 0.25), loss(TEACHER, STUDENT, T, 0.75))


def check_zero(loss):
    assert loss(STUDENT, STUDENT.clone(), T, 0.25).item() == pytest.approx(0, abs=1e-12)


def check_ends(loss):
    assert loss(STUDENT, TEACHER, T, 1e-6) < 1e-4 and loss(STUDENT, TEACHER, T, 1 - 1e-6) < 1e-4


def check_gradient(loss):
    _, gradient = value_and_gradient(lambda s: loss(s, TEACHER, T, 0.25), STUDENT)
    numeric = numeric_gradient(lambda s: loss(s, TEACHER, T, 0.25), STUDENT)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)


def check_teacher(loss):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss(student, teacher, T, 0.25).backward()
    assert teacher.grad is None


PROPERTIES = (check_value, check_bound, check_places, check_zero, check_ends, check_gradient, check_teacher)


def jsd_by_hand(student, teacher, temperature, beta):
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    mixture = beta * p + (1 - beta) * q
    return temperature**2 * (beta * kl_by_hand(p, mixture) + (1 - beta) * kl_by_hand(q, mixture)).mean()


def kl(p, q):
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1)


def parts(s, t, temperature, beta):
    s, t = (F.log_softmax(x / temperature, dim=-1) for x in (s, t.detach()))
    return s, t, torch.logaddexp(t + math.log(beta), s + math.log(1 - beta))


def reference(s, t, T, beta):
    s, t, m = parts(s, t, T, beta)
    return (beta * kl(t, m) + (1 - beta) * kl(s, m)).mean() * T**2


def shares_of_the_sum_swapped(s, t, T, beta):
    s, t, m = parts(s, t, T, beta)
    return ((1 - beta) * kl(t, m) + beta * kl(s, m)).mean() * T**2


def shares_of_the_mixture_swapped(s, t, T, beta):
    s, t, m = parts(s, t, T, 1 - beta)
    return (beta * kl(t, m) + (1 - beta) * kl(s, m)).mean() * T**2


def both_swapped(s, t, T, beta):
    return reference(s, t, T, 1 - beta)


def mixture_of_logits(s, t, T, beta):
    s, t = s, t.detach()
    m = F.log_softmax((beta * t + (1 - beta) * s) / T, dim=-1)
    s, t = (F.log_softmax(x / T, dim=-1) for x in (s, t))
    return (beta * kl(t, m) + (1 - beta) * kl(s, m)).mean() * T**2


def directions_turned_round(s, t, T, beta):
    s, t, m = parts(s, t, T, beta)
    return (beta * kl(m, t) + (1 - beta) * kl(m, s)).mean() * T**2


def student_followed_through_the_mixture_alone(s, t, T, beta):
    # M is the minimum of the sum, so what comes through it is 0: nothing would be learnt. (To follow the student
    # everywhere but in M is therefore no mistake.)
    s, t, m = parts(s, t, T, beta)
    return (beta * kl(t, m) + (1 - beta) * kl(s.detach(), m)).mean() * T**2


def teacher_not_detached(s, t, T, beta):
    s, t = (F.log_softmax(x / T, dim=-1) for x in (s, t))
    m = torch.logaddexp(t + math.log(beta), s + math.log(1 - beta))
    return (beta * kl(t, m) + (1 - beta) * kl(s, m)).mean() * T**2


def no_mixture(s, t, T, beta):
    s, t, _ = parts(s, t, T, beta)
    return ((1 - beta) * kl(t, s) + beta * kl(s, t)).mean() * T**2


def forward_alone(s, t, T, beta):
    s, t, _ = parts(s, t, T, beta)
    return kl(t, s).mean() * T**2


def cross_entropies(s, t, T, beta):
    s, t, m = parts(s, t, T, beta)
    return -(beta * t.exp() * m + (1 - beta) * s.exp() * m).sum(-1).mean() * T**2


def no_T_squared(s, t, T, beta):
    return reference(s, t, T, beta) / T**2


WHO_CATCHES_WHAT = """
                                              value  bound  places  zero  ends  gradient  teacher
shares_of_the_sum_swapped                       x      x      ·      ·     x       ·         ·
shares_of_the_mixture_swapped                   x      x      ·      ·     x       ·         ·
both_swapped                                    x      ·      ·      ·     ·       ·         ·
mixture_of_logits                               x      x      ·      ·     ·       ·         ·
directions_turned_round                         x      x      ·      ·     ·       ·         ·
student_followed_through_the_mixture_alone      ·      ·      ·      ·     ·       x         ·
teacher_not_detached                            ·      ·      ·      ·     ·       ·         x
no_mixture                                      x      x      ·      ·     x       ·         ·
forward_alone                                   x      x      x      ·     x       ·         ·
cross_entropies                                 x      ·      ·      x     x       ·         ·
no_T_squared                                    x      ·      ·      ·     ·       ·         ·
"""
TABLE = Table(WHO_CATCHES_WHAT, PROPERTIES)
RIGHT = {"jsd_loss": lambda s, t, T, beta: jsd_loss(s, t, T, beta=beta), "reference": reference}


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("loss", RIGHT.values(), ids=list(RIGHT))
def test_the_right_loss_has_every_property(loss, check):
    check(loss)


@pytest.mark.parametrize("name", TABLE.rows)
def test_a_wrong_loss_lacks_exactly_the_properties_in_the_table(name):
    TABLE.holds_for(name, globals()[name])


def test_the_table_has_a_column_for_each_property_and_each_column_catches_something():
    TABLE.needs_every_column()
