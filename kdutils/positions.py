"""Which positions of a batch count, and how their losses become one number: the same for every loss.

A position is one example, one token, one pixel: whatever has logits ``(C,)`` of its own. A loss looks at the values
of the positions that count and at no others, so that padding may hold anything, nan included.
"""

import math
from numbers import Integral, Real

import torch
from torch import Tensor

IGNORED = -100  # the label of a position that does not count: PyTorch's default for ignore_index

REDUCTIONS = ("batchmean", "sequencemean", "sum", "none")
NAMES = ("student_logits", "teacher_logits")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay what they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def is_number(value: object) -> bool:
    """Whether this is a real number; NumPy's are, so that a sweep over np.arange(1, 21) works."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is a finite positive number."""
    if not is_number(temperature) or not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")


def classes_last(logits: Tensor, class_dim: int | None, name: str = "logits") -> Tensor:
    """A view of the logits with the class dimension at the end.

    Up to three dimensions, ``(C,)``, ``(N, C)`` and ``(B, T, C)``, the classes are last unless ``class_dim`` says
    otherwise. From four on it must be said: pictures come as ``(B, C, H, W)``, sequences of sequences as ``(…, C)``,
    and a softmax over the wrong one gives numbers that look right.

    Raises:
        ValueError: ``class_dim`` is missing, or is no dimension of these logits.
    """
    shape = tuple(logits.shape)
    if class_dim is None:
        if len(shape) >= 4:
            readings = (f"class_dim={dim}, {shape[dim]} classes at {_without(shape, dim)} positions" for dim in (1, -1))
            raise ValueError(
                f"class_dim must be given for {name} of 4 or more dimensions, got {shape}: "
                f"is it {' (as in segmentation), or '.join(readings)}?"
            )
        return logits
    if not isinstance(class_dim, Integral) or isinstance(class_dim, bool) or not -len(shape) <= class_dim < len(shape):
        raise ValueError(f"class_dim must be a dimension of {name} of shape {shape}, got {class_dim!r}")
    return logits.movedim(int(class_dim), -1)


def check_shape(name: str, logits: Tensor) -> None:
    """Raise ValueError unless these are floating-point numbers of shape ``(..., C)``, one position at least."""
    if not logits.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {logits.dtype}")
    if logits.dim() == 0 or logits.numel() == 0:
        raise ValueError(f"{name} must have shape (..., C) and hold at least one example, got {tuple(logits.shape)}")


def check_pair(student: Tensor, teacher: Tensor, names: tuple[str, str] = NAMES) -> None:
    """Raise ValueError unless two tensors of logits have the same shape, as :func:`check_shape` wants it."""
    # Compared by hand because broadcasting would accept, say, (N, 10) beside (1, 10) and return a wrong number.
    if student.shape != teacher.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    check_shape(names[0], student)
    check_shape(names[1], teacher)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError if a value is nan or infinite."""
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(f"{name} must be finite, but {bad} of its {tensor.numel()} values are nan or infinite")


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Raise ValueError unless the mask is bool, of this shape, and True somewhere."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"mask must be a bool tensor, True where a position counts, got {got}: "
            "an attention mask of 0 and 1 becomes one by .bool()"
        )
    if mask.shape != shape:
        raise ValueError(
            f"mask must have the shape of the logits without their classes, {tuple(shape)}, got {tuple(mask.shape)}"
        )
    if not mask.any():
        raise ValueError("no position counts: mask is False everywhere. Leave such a batch out")


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless labels are int64, one for each position of logits ``(..., C)``."""
    if labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 class numbers, got {labels.dtype}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must have shape {tuple(logits.shape[:-1])} to go with logits of shape {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}"
        )


def check_label_values(labels: Tensor, classes: int) -> None:
    """Raise ValueError unless all labels, those that count, lie in 0 … C − 1."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels must lie in 0 … {classes - 1}, got values from {low} to {high} "
            f"({IGNORED} marks a position that does not count)"
        )


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless this is one of :data:`REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        hint = ' ("mean" would divide by N·C: use "batchmean")' if reduction == "mean" else ""
        raise ValueError(f'reduction must be "batchmean", "sequencemean", "sum" or "none", got {reduction!r}{hint}')


def those_that_count(
    student: Tensor, teacher: Tensor, mask: Tensor | None, class_dim: int | None, names: tuple[str, str] = NAMES
) -> tuple[Tensor, Tensor]:
    """Both logits, checked, classes last, without the positions that the mask leaves out.

    Returns:
        ``(..., C)`` as they are without a mask, ``(M, C)`` for the M positions where a mask is True.
    """
    check_pair(student, teacher, names)
    student, teacher = (classes_last(x, class_dim, name) for x, name in zip((student, teacher), names, strict=True))
    if mask is not None:
        check_mask(mask, student.shape[:-1])
        # Taken out, not multiplied by 0: 0 · nan is nan, and what is not there costs no softmax.
        student, teacher = student[mask], teacher[mask]
    check_finite(names[0], student)
    check_finite(names[1], teacher)
    return student, teacher


def reduce(each: Tensor, mask: Tensor | None, reduction: str) -> Tensor:
    """One number from the losses of :func:`those_that_count`, or with "none" one for each position.

    Args:
        each: ``(...)`` without a mask, ``(M,)`` with one.
        mask: bool ``(...)``, or None.
        reduction: one of :data:`REDUCTIONS`.
    """
    if reduction == "batchmean":
        return each.mean()
    if reduction == "sum":
        return each.sum()
    if mask is not None:
        each = each.new_zeros(mask.shape).masked_scatter(mask, each)
    if reduction == "none":
        return each
    counts = torch.ones_like(each, dtype=torch.bool) if mask is None else mask
    sequences = each.shape[0] if each.dim() else 1
    counts = counts.reshape(sequences, -1).sum(1)
    means = each.reshape(sequences, -1).sum(1) / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum()


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    dim %= len(shape)
    return shape[:dim] + shape[dim + 1 :]
