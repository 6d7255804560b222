"""Distillation losses for other outputs than one answer among C classes: yes-or-no labels, and numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import at_least_float32, check_reduction, check_temperature, reduce, those_that_count


def binary_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    *,
    mask: Tensor | None = None,
    class_dim: int | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """The soft-target loss for sigmoid heads: K labels, each true or not on its own.

    At each label the teacher's and the student's ``sigmoid(logit / T)`` are two distributions over yes and no. The
    loss is T² times the sum over the labels of KL(teacher ‖ student). With one label it is
    :func:`~kdutils.losses.kd_loss` on the two logits 0 and z. (A softmax over the labels would make them compete.)

    Args:
        student_logits: ``(..., K)``, raw scores before any sigmoid; ``(N, 1)`` for one label.
        teacher_logits: the same shape. No gradient reaches the teacher.
        temperature: T > 0.
        mask, class_dim, reduction: as for :func:`~kdutils.losses.kd_loss`; a position is an example with its K labels.

    Returns:
        The loss in nats. "batchmean" is the mean over the examples, not over the labels.

    Raises:
        ValueError: logits of shape ``(N,)``, of which nobody can say whether N counts examples or labels; else as for
            :func:`~kdutils.losses.kd_loss`.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2, for two classes; a sum over labels as in Yang et
    al. 2023, arXiv 2308.06453.
    """
    check_temperature(temperature)
    check_reduction(reduction)
    _check_last("student_logits", student_logits, "labels")
    student, teacher = those_that_count(student_logits, teacher_logits, mask, class_dim)
    student, teacher = at_least_float32(student) / temperature, at_least_float32(teacher.detach()) / temperature
    # logsigmoid, because 1 − sigmoid(20) is 0 in float32, and has no logarithm.
    yes = torch.sigmoid(teacher) * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = torch.sigmoid(-teacher) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return reduce((yes + no).sum(dim=-1), mask, reduction) * temperature**2


def regression_kd_loss(
    student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "batchmean"
) -> Tensor:
    """The squared distance between the student's and the teacher's outputs, for heads that give numbers.

    Args:
        student: ``(..., D)``, D outputs in the units of the target; ``(N, 1)`` for one.
        teacher: the same shape. No gradient reaches it.
        mask: bool ``(...)``, True where an example counts.
        reduction: as for :func:`~kdutils.losses.kd_loss`.

    Returns:
        The squares summed over the D outputs, by default with the mean over the examples. PyTorch's ``mse_loss``
        divides by D too.

    Raises:
        ValueError: outputs of shape ``(N,)``; else as for :func:`~kdutils.losses.kd_loss`.

    Source: Ba & Caruana 2014, arXiv 1312.6184, section 2, where the outputs are the logits.
    """
    check_reduction(reduction)
    _check_last("student", student, "outputs")
    student, teacher = those_that_count(student, teacher, mask, -1, names=("student", "teacher"))
    difference = at_least_float32(student) - at_least_float32(teacher.detach())
    return reduce(difference.square().sum(dim=-1), mask, reduction)


def _check_last(name: str, output: Tensor, what: str) -> None:
    if output.dim() == 1:
        raise ValueError(
            f"{name} of shape {tuple(output.shape)} could be {len(output)} examples or {len(output)} {what}: "
            f"unsqueeze(-1) makes them examples, unsqueeze(0) {what} of one example"
        )
