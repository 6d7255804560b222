"""Mistakes that are easy to make in a distillation loss, and the properties that give each one away.

A property is a function that takes a loss. The same properties are checked on ``kd_loss``, which has them all, and on
wrong losses ("mutants"), each of which lacks some: a test that no mistake can fail would prove nothing.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from kdutils import kd_loss
from tests.mutants import Table

N, C, T = 4, 5, 3.0


def pair(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    return tuple((2 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)).to(dtype))


def softmax(logits, temperature):
    return torch.softmax(logits / temperature, dim=-1)


def log_softmax(logits, temperature):
    return F.log_softmax(logits / temperature, dim=-1)


# --- the properties ----------------------------------------------------------------------------------------------


def check_value(loss):
    # At T = 2 the teacher softens to (3/4, 1/4) and the student to (1/2, 1/2); the second row is equal in both.
    student = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    teacher = torch.tensor([[2 * math.log(3), 0.0], [1.0, 2.0]], dtype=torch.float64)
    expected = 2**2 * (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)) / 2
    assert loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-9)


def check_zero(loss):
    student, _ = pair(N, C)
    assert loss(student, student.clone(), T).item() == pytest.approx(0, abs=1e-12)


def check_shift(loss):
    student, teacher = pair(N, C)
    shift = torch.arange(N, dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(student + shift, teacher - shift, T), loss(student, teacher, T))


def check_gradient(loss):
    student, teacher = (logits.requires_grad_() for logits in pair(N, C))
    loss(student, teacher, T).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, T * (softmax(student, T) - softmax(teacher, T)).detach() / N)


def check_teacher(loss):
    student, teacher = (logits.requires_grad_() for logits in pair(N, C))
    loss(student, teacher, T).backward()
    assert teacher.grad is None


def check_flat(loss):
    student, teacher = pair(2, N, C)
    torch.testing.assert_close(loss(student, teacher, T), loss(student.flatten(0, 1), teacher.flatten(0, 1), T))


def check_high_T(loss):
    student, teacher = pair(N, C)
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert loss(student, teacher, 1e4).item() == pytest.approx(gap.square().sum().item() / (2 * C * N), rel=1e-2)


def check_low_T(loss):
    student, teacher = pair(N, C)
    expected = F.cross_entropy(student / 1e-3, teacher.argmax(1))  # the teacher's label, and nothing else of it
    torch.testing.assert_close(loss(student, teacher, 1e-3) / 1e-3**2, expected)


def check_half(loss):
    student = torch.tensor([[80, -80, 0.1, 3.3]], dtype=torch.float16)
    teacher = torch.tensor([[-80, 80, 3.3, 0.1]], dtype=torch.float16)
    for temperature in (1.0, 8.0):
        exact = loss(student.double(), teacher.double(), temperature).item()
        assert loss(student, teacher, temperature).item() == pytest.approx(exact, rel=1e-5)


PROPERTIES = (
    check_value,
    check_zero,
    check_shift,
    check_gradient,
    check_teacher,
    check_flat,
    check_high_T,
    check_low_T,
    check_half,
)


# --- the mutants -------------------------------------------------------------------------------------------------


def reference(s, t, T):
    """kd_loss in two lines, for the mutants to differ from: each breaks one thing in it."""
    s, t = (logits.float() if logits.dtype == torch.float16 else logits for logits in (s, t.detach()))
    s, t = (log_softmax(logits, T).flatten(0, -2) for logits in (s, t))
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T**2


def swapped_arguments(s, t, T):
    return reference(t, s, T)


def reverse_divergence(s, t, T):
    s, t = s.double(), t.detach().double()
    return (softmax(s, T) * (log_softmax(s, T) - log_softmax(t, T))).sum(-1).mean() * T**2


def no_T_squared(s, t, T):
    return reference(s, t, T) / T**2


def T_instead_of_T_squared(s, t, T):
    return reference(s, t, T) / T


def default_reduction(s, t, T):
    return F.kl_div(log_softmax(s.double(), T), softmax(t.detach().double(), T)) * T**2


def batchmean_without_flattening(s, t, T):
    s, t = (log_softmax(logits.double(), T) for logits in (s, t.detach()))
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T**2


def log_target_flag_forgotten(s, t, T):
    s, t = (log_softmax(logits.double(), T).flatten(0, -2) for logits in (s, t.detach()))
    return F.kl_div(s, t, reduction="batchmean") * T**2


def target_not_in_log_space(s, t, T):
    s, t = log_softmax(s.double(), T).flatten(0, -2), softmax(t.detach().double(), T).flatten(0, -2)
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T**2


def student_not_in_log_space(s, t, T):
    s, t = (softmax(logits.double(), T).flatten(0, -2) for logits in (s, t.detach()))
    return F.kl_div(s, t, reduction="batchmean") * T**2


def softmax_twice(s, t, T):
    return reference(softmax(s.double(), 1.0), t, T)


def student_not_softened(s, t, T):
    return reference(s * T, t, T)


def teacher_not_softened(s, t, T):
    return reference(s, t * T, T)


def cross_entropy_instead_of_divergence(s, t, T):
    s, t = s.double(), t.detach().double()
    return -(softmax(t, T) * log_softmax(s, T)).sum(-1).mean() * T**2


def softmax_over_the_batch(s, t, T):
    s, t = (F.log_softmax(logits.double().flatten(0, -2) / T, dim=0) for logits in (s, t.detach()))
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T**2


def teacher_not_detached(s, t, T):
    s, t = (log_softmax(logits.double(), T).flatten(0, -2) for logits in (s, t))
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T**2


def log_of_softmax(s, t, T):
    return reference(softmax(s, T).log() * T, t, T)


def computed_in_half_precision(s, t, T):
    s, t = (log_softmax(logits, T).flatten(0, -2) for logits in (s, t.detach()))
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T**2


# --- which property catches which mutant -------------------------------------------------------------------------

WHO_CATCHES_WHAT = """
                                     value  zero  shift  gradient  teacher  flat  high_T  low_T  half
swapped_arguments                      x     ·      ·       x         x      ·      ·       x     ·
reverse_divergence                     x     ·      ·       x         ·      ·      ·       x     ·
no_T_squared                           x     ·      ·       x         ·      ·      x       x     ·
T_instead_of_T_squared                 x     ·      ·       x         ·      ·      x       x     ·
default_reduction                      x     ·      ·       x         ·      ·      x       x     ·
batchmean_without_flattening           ·     ·      ·       ·         ·      x      ·       ·     ·
log_target_flag_forgotten              x     x      x       x         ·      x      x       x     x
target_not_in_log_space                x     x      ·       x         ·      ·      x       x     ·
student_not_in_log_space               x     x      ·       x         ·      ·      x       x     ·
softmax_twice                          x     x      ·       x         ·      ·      x       x     ·
student_not_softened                   x     x      ·       x         ·      ·      x       x     ·
teacher_not_softened                   x     x      ·       x         ·      ·      x       x     ·
cross_entropy_instead_of_divergence    x     x      ·       ·         ·      ·      x       ·     ·
softmax_over_the_batch                 x     ·      x       x         ·      ·      x       x     ·
teacher_not_detached                   ·     ·      ·       ·         x      ·      ·       ·     ·
log_of_softmax                         ·     ·      ·       ·         ·      ·      ·       x     x
computed_in_half_precision             ·     ·      ·       ·         ·      ·      ·       ·     x
"""
TABLE = Table(WHO_CATCHES_WHAT, PROPERTIES)


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("loss", [kd_loss, reference], ids=["kd_loss", "reference"])
def test_the_right_loss_has_every_property(loss, check):
    check(loss)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch itself warns of one of the mistakes
@pytest.mark.parametrize("name", TABLE.rows)
def test_a_wrong_loss_lacks_exactly_the_properties_in_the_table(name):
    TABLE.holds_for(name, globals()[name])


def test_the_table_has_a_column_for_each_property_and_each_column_catches_something():
    TABLE.needs_every_column()
