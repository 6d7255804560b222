"""The distillation loss, written once and checked hard.

Notation used throughout: N examples, C classes, T the temperature, s the student's logits, t the teacher's.
All losses are in nats. A logit tensor has shape ``(..., C)``; every leading dimension counts as examples.
"""

import math
from numbers import Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


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
    _check_logits("logits", logits)
    return torch.softmax(_at_least_float32(logits) / temperature, dim=-1)


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    *,
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
        reduction: "batchmean" divides the sum by N, the number of examples; "sum" does not divide; "none" returns
            one value per example, of shape ``(...)``. There is no "mean": PyTorch's divides by N·C.

    Returns:
        The loss in nats, float32 or float64.

    Raises:
        ValueError: shapes that differ or hold no example, logits that are not finite, a bad temperature or reduction.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2.
    """
    check_temperature(temperature)
    _check_pair(student_logits, teacher_logits)
    if reduction not in ("batchmean", "sum", "none"):
        hint = ' ("mean" would divide by N·C: use "batchmean")' if reduction == "mean" else ""
        raise ValueError(f'reduction must be "batchmean", "sum" or "none", got {reduction!r}{hint}')
    divergence = _divergence(student_logits, teacher_logits, temperature)
    if reduction == "batchmean":
        divergence = divergence.mean()
    elif reduction == "sum":
        divergence = divergence.sum()
    return divergence * temperature**2


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 4.0,
    soft_weight: float = 0.9,
) -> LossParts:
    """The full loss: ``soft_weight · soft + (1 − soft_weight) · hard``.

    ``soft`` is :func:`kd_loss` at temperature T, T² included; ``hard`` is the cross-entropy with the labels at
    T = 1. Both are means over the examples.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: the same shape.
        labels: int64, shape ``(...)``, values 0 … C − 1.
        temperature: T > 0, for the soft term alone.
        soft_weight: between 0 (labels alone) and 1 (teacher alone).

    Returns:
        :class:`LossParts` ``(total, soft, hard)``; call ``.total.backward()``.

    Raises:
        ValueError: names the argument and its value.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2.
    """
    check_temperature(temperature)
    check_soft_weight(soft_weight)
    _check_pair(student_logits, teacher_logits)
    _check_labels(labels, student_logits)
    return unchecked_distillation_loss(student_logits, teacher_logits, labels, temperature, soft_weight)


def unchecked_distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, soft_weight: float
) -> LossParts:
    """:func:`distillation_loss` without looking at the values, for a training loop that checked its data once.

    A look at values makes a GPU wait at every step.
    """
    soft = _divergence(student_logits, teacher_logits, temperature).mean() * temperature**2
    logits = _at_least_float32(student_logits)
    hard = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
    return LossParts(soft_weight * soft + (1 - soft_weight) * hard, soft, hard)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is a finite positive number."""
    if not _is_number(temperature) or not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")


def check_soft_weight(soft_weight: float) -> None:
    """Raise ValueError unless the weight lies in [0, 1]."""
    if not _is_number(soft_weight) or not 0 <= soft_weight <= 1:
        raise ValueError(f"soft_weight must lie between 0 and 1, got {soft_weight!r}")


def _divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of each example, both softened; no T² yet."""
    # Logarithms on both sides: a probability that underflows to 0 has no usable logarithm, log_softmax always has.
    student = F.log_softmax(_at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(_at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _is_number(value: object) -> bool:
    # Real takes in NumPy's numbers, so that a sweep over np.arange(1, 21) works.
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_pair(student_logits: Tensor, teacher_logits: Tensor) -> None:
    # Compared by hand because broadcasting would accept, say, (N, 10) beside (1, 10) and return a wrong number.
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student_logits and teacher_logits must have the same shape, got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    _check_logits("student_logits", student_logits)
    _check_logits("teacher_logits", teacher_logits)


def _check_logits(name: str, logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {logits.dtype}")
    if logits.dim() == 0 or logits.numel() == 0:
        raise ValueError(f"{name} must have shape (..., C) and hold at least one example, got {tuple(logits.shape)}")
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).sum())
        raise ValueError(f"{name} must be finite, but {bad} of its {logits.numel()} values are nan or infinite")


def _check_labels(labels: Tensor, logits: Tensor) -> None:
    classes = logits.shape[-1]
    if labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 class numbers, got {labels.dtype}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must have shape {tuple(logits.shape[:-1])} to go with logits of shape {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f"labels must lie in 0 … {classes - 1}, got values from {low} to {high}")
