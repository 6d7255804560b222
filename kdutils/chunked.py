"""The distillation loss of long sequences with a large vocabulary, without ever holding all the logits.

4,096 tokens × 151,936 classes are 2.5 GB in float32, and the loss needs several tensors of that size. Hidden states are
narrow: so the last layer and the loss are computed for a few positions at a time, and again in the backward pass.
"""

from numbers import Integral

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .losses import softened_kl
from .positions import check_finite, check_mask, check_shape, check_temperature

Head = nn.Linear | tuple[Tensor, Tensor | None]


def chunked_kd_loss(
    student_hidden: Tensor,
    student_head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    chunk_size: int = 256,
) -> Tensor:
    """:func:`~kdutils.losses.kd_loss` of ``head(hidden)``, holding the logits of ``chunk_size`` positions at most.

    Value and gradient are those of ``kd_loss(student_head(student_hidden), teacher_head(teacher_hidden), T,
    mask=mask)`` up to rounding: the gradients of the hidden states, of the head's weight and of its bias. The price is
    that each chunk's logits are computed twice. (A head in half precision sums its gradient in half precision, chunk
    by chunk, where one matrix product rounds once: keep weights in float32.)

    Args:
        student_hidden: ``(..., d)``, what goes into the last layer, of a floating type that the head takes.
        student_head: the last layer, ``nn.Linear(d, V)`` or ``(weight, bias)`` of shapes ``(V, d)`` and ``(V,)``, bias
            None if it has none. Nothing may follow it: no scale, no soft cap on the logits.
        teacher_hidden: ``(..., d')``; another width is fine.
        teacher_head: with the same V classes in the same order. No gradient reaches the teacher.
        temperature: T > 0.
        mask: bool ``(...)``, True where a position counts; the others cost nothing.
        chunk_size: positions at a time. Memory grows with ``chunk_size`` × V, so halve it if memory runs out.

    Returns:
        The mean over the positions that count, in nats.

    Raises:
        ValueError: shapes that do not fit, vocabularies that differ, values that are not finite, bad arguments.

    Source: recomputing in place of storing, Chen et al. 2016, arXiv 1604.06174; for the last layer of language models,
    Hsu et al. 2024 (Liger Kernel), arXiv 2410.10989.
    """
    check_temperature(temperature)
    if not isinstance(chunk_size, Integral) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a whole number of at least 1, got {chunk_size!r}")
    student_weights, teacher_weights = _weights("student", student_head), _weights("teacher", teacher_head)
    classes = [weights[0].shape[0] for weights in (student_weights, teacher_weights)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"student_head and teacher_head must have the same classes, got {classes[0]} and {classes[1]}: where the "
            "larger one has rows for padding at its end, cut both to the tokens, (weight[:V], None or bias[:V])"
        )
    if student_hidden.shape[:-1] != teacher_hidden.shape[:-1]:
        raise ValueError(
            "student_hidden and teacher_hidden must have the same positions, got shapes "
            f"{tuple(student_hidden.shape)} and {tuple(teacher_hidden.shape)}"
        )
    for who, hidden, weights in (
        ("student", student_hidden, student_weights),
        ("teacher", teacher_hidden, teacher_weights),
    ):
        check_shape(f"{who}_hidden", hidden)
        if hidden.shape[-1] != weights[0].shape[1]:
            raise ValueError(
                f"{who}_hidden of shape {tuple(hidden.shape)} does not fit {who}_head, whose weight is "
                f"{tuple(weights[0].shape)}"
            )
    if mask is not None:
        check_mask(mask, student_hidden.shape[:-1])
        student_hidden, teacher_hidden = student_hidden[mask], teacher_hidden[mask]
    check_finite("student_hidden", student_hidden)
    check_finite("teacher_hidden", teacher_hidden)

    def sum_over(student: Tensor, teacher: Tensor, *student_weights: Tensor) -> Tensor:
        logits = F.linear(student, *student_weights), F.linear(teacher, *teacher_weights)
        return softened_kl(*logits, temperature).sum()

    student, teacher = (hidden.reshape(-1, hidden.shape[-1]) for hidden in (student_hidden, teacher_hidden))
    total = 0.0
    for chunk in zip(student.split(int(chunk_size)), teacher.split(int(chunk_size)), strict=True):
        total = total + checkpoint(sum_over, *chunk, *student_weights, use_reentrant=False, preserve_rng_state=False)
    return total / len(student) * temperature**2


def _weights(who: str, head: Head) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a last layer, checked."""
    weight, bias = (head.weight, head.bias) if isinstance(head, nn.Linear) else _two(who, head)
    name = f"{who}_head"
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ValueError(f"{name}'s weight must be a tensor of shape (V, d)")
    check_shape(f"{name}'s weight", weight)
    check_finite(f"{name}'s weight", weight)
    if bias is not None:
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"{name}'s bias must have shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")
        check_finite(f"{name}'s bias", bias)
    return weight, bias


def _two(who: str, head: object) -> tuple:
    if not isinstance(head, tuple | list) or len(head) != 2:
        raise ValueError(f"{who}_head must be an nn.Linear or (weight, bias), got {type(head).__name__}")
    return tuple(head)
