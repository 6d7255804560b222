"""Several teachers, the likeliest classes alone, another set of classes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdutils import kd_loss
from kdutils.targets import TopK, mix_teachers, shared_classes, top_k, top_k_from_probabilities, top_k_kd_loss
from tests.logits import for_all_cases, kl_by_hand, logits, numeric_gradient, probabilities, value_and_gradient
from tests.mutants import Table

# --- several teachers --------------------------------------------------------------------------------------------


@for_all_cases
def test_the_mixture_has_the_weighted_mean_of_the_softened_distributions(case):
    first, second, temperature = case
    mixed = mix_teachers([first, second], temperature, [0.25, 0.75])
    expected = 0.25 * probabilities(first, temperature) + 0.75 * probabilities(second, temperature)
    np.testing.assert_allclose(probabilities(mixed, temperature), expected, rtol=1e-7, atol=1e-12)


@for_all_cases
def test_its_gradient_is_the_weighted_mean_of_the_single_teachers_gradients(case):
    student, first, temperature = case
    second, weights = -first, (0.25, 0.75)
    mixed = mix_teachers([first, second], temperature, weights)
    found, *single = (
        value_and_gradient(lambda s, t=t: kd_loss(s, t, temperature), student)[1] for t in (mixed, first, second)
    )
    expected = sum(weight * gradient for weight, gradient in zip(weights, single, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * temperature)


def test_equal_weights_are_the_default_and_the_order_does_not_matter():
    teachers = list(logits(3, 4, 6))
    mixed = mix_teachers(teachers, 3.0)
    torch.testing.assert_close(mixed, mix_teachers(teachers[::-1], 3.0, [1 / 3] * 3))


def test_a_teacher_alone_or_with_all_the_weight_is_itself():
    first, second = logits(2, 4, 6)
    for mixed in (mix_teachers([first], 3.0), mix_teachers([first, second], 3.0, [1, 0])):
        torch.testing.assert_close(torch.softmax(mixed, -1), torch.softmax(first, -1))


def test_the_mean_of_the_logits_is_something_else():
    first, second = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[-8.0, 0.0, 0.0]])
    mixed, mean = mix_teachers([first, second], 1.0), (first + second) / 2
    assert torch.softmax(mixed, -1)[0, 0] > 0.45  # half of what the first is sure of
    assert torch.softmax(mean, -1)[0, 0] < 0.1  # the second's veto


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_mixture_is_stable_at_large_logits(dtype):
    first, second = torch.tensor([[6e4, 0.0, -6e4]], dtype=dtype), torch.tensor([[-6e4, 0.0, 6e4]], dtype=dtype)
    mixed = mix_teachers([first, second], 1.0)
    assert mixed.dtype == torch.float32 and mixed.isfinite().all()
    torch.testing.assert_close(torch.softmax(mixed, -1), torch.tensor([[0.5, 0.0, 0.5]]))


def test_no_gradient_reaches_the_teachers():
    assert not mix_teachers([logits(2, 3).requires_grad_()], 1.0).requires_grad


def test_the_mixture_of_pictures_keeps_their_shape():
    teachers = logits(2, 2, 5, 3, 4)
    mixed = mix_teachers(list(teachers), 2.0, class_dim=1)
    expected = mix_teachers([t.movedim(1, -1).reshape(-1, 5) for t in teachers], 2.0)
    torch.testing.assert_close(mixed.movedim(1, -1).reshape(-1, 5), expected)
    assert mixed.shape == (2, 5, 3, 4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([], 1.0), "logits_list must hold the logits of one teacher"),
        (([torch.zeros(2, 3)], 0.0), "temperature"),
        (([torch.zeros(2, 3), torch.zeros(2, 4)], 1.0), r"same shape, got \(2, 3\) and \(2, 4\)"),
        (([torch.zeros(2, 3), torch.zeros(1, 3)], 1.0), r"same shape, got \(2, 3\) and \(1, 3\)"),  # would broadcast
        (([torch.zeros(2, 3), torch.full((2, 3), math.nan)], 1.0), r"logits_list\[1\] must be finite"),
        (([torch.zeros(2, 3)] * 2, 1.0, [1.0]), r"weights must be 2 numbers.* got \[1.0\]"),
        (([torch.zeros(2, 3)] * 2, 1.0, [0.5, 0.6]), "weights must .* sum to 1"),
        (([torch.zeros(2, 3)] * 2, 1.0, [1.5, -0.5]), "weights must .* none negative"),
        (([torch.zeros(2, 3)] * 2, 1.0, [math.nan, 1.0]), "weights must"),
        (([torch.zeros(2, 3, 4, 5)], 1.0), "class_dim must be given"),
    ],
)
def test_bad_mixtures_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mix_teachers(*arguments)


# --- top k: what is kept -----------------------------------------------------------------------------------------


@for_all_cases
def test_top_k_keeps_the_largest_probabilities_and_says_what_is_left(case):
    teacher, _, temperature = case
    p = probabilities(teacher, temperature)
    for k in {1, 2, teacher.shape[-1]}:
        kept = top_k(teacher, k, temperature)
        np.testing.assert_allclose(kept.log_probs.exp(), -np.sort(-p, axis=-1)[..., :k], rtol=1e-7, atol=1e-300)
        np.testing.assert_allclose(np.take_along_axis(p, kept.index.numpy(), -1), kept.log_probs.exp(), rtol=1e-7)
        left = kept.log_probs.exp().sum(-1) + kept.rest.exp()
        torch.testing.assert_close(left, torch.ones_like(left))
        assert kept.temperature == temperature


def test_nothing_is_left_of_all_classes():
    assert (top_k(logits(4, 6), 6).rest == -math.inf).all()


def test_a_rest_far_below_the_precision_of_a_sum_is_kept():
    teacher = torch.tensor([[0.0, -50.0, -50.0]])
    assert top_k(teacher, 1).rest.item() == pytest.approx(math.log(2) - 50, rel=1e-6)


def test_top_k_of_half_precision_is_float32_and_without_gradient():
    kept = top_k(logits(4, 6).half().requires_grad_(), 2)
    assert kept.log_probs.dtype == kept.rest.dtype == torch.float32
    assert not kept.log_probs.requires_grad and not kept.rest.requires_grad


def test_top_k_of_pictures_and_its_loss():
    student, teacher = logits(2, 2, 5, 3, 4)
    kept = top_k(teacher, 2, 3.0, class_dim=1)
    assert kept.index.shape == (2, 3, 4, 2)
    flat = [x.movedim(1, -1).reshape(-1, 5) for x in (student, teacher)]
    expected = top_k_kd_loss(flat[0], top_k(flat[1], 2, 3.0))
    torch.testing.assert_close(top_k_kd_loss(student, kept, class_dim=1), expected)


@pytest.mark.parametrize("k", [0, 7, -1, 2.0, True, None])
def test_a_bad_k_is_named(k):
    with pytest.raises(ValueError, match="k must be a whole number from 1 to the 6 classes"):
        top_k(torch.zeros(4, 6), k)


# --- top k from an API -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
def test_probabilities_of_an_api_give_the_same_as_the_logits_at_temperature_1(log):
    teacher = logits(4, 6)
    expected = top_k(teacher, 3, 1.0)
    given = expected.log_probs if log else expected.log_probs.exp()
    found = top_k_from_probabilities(expected.index, given, log=log)
    assert found.temperature == 1.0
    for ours, wanted in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(ours, wanted)


def test_probabilities_that_sum_to_1_leave_nothing_and_a_0_costs_nothing():
    kept = top_k_from_probabilities(torch.tensor([[2, 0, 1]]), torch.tensor([[0.75, 0.25, 0.0]]))
    assert kept.rest.item() == -math.inf
    student = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    value, gradient = value_and_gradient(lambda s: top_k_kd_loss(s, kept), student)
    q = torch.softmax(student, -1)[0]
    assert value.item() == pytest.approx((0.75 * (0.75 / q[2]).log() + 0.25 * (0.25 / q[0]).log()).item(), rel=1e-5)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient[0], q - torch.tensor([0.25, 0.0, 0.75, 0.0]))


def test_another_temperature_cannot_be_had_from_k_probabilities():
    # Two teachers with the same three likeliest at T = 1, and the rest on one class or on three: not the same at T = 4.
    one = torch.tensor([[0.5, 0.2, 0.2, 0.1, 1e-9, 1e-9]]).log()
    spread = torch.tensor([[0.5, 0.2, 0.2, 0.1 / 3, 0.1 / 3, 0.1 / 3]]).log()
    torch.testing.assert_close(top_k(one, 3, 1.0).log_probs, top_k(spread, 3, 1.0).log_probs)
    assert (top_k(one, 3, 4.0).log_probs - top_k(spread, 3, 4.0).log_probs).abs().max() > 0.2


INDEX, PROBS = torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.25]])


@pytest.mark.parametrize(
    "index, probabilities, log, message",
    [
        (torch.tensor([[1, 1]]), PROBS, False, "each class once"),
        (torch.tensor([[0, 1, 2]]), PROBS, False, r"same shape .* \(1, 3\) and \(1, 2\)"),
        (torch.tensor([[0.0, 1.0]]), PROBS, False, "index must be int64"),
        (INDEX, torch.tensor([[0.5, 0.75]]), False, "sum to 1 at most, got 1.25"),
        (INDEX, torch.tensor([[0.5, math.nan]]), False, "probabilities must lie in"),
        (INDEX, PROBS.log(), False, r"probabilities must lie in \[0, 1\].* log=True"),
        (INDEX, PROBS, True, "logarithms of probabilities are 0 at most"),
    ],
)
def test_bad_probabilities_are_named(index, probabilities, log, message):
    with pytest.raises(ValueError, match=message):
        top_k_from_probabilities(index, probabilities, log=log)


# --- top k: the loss ---------------------------------------------------------------------------------------------


@for_all_cases
def test_top_k_loss_equals_the_formula_over_k_plus_1_outcomes(case):
    student, teacher, temperature = case
    k = 1 + student.shape[-1] // 2
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    order = np.argsort(-p, axis=-1, kind="stable")
    p, q = (np.take_along_axis(x, order, -1) for x in (p, q))
    p, q = (np.concatenate([x[..., :k], x[..., k:].sum(-1, keepdims=True)], -1) for x in (p, q))
    expected = temperature**2 * kl_by_hand(p, q).mean()
    found = top_k_kd_loss(student, top_k(teacher, k, temperature)).item()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9 * temperature**2)


@for_all_cases
def test_top_k_loss_grows_with_k_up_to_the_full_loss(case):
    student, teacher, temperature = case
    losses = [top_k_kd_loss(student, top_k(teacher, k, temperature)).item() for k in range(1, student.shape[-1] + 1)]
    full = kd_loss(student, teacher, temperature).item()
    slack = 1e-9 * (1 + full)
    assert -slack < losses[0] and all(a <= b + slack for a, b in zip(losses, [*losses[1:], full], strict=True))
    assert losses[-1] == pytest.approx(full, rel=1e-9, abs=1e-9)
    assert losses[-2] == pytest.approx(full, rel=1e-6, abs=1e-9)  # one class is left: its probability is the rest


@for_all_cases
def test_top_k_loss_has_the_full_gradient_at_k_equal_to_C(case):
    student, teacher, temperature = case
    targets = top_k(teacher, student.shape[-1], temperature)
    _, gradient = value_and_gradient(lambda s: top_k_kd_loss(s, targets), student)
    _, expected = value_and_gradient(lambda s: kd_loss(s, teacher, temperature), student)
    torch.testing.assert_close(gradient, expected)


@for_all_cases
def test_top_k_loss_and_gradient_are_zero_where_the_k_plus_1_outcomes_are_equal(case):
    _, teacher, temperature = case
    targets = top_k(teacher, 1 + teacher.shape[-1] // 2, temperature)
    value, gradient = value_and_gradient(lambda s: top_k_kd_loss(s, targets), teacher)
    assert value.abs() < 1e-9 * temperature**2 and gradient.abs().max() < 1e-9 * temperature


@pytest.mark.parametrize("k", [1, 3, 4, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_top_k_gradient_equals_a_finite_difference(k, temperature):
    student, targets = logits(3, 5, seed=2), top_k(logits(3, 5, seed=1), k, temperature)
    _, gradient = value_and_gradient(lambda s: top_k_kd_loss(s, targets), student)
    numeric = numeric_gradient(lambda s: top_k_kd_loss(s, targets), student)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_half_precision_is_finite_and_right_at_logits_of_80(dtype, k):
    student, teacher = torch.tensor([[80, -80, 0, 3]], dtype=dtype), torch.tensor([[-80, 80, 3, 0]], dtype=dtype)
    value, gradient = value_and_gradient(lambda s: top_k_kd_loss(s, top_k(teacher, k, 2.0)), student)
    exact = top_k_kd_loss(student.double(), top_k(teacher.double(), k, 2.0)).item()
    assert value.dtype == torch.float32 and gradient.dtype == dtype and gradient.isfinite().all()
    assert value.item() == pytest.approx(exact, rel=1e-5)


def test_shifted_logits_change_nothing():
    student, teacher = logits(2, 4, 6)
    loss = top_k_kd_loss(student, top_k(teacher, 2, 3.0))
    torch.testing.assert_close(top_k_kd_loss(student + 5, top_k(teacher - 7, 2, 3.0)), loss)


def test_the_rows_of_a_batch():
    student, teacher = logits(2, 8, 6)
    targets, rows = top_k(teacher, 2, 3.0), torch.tensor([5, 0, 3])
    some = TopK(*(part[rows] for part in targets[:3]), targets.temperature)
    each = top_k_kd_loss(student, targets, reduction="none")
    torch.testing.assert_close(top_k_kd_loss(student[rows], some, reduction="none"), each[rows])


GOOD = TopK(torch.tensor([[0, 1], [0, 1]]), torch.full((2, 2), 0.25).log(), torch.full((2,), 0.5).log(), 1.0)


@pytest.mark.parametrize(
    "student, targets, message",
    [
        (torch.zeros(3, 4), GOOD, r"targets for student_logits of shape \(3, 4\) .* got \(2, 2\), \(2, 2\) and \(2,\)"),
        (torch.zeros(2, 3, 4), GOOD, "targets for student_logits"),
        (torch.zeros(2, 4), GOOD._replace(rest=torch.zeros(2, 1)), "targets for student_logits"),
        (torch.zeros(2, 1), GOOD, r"targets.index must lie in 0 … 0, the student's classes, got 0 to 1"),
        (torch.zeros(2, 4), GOOD._replace(index=GOOD.index - 1), "targets.index must lie in 0 … 3"),
        (torch.zeros(2, 2), GOOD, "targets name every class and leave a rest"),
        (torch.zeros(2, 4), GOOD._replace(temperature=0), "temperature"),
        (torch.zeros(2, 4), torch.zeros(2, 4), "targets must be a TopK.* got Tensor"),
        (torch.full((2, 4), math.nan), GOOD, "student_logits must be finite"),
    ],
)
def test_targets_that_do_not_fit_are_named(student, targets, message):
    with pytest.raises(ValueError, match=message):
        top_k_kd_loss(student, targets)


# --- mistakes that are easy to make with the rest ----------------------------------------------------------------

T, STUDENT, TEACHER = 3.0, logits(4, 6, seed=3), logits(4, 6, seed=4)


def check_below(loss):
    student = TEACHER.flip(-1)
    for k in (1, 3, 5):
        assert -1e-9 < loss(student, TEACHER, k) <= kd_loss(student, TEACHER, T) + 1e-9
        assert -1e-9 < loss(STUDENT, 5 * STUDENT, k)  # the teacher is surer


def check_all(loss):
    torch.testing.assert_close(loss(STUDENT, TEACHER, 6), kd_loss(STUDENT, TEACHER, T))


def check_zero(loss):
    value, gradient = value_and_gradient(lambda s: loss(s, TEACHER, 3), TEACHER)
    assert value.abs() < 1e-9 and gradient.abs().max() < 1e-9


def check_rest(loss):
    """To give the other classes too much is charged, the proportions among the k being right."""
    likeliest = TEACHER.topk(3, dim=-1).indices
    student = (TEACHER + 2).scatter(-1, likeliest, TEACHER.gather(-1, likeliest))
    assert loss(student, TEACHER, 3) > 0.01


def check_free(loss):
    """How the student shares the rest among the other classes is free."""
    p = torch.softmax(TEACHER / T, dim=-1)
    others = TEACHER.argsort(-1)[:, :3]  # all but the three likeliest
    shares = torch.tensor([0.7, 0.2, 0.1], dtype=p.dtype) * p.gather(-1, others).sum(-1, keepdim=True)
    student = T * p.scatter(-1, others, shares).log()
    torch.testing.assert_close(loss(student, TEACHER, 3), loss(TEACHER, TEACHER, 3), rtol=0, atol=1e-9)


PROPERTIES = (check_below, check_all, check_zero, check_rest, check_free)


def softened(s, t, k):
    s, t = (F.log_softmax(x / T, dim=-1) for x in (s, t))
    likeliest, index = t.topk(k, dim=-1)
    return s, t, likeliest, index, s.gather(-1, index)


def rest_dropped(s, t, k):
    *_, p, _, q = softened(s, t, k)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean() * T**2


def teacher_scaled_to_1(s, t, k):
    *_, p, _, q = softened(s, t, k)
    return F.kl_div(q, p.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean() * T**2


def both_scaled_to_1(s, t, k):
    *_, p, _, q = softened(s, t, k)
    return F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean() * T**2


def rest_spread_evenly(s, t, k):
    s, t, p, index, _ = softened(s, t, k)
    even = (1 - p.exp().sum(-1, keepdim=True)).clamp(min=1e-12) / max(t.shape[-1] - k, 1)
    t = even.log().expand_as(t).scatter(-1, index, p)
    return F.kl_div(s, t, reduction="none", log_target=True).sum(-1).mean() * T**2


def no_T_squared(s, t, k):
    return top_k_kd_loss(s, top_k(t, k, T)) / T**2


def student_not_softened(s, t, k):
    return top_k_kd_loss(s * T, top_k(t, k, T))


WHO_CATCHES_WHAT = """
                       below  all  zero  rest  free
rest_dropped             x     ·    x     ·     ·
teacher_scaled_to_1      x     ·    x     ·     ·
both_scaled_to_1         ·     ·    ·     x     ·
rest_spread_evenly       x     ·    x     ·     x
no_T_squared             ·     x    ·     ·     ·
student_not_softened     x     x    x     ·     x
"""
TABLE = Table(WHO_CATCHES_WHAT, PROPERTIES)


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_top_k_loss_has_every_property(check):
    check(lambda s, t, k: top_k_kd_loss(s, top_k(t, k, T)))


@pytest.mark.parametrize("name", TABLE.rows)
def test_a_wrong_loss_lacks_exactly_the_properties_in_the_table(name):
    TABLE.holds_for(name, globals()[name])


def test_the_table_has_a_column_for_each_property_and_each_column_catches_something():
    TABLE.needs_every_column()


# --- another set of classes --------------------------------------------------------------------------------------


def test_classes_are_matched_by_name_in_the_students_order():
    found = shared_classes(["dog", "cat", "cow", "mule"], ["cat", "horse", "dog", "cow", "hen"])
    assert found.student.tolist() == [0, 1, 2] and found.teacher.tolist() == [2, 0, 3]
    assert found.only_student == ("mule",) and found.only_teacher == ("horse", "hen")
    assert found.student.dtype == found.teacher.dtype == torch.int64


def test_any_names_that_can_be_hashed_will_do():
    found = shared_classes([1, ("a", 2), None], (name for name in (None, "1", 1)))
    assert found.student.tolist() == [0, 2] and found.teacher.tolist() == [2, 0]


def test_the_order_of_a_teachers_outputs_makes_no_difference():
    names, order = list("abcdef"), [3, 1, 5, 0, 4, 2]
    student, teacher = logits(2, 4, 6)
    m = shared_classes("a c f x".split(), [names[i] for i in order])
    found = kd_loss(student[:, m.student], teacher[:, order][:, m.teacher], 3.0)
    torch.testing.assert_close(found, kd_loss(student[:, [0, 1, 2]], teacher[:, [0, 2, 5]], 3.0))


def test_logits_of_the_shared_classes_have_the_conditional_distribution():
    m = shared_classes(["b", "d"], ["a", "b", "c", "d"])
    teacher = logits(4, 4)
    p = torch.softmax(teacher, -1)[:, m.teacher]
    torch.testing.assert_close(torch.softmax(teacher[..., m.teacher], -1), p / p.sum(-1, keepdim=True))


@pytest.mark.parametrize(
    "student, teacher, message",
    [
        (["a", "b", "a"], ["a"], "student_classes must name each class once, but has 'a' more than once"),
        (["a"], ["a", 1, 1], "teacher_classes must name each class once, but has 1 more than once"),
        (["cat", "dog"], ["Cat", "Dog"], "no class name in common.*'cat'.*'Cat'.* capitals"),
        ([], ["a"], "no class name in common"),
        ({0: "cat"}, ["cat"], "student_classes must be a list .* got a dict: .*id2label"),
        (["cat"], {0: "cat"}, "teacher_classes must be a list .* got a dict"),
        ("cat", ["cat"], "student_classes must be a list .* got a str"),
    ],
)
def test_classes_that_cannot_be_matched_are_refused(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        shared_classes(student, teacher)
