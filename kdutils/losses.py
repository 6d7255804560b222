"""The distillation losses, written once and checked hard: what a teacher's logits teach.

Notation used throughout: N examples, C classes, T the temperature, s the student's logits, t the teacher's.
All losses are in nats. Logits have shape ``(..., C)``; every other dimension counts as examples, or positions, of
which a mask may leave some out. No gradient reaches a teacher.

Here are the losses for one answer among C classes. :mod:`kdutils.heads` has those for other kinds of output,
:mod:`kdutils.targets` what can stand in the teacher's place, :mod:`kdutils.chunked` large vocabularies.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import (
    IGNORED,
    at_least_float32,
    check_finite,
    check_label_values,
    check_labels,
    check_mask,
    check_pair,
    check_reduction,
    check_shape,
    check_temperature,
    classes_last,
    is_number,
    reduce,
    those_that_count,
)


class LossParts(NamedTuple):
    """A distillation loss and the two terms that it mixes. Each is a scalar tensor, in nats."""

    total: Tensor
    soft: Tensor
    hard: Tensor


def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Soft targets: the softmax of ``logits / temperature`` over the last dimension.

    Args:
        logits: ``(..., C)``, any float type. Half precision is computed and returned in float32.
        temperature: T > 0. At T = 1 this is the plain softmax; as T grows it tends to 1/C for every class.

    Returns:
        Probabilities ``(..., C)`` that sum to 1 over the last dimension.

    Raises:
        ValueError: a temperature that is not finite and positive; logits that are not finite.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, equation 1.
    """
    check_temperature(temperature)
    check_shape("logits", logits)
    check_finite("logits", logits)
    return torch.softmax(at_least_float32(logits) / temperature, dim=-1)


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    *,
    mask: Tensor | None = None,
    class_dim: int | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """The soft-target loss ``T² · KL(teacher ‖ student)``, both softened at temperature T.

    Its gradient with respect to the student's logits is ``T · (softmax(s/T) − softmax(t/T)) / N``. The factor T²
    keeps that gradient's size nearly the same when T changes, so that the weight beside it keeps its meaning.
    No gradient reaches the teacher.

    Args:
        student_logits: ``(..., C)``, raw scores before any softmax.
        teacher_logits: the same shape.
        temperature: T > 0.
        mask: bool ``(...)``, True where a position counts; all of them without one. The others may hold anything,
            change nothing and get no gradient.
        class_dim: which dimension holds the classes: the last one unless said. With four dimensions or more it must
            be said: 1 for the ``(B, C, H, W)`` of segmentation, −1 for classes at the end.
        reduction: "batchmean" is the mean over the N positions that count, tokens or examples alike; "sequencemean"
            first takes the mean of each sequence (over all dimensions but the first) and then of the sequences that
            have any, so that short ones weigh as much as long ones; "sum" does not divide; "none" returns one value
            per position, of shape ``(...)``, 0 where masked. There is no "mean": PyTorch's divides by N·C.

    Returns:
        The loss in nats, float32 or float64.

    Raises:
        ValueError: shapes that differ or hold no example, logits that are not finite, a bad temperature or reduction,
            a mask that is not bool or not of this shape, a mask without a single True, four dimensions and no
            ``class_dim``.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2.
    """
    return _soft_loss(_forward_kl, student_logits, teacher_logits, temperature, mask, class_dim, reduction)


def reverse_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    *,
    mask: Tensor | None = None,
    class_dim: int | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """The other direction, ``T² · KL(student ‖ teacher)``, both softened at temperature T.

    It charges the student for every answer that the teacher finds unlikely, and little for one that it leaves out: a
    student too small for all of the teacher's answers keeps the likeliest. :func:`kd_loss` makes it cover all.

    Args, result and errors as for :func:`kd_loss`.

    Source: Gu et al. 2024 (MiniLLM), arXiv 2306.08543, section 2.
    """
    return _soft_loss(_reverse_kl, student_logits, teacher_logits, temperature, mask, class_dim, reduction)


def jsd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    *,
    beta: float = 0.5,
    mask: Tensor | None = None,
    class_dim: int | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """GKD's generalised Jensen–Shannon divergence: ``T² · (β · KL(teacher ‖ M) + (1 − β) · KL(student ‖ M))``.

    M is the mixture ``β · softmax(t/T) + (1 − β) · softmax(s/T)``. At β = 1/2 teacher and student may change places.
    The divergence never exceeds ``T² · (−β log β − (1 − β) log(1 − β))``, however wrong the student is.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: the same shape.
        temperature: T > 0.
        beta: strictly between 0 and 1. Towards either end M becomes one of the two distributions and the divergence
            tends to 0 (it is about β · KL(teacher ‖ student) near 0, (1 − β) · KL(student ‖ teacher) near 1), so a β
            near an end is a tiny learning rate. Libraries put the undivided KL at the ends, a jump from almost 0;
            here they are refused: use :func:`kd_loss` in place of β = 0, :func:`reverse_kd_loss` in place of β = 1.
        mask, class_dim, reduction: as for :func:`kd_loss`.

    Returns:
        The loss in nats.

    Raises:
        ValueError: a beta outside (0, 1); else as for :func:`kd_loss`.

    Source: Agarwal et al. 2024 (GKD), arXiv 2306.13649, section 2.
    """
    if not is_number(beta) or not 0 < beta < 1:
        raise ValueError(
            f"beta must lie strictly between 0 and 1, got {beta!r}: the divergence is 0 at both ends. "
            "Use kd_loss for KL(teacher ‖ student), reverse_kd_loss for KL(student ‖ teacher)"
        )

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
        return beta * _forward_kl(mixture, teacher) + (1 - beta) * _forward_kl(mixture, student)

    return _soft_loss(divergence, student_logits, teacher_logits, temperature, mask, class_dim, reduction)


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 4.0,
    soft_weight: float = 0.9,
    mask: Tensor | None = None,
    class_dim: int | None = None,
) -> LossParts:
    """The full loss: ``soft_weight · soft + (1 − soft_weight) · hard``.

    ``soft`` is :func:`kd_loss` at temperature T, T² included; ``hard`` is the cross-entropy with the labels at
    T = 1. Both are means over the same positions: those with a label other than −100 where the mask, if any, is True.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: the same shape.
        labels: int64, shape ``(...)``, values 0 … C − 1, or −100 where a position counts in neither term.
        temperature: T > 0, for the soft term alone.
        soft_weight: between 0 (labels alone) and 1 (teacher alone).
        mask, class_dim: as for :func:`kd_loss`.

    Returns:
        :class:`LossParts` ``(total, soft, hard)``; call ``.total.backward()``.

    Raises:
        ValueError: names the argument and its value; no position counts.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2.
    """
    check_temperature(temperature)
    check_soft_weight(soft_weight)
    check_pair(student_logits, teacher_logits)
    student, teacher = (classes_last(logits, class_dim) for logits in (student_logits, teacher_logits))
    check_labels(labels, student)
    counts = labels != IGNORED
    if mask is not None:
        check_mask(mask, labels.shape)
        counts = counts & mask
    if not counts.all():
        if not counts.any():
            where = "" if mask is None else " where mask is True"
            raise ValueError(f"no position counts: every label is {IGNORED}{where}. Leave such a batch out")
        student, teacher, labels = student[counts], teacher[counts], labels[counts]
    check_finite("student_logits", student)
    check_finite("teacher_logits", teacher)
    check_label_values(labels, student.shape[-1])
    return unchecked_distillation_loss(student, teacher, labels, temperature, soft_weight, all_count=True)


def unchecked_distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    soft_weight: float,
    *,
    mask: Tensor | None = None,
    all_count: bool = False,
) -> LossParts:
    """:func:`distillation_loss` without looking at the values, for a training loop that checked its data once.

    A look at values makes a GPU wait at every step. So a batch in which nothing counts is no error here: its loss and
    its gradient are 0. The classes are last. ``all_count=True`` says that no label is −100 and no mask is needed: the
    same numbers in less time.
    """
    if all_count:
        soft = softened_kl(student_logits, teacher_logits, temperature).mean() * temperature**2
        hard = _cross_entropy(student_logits, labels)
    else:
        counts = labels != IGNORED if mask is None else mask & (labels != IGNORED)
        # A teacher's padding may hold nan, and 0 · nan is nan, in the student's gradient too.
        teacher_logits = teacher_logits.masked_fill(~counts.unsqueeze(-1), 0.0)
        divergence = softened_kl(student_logits, teacher_logits, temperature)
        soft = torch.where(counts, divergence, 0.0).sum() / counts.sum().clamp(min=1) * temperature**2
        hard = _cross_entropy(student_logits, labels.masked_fill(~counts, IGNORED))
        hard = torch.where(counts.any(), hard, 0.0)  # the mean over no label is nan
    return LossParts(soft_weight * soft + (1 - soft_weight) * hard, soft, hard)


def check_soft_weight(soft_weight: float) -> None:
    """Raise ValueError unless the weight lies in [0, 1]."""
    if not is_number(soft_weight) or not 0 <= soft_weight <= 1:
        raise ValueError(f"soft_weight must lie between 0 and 1, got {soft_weight!r}")


def _soft_loss(
    divergence: Callable[[Tensor, Tensor], Tensor],
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    mask: Tensor | None,
    class_dim: int | None,
    reduction: str,
) -> Tensor:
    """T² times a divergence of the softened student and teacher, whose log-probabilities it gets."""
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = those_that_count(student_logits, teacher_logits, mask, class_dim)
    each = divergence(_log_softened(student, temperature), _log_softened(teacher.detach(), temperature))
    return reduce(each, mask, reduction) * temperature**2


def _log_softened(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(at_least_float32(logits) / temperature, dim=-1)


def softened_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) at each position, both softened, nothing checked and no T² yet."""
    return _forward_kl(_log_softened(student_logits, temperature), _log_softened(teacher_logits.detach(), temperature))


def _forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) at each position, from log-probabilities."""
    # Logarithms on both sides: a probability that underflows to 0 has no usable logarithm, log_softmax always has.
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    return _forward_kl(teacher, student)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    logits = at_least_float32(logits)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))  # leaves out IGNORED
