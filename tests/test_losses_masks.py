"""Which positions count: masks, −100, sequences, and where the classes are."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdutils import distillation_loss, kd_loss
from kdutils.heads import binary_kd_loss, regression_kd_loss
from kdutils.losses import jsd_loss, reverse_kd_loss, unchecked_distillation_loss
from kdutils.targets import TopK, top_k, top_k_kd_loss
from tests.logits import kl_by_hand, logits, probabilities, value_and_gradient
from tests.mutants import Table

T = 3.0
STUDENT, TEACHER = logits(3, 4, 6, seed=1), logits(3, 4, 6, seed=2)
LABELS = torch.arange(12).reshape(3, 4) % 6
# Three sequences of 4, 1 and 2 tokens; the padding stands on either side.
MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0]]).bool()
PADDING = ~MASK


def top_k_loss(student, teacher, temperature=T, *, mask=None, reduction="batchmean"):
    teacher = torch.where(teacher.isfinite(), teacher, 0.0)  # top_k is asked before anybody knows of a mask
    return top_k_kd_loss(student, top_k(teacher, 2, temperature), mask=mask, reduction=reduction)


def squares(student, teacher, temperature=T, *, mask=None, reduction="batchmean"):
    return regression_kd_loss(student, teacher, mask=mask, reduction=reduction)


LOSSES = (kd_loss, reverse_kd_loss, jsd_loss, binary_kd_loss, top_k_loss, squares)
for_each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


# --- every loss that takes a mask --------------------------------------------------------------------------------


@for_each_loss
def test_each_reduction_is_what_it_says_of_the_single_positions(loss):
    each = loss(STUDENT, TEACHER, T, reduction="none")
    assert each.shape == (3, 4) and (each > 0).all()
    expected = {"batchmean": each[MASK].mean(), "sum": each[MASK].sum(), "none": each * MASK}
    expected["sequencemean"] = (each[0].mean() + each[1, 3] + each[2, :2].mean()) / 3
    for reduction, value in expected.items():
        torch.testing.assert_close(loss(STUDENT, TEACHER, T, mask=MASK, reduction=reduction), value)
    torch.testing.assert_close(loss(STUDENT, TEACHER, T), each.mean())
    torch.testing.assert_close(loss(STUDENT, TEACHER, T, reduction="sequencemean"), each.mean())


@for_each_loss
def test_a_sequence_without_a_position_that_counts_is_left_out_of_the_mean_over_sequences(loss):
    mask = MASK.clone()
    mask[1] = False
    each = loss(STUDENT, TEACHER, T, reduction="none")
    expected = (each[0].mean() + each[2, :2].mean()) / 2
    torch.testing.assert_close(loss(STUDENT, TEACHER, T, mask=mask, reduction="sequencemean"), expected)


@for_each_loss
@pytest.mark.parametrize("reduction", ["batchmean", "sequencemean", "sum"])
@pytest.mark.parametrize("content", [0.0, 1e6, math.nan, -math.inf])
def test_padding_changes_nothing_and_gets_no_gradient(loss, reduction, content):
    filled = [x.masked_fill(PADDING[..., None], content) for x in (STUDENT, TEACHER)]
    value, gradient = value_and_gradient(lambda s: loss(s, TEACHER, T, mask=MASK, reduction=reduction), STUDENT)
    same, same_gradient = value_and_gradient(lambda s: loss(s, filled[1], T, mask=MASK, reduction=reduction), filled[0])
    assert torch.equal(value, same) and torch.equal(gradient, same_gradient)
    assert (gradient[PADDING] == 0).all() and (gradient[MASK] != 0).any(-1).all()


@for_each_loss
@pytest.mark.parametrize("reduction", ["batchmean", "sequencemean", "sum", "none"])
def test_a_mask_that_is_true_everywhere_changes_no_bit(loss, reduction):
    everywhere = torch.ones(3, 4, dtype=torch.bool)
    masked, plain = (loss(STUDENT, TEACHER, T, mask=mask, reduction=reduction) for mask in (everywhere, None))
    assert torch.equal(masked, plain)


@for_each_loss
def test_a_mask_for_examples_without_sequences(loss):
    mask = torch.tensor([True, False, True])
    each = loss(STUDENT[:, 0], TEACHER[:, 0], T, reduction="none")
    for reduction in ("batchmean", "sequencemean"):
        masked = loss(STUDENT[:, 0], TEACHER[:, 0], T, mask=mask, reduction=reduction)
        torch.testing.assert_close(masked, each[mask].mean())


@for_each_loss
def test_half_precision_with_a_mask_is_computed_in_float32(loss):
    student, teacher = STUDENT.bfloat16(), TEACHER.bfloat16()
    value, gradient = value_and_gradient(lambda s: loss(s, teacher, T, mask=MASK), student)
    exact = loss(student.double(), teacher.double(), T, mask=MASK)
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    for reduction in ("sequencemean", "none"):
        assert loss(student, teacher, T, mask=MASK, reduction=reduction).dtype == torch.float32


@for_each_loss
def test_no_gradient_reaches_the_teacher_of_any_loss(loss):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss(student, teacher, T, mask=MASK).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


@for_each_loss
@pytest.mark.parametrize(
    "mask, message",
    [
        (torch.ones(3, 4), r"mask must be a bool tensor.* got torch.float32.* \.bool\(\)"),
        (torch.ones(3, 4, dtype=torch.int64), r"mask must be a bool tensor.* got torch.int64"),
        ([[True]], "mask must be a bool tensor.* got list"),
        (torch.ones(3, 4, 6, dtype=torch.bool), r"mask must have the shape .* \(3, 4\), got \(3, 4, 6\)"),
        (torch.ones(4, dtype=torch.bool), r"mask must have the shape .* \(3, 4\), got \(4,\)"),  # would broadcast
        (torch.zeros(3, 4, dtype=torch.bool), "no position counts: mask is False everywhere"),
    ],
)
def test_a_bad_mask_is_named(loss, mask, message):
    with pytest.raises(ValueError, match=message):
        loss(STUDENT, TEACHER, T, mask=mask)


@for_each_loss
def test_a_value_that_counts_must_be_finite(loss):
    bad = STUDENT.clone()
    bad[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="student.* must be finite, but 1 of its 42 values"):
        loss(bad, TEACHER, T, mask=MASK)


# --- −100 --------------------------------------------------------------------------------------------------------

LABELLED = LABELS.masked_fill(PADDING, -100)


def unchecked(student, teacher, labels, *, temperature, soft_weight, mask=None):
    return unchecked_distillation_loss(student, teacher, labels, temperature, soft_weight, mask=mask)


both_ways = pytest.mark.parametrize("loss", [distillation_loss, unchecked], ids=["checked", "unchecked"])


@both_ways
@pytest.mark.parametrize("by", ["labels", "mask", "either"])
def test_both_terms_leave_out_the_same_positions(loss, by):
    labels, mask = {"labels": (LABELLED, None), "mask": (LABELS, MASK), "either": (LABELLED.clone(), MASK.clone())}[by]
    if by == "either":  # one position each leaves to the other
        labels[1, 0], mask[2, 2] = 1, True
    parts = loss(STUDENT, TEACHER, labels, temperature=T, soft_weight=0.75, mask=mask)
    hard = -np.log(probabilities(STUDENT, 1.0)[MASK, LABELS[MASK]]).mean()
    soft = T**2 * kl_by_hand(probabilities(TEACHER, T), probabilities(STUDENT, T))[MASK].mean()
    assert [part.item() for part in parts] == pytest.approx([0.75 * soft + 0.25 * hard, soft, hard], rel=1e-12)


@both_ways
def test_a_label_that_the_mask_leaves_out_may_be_anything(loss):
    settings = {"temperature": T, "soft_weight": 0.75, "mask": MASK}
    strange = LABELS.masked_fill(PADDING, 151_643)
    assert loss(STUDENT, TEACHER, strange, **settings) == loss(STUDENT, TEACHER, LABELS, **settings)


@both_ways
@pytest.mark.parametrize("content", [0.0, 1e6, math.nan])
def test_padding_changes_neither_term_and_gets_no_gradient(loss, content):
    def total(student, teacher):
        return loss(student, teacher, LABELLED, temperature=T, soft_weight=0.75).total

    value, gradient = value_and_gradient(lambda s: total(s, TEACHER), STUDENT)
    assert (gradient[PADDING] == 0).all() and (gradient[MASK] != 0).all()
    filled = TEACHER.masked_fill(PADDING[..., None], content)
    same, same_gradient = value_and_gradient(lambda s: total(s, filled), STUDENT)
    assert torch.equal(value, same) and torch.equal(gradient, same_gradient)


def test_a_students_padding_may_hold_nan_where_values_are_looked_at():
    filled = STUDENT.masked_fill(PADDING[..., None], math.nan)
    value, gradient = value_and_gradient(lambda s: distillation_loss(s, TEACHER, LABELLED).total, filled)
    assert value == distillation_loss(STUDENT, TEACHER, LABELLED).total
    assert (gradient[PADDING] == 0).all() and gradient.isfinite().all()


def test_a_batch_in_which_nothing_counts_is_refused():
    with pytest.raises(ValueError, match=r"no position counts: every label is -100\. Leave"):
        distillation_loss(STUDENT, TEACHER, torch.full((3, 4), -100))
    with pytest.raises(ValueError, match="no position counts: every label is -100 where mask is True"):
        distillation_loss(STUDENT, TEACHER, LABELS.masked_fill(MASK, -100), mask=MASK)
    with pytest.raises(ValueError, match="no position counts: mask is False everywhere"):
        distillation_loss(STUDENT, TEACHER, LABELS, mask=torch.zeros(3, 4, dtype=torch.bool))


def test_without_looking_a_batch_in_which_nothing_counts_is_0_with_gradient_0():
    student = STUDENT.clone().requires_grad_()
    parts = unchecked_distillation_loss(student, TEACHER, torch.full((3, 4), -100), T, 0.75)
    parts.total.backward()
    assert [part.item() for part in parts] == [0, 0, 0]
    assert (student.grad == 0).all()


@pytest.mark.parametrize("mask", [None, MASK.to("meta")], ids=["labels alone", "mask"])
def test_the_unchecked_loss_never_waits_for_a_value(mask):
    # Tensors on the device "meta" have a shape and no values: whoever wants one fails.
    on_meta = [x.to("meta") for x in (STUDENT, TEACHER, LABELS)]
    parts = unchecked_distillation_loss(*on_meta, T, 0.75, mask=mask)
    assert all(part.shape == () for part in parts)
    with pytest.raises(RuntimeError):
        distillation_loss(*on_meta)


@pytest.mark.parametrize(
    "labels, message",
    [
        (LABELLED.masked_fill(LABELLED == 3, -1), r"labels must lie in 0 … 5, got values from -1 to 2 \(-100 marks"),
        (LABELLED.masked_fill(LABELLED == 3, 6), r"labels must lie in 0 … 5, got values from 0 to 6"),
    ],
)
def test_labels_that_count_are_checked_as_ever(labels, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(STUDENT, TEACHER, labels)


# --- the old results, to the last bit ----------------------------------------------------------------------------


def plain(student, teacher, labels, temperature, soft_weight):
    """The loss as it was before there were masks."""
    s, t = (F.log_softmax(x / temperature, dim=-1) for x in (student, teacher))
    soft = F.kl_div(s, t, reduction="none", log_target=True).sum(dim=-1).mean() * temperature**2
    hard = F.cross_entropy(student, labels)
    return soft_weight * soft + (1 - soft_weight) * hard, soft, hard


@pytest.mark.parametrize("temperature, weight", [(1.0, 0.5), (4.0, 0.9), (7.3, 1.0)])
@pytest.mark.parametrize("examples", [1, 3, 49, 64, 100, 128, 333, 512, 1000])
def test_without_padding_no_bit_is_another_than_before(examples, temperature, weight):
    student, teacher = logits(2, examples, 10, seed=examples, dtype=torch.float32)
    labels = torch.arange(examples) % 10

    def old_way(s):
        return plain(s, teacher, labels, temperature, weight)

    def results(way):
        return *way(student), value_and_gradient(lambda s: way(s)[0], student)[1]

    def same(way):
        return all(map(torch.equal, results(way), results(old_way)))

    assert same(lambda s: distillation_loss(s, teacher, labels, temperature=temperature, soft_weight=weight))
    assert same(lambda s: unchecked_distillation_loss(s, teacher, labels, temperature, weight))
    assert same(lambda s: unchecked_distillation_loss(s, teacher, labels, temperature, weight, all_count=True))
    assert torch.equal(kd_loss(student, teacher, temperature), old_way(student)[1])


# --- where the classes are ---------------------------------------------------------------------------------------

PICTURES = logits(2, 2, 5, 3, 4, seed=5)  # student and teacher, (B, C, H, W)
TAKES_CLASS_DIM = (kd_loss, reverse_kd_loss, jsd_loss, binary_kd_loss)


@pytest.mark.parametrize("loss", TAKES_CLASS_DIM, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("class_dim", [1, -3, np.int64(1)])
def test_class_dim_1_is_segmentation(loss, class_dim):
    student, teacher = PICTURES
    mask = torch.arange(24).reshape(2, 3, 4) % 5 > 0
    by_pixel = [x.permute(0, 2, 3, 1).reshape(24, 5) for x in PICTURES]
    for reduction in ("batchmean", "sum"):
        expected = loss(*by_pixel, T, mask=mask.flatten(), reduction=reduction)
        found = loss(student, teacher, T, mask=mask, class_dim=class_dim, reduction=reduction)
        torch.testing.assert_close(found, expected)
    each = loss(student, teacher, T, class_dim=class_dim, reduction="none")
    torch.testing.assert_close(each, loss(*by_pixel, T, reduction="none").reshape(2, 3, 4))


def test_class_dim_of_sequences_of_sequences_is_the_last():
    student, teacher = PICTURES
    flat = [x.reshape(-1, 4) for x in PICTURES]
    torch.testing.assert_close(kd_loss(student, teacher, T, class_dim=-1), kd_loss(*flat, T))


def test_three_dimensions_with_the_classes_in_the_middle():
    student, teacher = PICTURES[:, :, :, :, 0]
    torch.testing.assert_close(kd_loss(student, teacher, T, class_dim=1), kd_loss(student.mT, teacher.mT, T))
    assert kd_loss(student, teacher, T) == kd_loss(student, teacher, T, class_dim=2)


def test_distillation_loss_of_segmentation_agrees_with_pytorchs_cross_entropy():
    student, teacher = PICTURES
    labels = torch.arange(24).reshape(2, 3, 4) % 5
    labels[0, 0] = -100
    parts = distillation_loss(student, teacher, labels, temperature=T, class_dim=1)
    torch.testing.assert_close(parts.hard, F.cross_entropy(student, labels))
    torch.testing.assert_close(parts.soft, kd_loss(student, teacher, T, mask=labels >= 0, class_dim=1))


@pytest.mark.parametrize(
    "call",
    [
        *(lambda s, t, loss=loss: loss(s, t) for loss in TAKES_CLASS_DIM),
        lambda s, t: distillation_loss(s, t, torch.zeros(2, 5, 3, dtype=torch.int64)),
        lambda s, t: top_k(t, 2),
        lambda s, t: top_k_kd_loss(s, TopK(s[..., :1].long(), s[..., :1], s[..., 0], 1.0)),
    ],
)
def test_four_dimensions_without_class_dim_are_refused_and_both_readings_shown(call):
    with pytest.raises(ValueError) as error:
        call(*PICTURES)
    message = str(error.value)
    assert "class_dim must be given" in message and "(2, 5, 3, 4)" in message
    assert "class_dim=1, 5 classes at (2, 3, 4) positions" in message
    assert "class_dim=-1, 4 classes at (2, 5, 3) positions" in message


@pytest.mark.parametrize("value", [4, -5, 1.0, True, "1"])
def test_a_class_dim_that_is_none_is_named(value):
    with pytest.raises(ValueError, match=r"class_dim must be a dimension of .*\(2, 5, 3, 4\), got "):
        kd_loss(*PICTURES, class_dim=value)


# --- mistakes that are easy to make with a mask ------------------------------------------------------------------


def check_value(loss):
    each = T**2 * kl_by_hand(probabilities(TEACHER, T), probabilities(STUDENT, T))
    assert loss(STUDENT, TEACHER, MASK).item() == pytest.approx(each[MASK].mean(), rel=1e-12)


def check_content(loss):
    student, teacher = (x + 9 * torch.arange(6) * PADDING[..., None] for x in (STUDENT, -TEACHER))
    torch.testing.assert_close(loss(student, teacher, MASK), loss(STUDENT, -TEACHER, MASK))


def check_longer(loss):
    wide = [F.pad(x, (0, 0, 0, 3), value=1.0) for x in (STUDENT, TEACHER)]
    torch.testing.assert_close(loss(*wide, F.pad(MASK, (0, 3))), loss(STUDENT, TEACHER, MASK))


def check_tokens(loss):
    """Each token weighs the same: in one long sequence, or cut in two."""
    one = [x.reshape(1, 12, *x.shape[2:]) for x in (STUDENT, TEACHER, MASK)]
    torch.testing.assert_close(loss(*one), loss(STUDENT, TEACHER, MASK))


def check_nan(loss):
    teacher = TEACHER.masked_fill(PADDING[..., None], math.nan)
    _, gradient = value_and_gradient(lambda s: loss(s, teacher, MASK), STUDENT)
    assert gradient.isfinite().all()


def check_gradient(loss):
    _, gradient = value_and_gradient(lambda s: loss(s, TEACHER, MASK), STUDENT)
    expected = T * (probabilities(STUDENT, T) - probabilities(TEACHER, T)) / MASK.sum().item()
    torch.testing.assert_close(gradient, torch.as_tensor(expected) * MASK[..., None])


PROPERTIES = (check_value, check_content, check_longer, check_tokens, check_nan, check_gradient)


def each_position(student, teacher):
    return kd_loss(student, torch.nan_to_num(teacher), T, reduction="none")


def mask_forgotten(s, t, mask):
    return each_position(s, t).mean()


def mask_upside_down(s, t, mask):
    return each_position(s, t)[~mask].mean()


def divided_by_all_positions(s, t, mask):
    return (each_position(s, t) * mask).mean()


def divided_by_the_sequences(s, t, mask):
    return (each_position(s, t) * mask).sum() / len(mask)


def mean_of_means(s, t, mask):
    return ((each_position(s, t) * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def logits_times_mask(s, t, mask):
    return each_position(s * mask[..., None], t * mask[..., None]).mean()


def loss_times_mask(s, t, mask):
    s, t = (F.log_softmax(x / T, dim=-1) for x in (s, t))
    each = F.kl_div(s, t, reduction="none", log_target=True).sum(-1) * T**2
    return (each * mask).nan_to_num().sum() / mask.sum()


def gradient_cut(s, t, mask):
    return each_position(s.detach() + (s - s.detach()) * 0.5, t)[mask].mean()


WHO_CATCHES_WHAT = """
                            value  content  longer  tokens  nan  gradient
mask_forgotten                x       x       x       ·      ·      x
mask_upside_down              x       x       x       ·      ·      x
divided_by_all_positions      x       ·       x       ·      ·      x
divided_by_the_sequences      x       ·       ·       x      ·      x
mean_of_means                 x       ·       ·       x      ·      x
logits_times_mask             x       ·       x       ·      ·      x
loss_times_mask               ·       ·       ·       ·      x      ·
gradient_cut                  ·       ·       ·       ·      ·      x
"""
TABLE = Table(WHO_CATCHES_WHAT, PROPERTIES)


def soft_term(loss, by_labels):
    def soft(student, teacher, mask):
        labels = torch.zeros(mask.shape, dtype=torch.int64)
        if by_labels:
            return loss(student, teacher, labels.masked_fill(~mask, -100), temperature=T, soft_weight=1.0).total
        return loss(student, teacher, labels, temperature=T, soft_weight=1.0, mask=mask).total

    return soft


RIGHT = {"kd_loss": lambda s, t, mask: kd_loss(s, t, T, mask=mask)} | {
    f"{loss.__name__} by {'labels' if by_labels else 'mask'}": soft_term(loss, by_labels)
    for loss in (distillation_loss, unchecked)
    for by_labels in (True, False)
}


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("loss", RIGHT.values(), ids=list(RIGHT))
def test_the_right_loss_has_every_property(loss, check):
    check(loss)


@pytest.mark.parametrize("name", TABLE.rows)
def test_a_wrong_loss_lacks_exactly_the_properties_in_the_table(name):
    TABLE.holds_for(name, globals()[name])


def test_the_table_has_a_column_for_each_property_and_each_column_catches_something():
    TABLE.needs_every_column()
