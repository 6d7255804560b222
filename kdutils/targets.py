"""What can stand in the teacher's place: several teachers, the likeliest classes alone, another set of classes."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import (
    at_least_float32,
    check_finite,
    check_mask,
    check_reduction,
    check_shape,
    check_temperature,
    classes_last,
    is_number,
    reduce,
)

ROUNDING = 1e-3  # how far the probabilities of an API, rounded for the wire, may be from a sum of at most 1

# --- several teachers --------------------------------------------------------------------------------------------


def mix_teachers(
    logits_list: Sequence[Tensor],
    temperature: float,
    weights: Sequence[float] | None = None,
    *,
    class_dim: int | None = None,
) -> Tensor:
    """One teacher from several: logits z with ``softmax(z/T) = Σ w_k · softmax(t_k/T)``, for this T alone.

    This is the arithmetic mean of the softened distributions: what one teacher finds likely stays in the mixture.
    The mean of the logits is another thing, the geometric mean of the distributions scaled to sum to 1: there each
    teacher has a veto, and the outcome can be surer than every teacher.

    Args:
        logits_list: K tensors of the same shape ``(..., C)``.
        temperature: T > 0, the same as in the loss that gets z.
        weights: K numbers, none negative, that sum to 1. 1/K each unless said.
        class_dim: which dimension holds the classes, as for :func:`~kdutils.losses.kd_loss`.

    Returns:
        z, float32 or float64, of the teachers' shape, without gradient.

    Raises:
        ValueError: no teacher, shapes that differ, bad weights, logits that are not finite.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 1 (arithmetic or geometric mean).
    """
    check_temperature(temperature)
    teachers = list(logits_list)
    if not teachers:
        raise ValueError("logits_list must hold the logits of one teacher at least, got none")
    weights = [1 / len(teachers)] * len(teachers) if weights is None else list(weights)
    good = len(weights) == len(teachers) and all(is_number(weight) and weight >= 0 for weight in weights)
    if not good or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights must be {len(teachers)} numbers, none negative, that sum to 1, got {weights}")
    shares = []
    for number, (logits, weight) in enumerate(zip(teachers, weights, strict=True)):
        name = f"logits_list[{number}]"
        if logits.shape != teachers[0].shape:
            raise ValueError(
                f"all logits must have the same shape, got {tuple(teachers[0].shape)} and {tuple(logits.shape)}"
            )
        check_shape(name, logits)
        check_finite(name, logits)
        if weight > 0:
            logits = at_least_float32(classes_last(logits.detach(), class_dim, name))
            shares.append(F.log_softmax(logits / temperature, dim=-1) + math.log(weight))
    mixture = temperature * torch.stack(shares).logsumexp(dim=0)
    return mixture if class_dim is None else mixture.movedim(-1, int(class_dim))


# --- the likeliest classes alone ---------------------------------------------------------------------------------


class TopK(NamedTuple):
    """What is kept of a teacher's softened distribution: its k likeliest classes, and how much is left for the others.

    For the rows of a batch, ``TopK(*(part[rows] for part in targets[:3]), targets.temperature)``.
    """

    index: Tensor
    """Class numbers, int64 ``(..., k)``."""
    log_probs: Tensor
    """Natural logarithms of their probabilities at T, ``(..., k)``."""
    rest: Tensor
    """Logarithm of the probability of all other classes together, ``(...)``; −inf where nothing is left."""
    temperature: float
    """T, at which the probabilities are, and at which the student must be softened too."""


def top_k(teacher_logits: Tensor, k: int, temperature: float = 1.0, *, class_dim: int | None = None) -> TopK:
    """The teacher's k likeliest classes at temperature T. Stored, they take k numbers instead of C.

    Args:
        teacher_logits: ``(..., C)``.
        k: 1 … C.
        temperature: T > 0. It is chosen here: from k probabilities at one T no others can be computed.
        class_dim: which dimension holds the classes, as for :func:`~kdutils.losses.kd_loss`.

    Returns:
        :class:`TopK`, k in the last dimension, float32 or float64.

    Raises:
        ValueError: a bad k or temperature, logits that are not finite.
    """
    check_temperature(temperature)
    check_shape("teacher_logits", teacher_logits)
    check_finite("teacher_logits", teacher_logits)
    logits = classes_last(teacher_logits.detach(), class_dim, "teacher_logits")
    if not isinstance(k, Integral) or isinstance(k, bool) or not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k must be a whole number from 1 to the {logits.shape[-1]} classes, got {k!r}")
    log_probs = F.log_softmax(at_least_float32(logits) / temperature, dim=-1)
    likeliest, index = log_probs.topk(int(k), dim=-1)
    return TopK(index, likeliest, _log_rest(log_probs, index), temperature)


def top_k_from_probabilities(index: Tensor, probabilities: Tensor, *, log: bool = False) -> TopK:
    """The same from a teacher behind an API, which gives the probabilities of the likeliest classes and no logits.

    They hold at T = 1 only. At another T each becomes p^(1/T), divided by the sum of all C of these, and of the
    classes that the API keeps to itself only the sum of p is known, not that of p^(1/T).

    Args:
        index: class numbers, int64 ``(..., k)``, each at most once.
        probabilities: ``(..., k)``, in [0, 1]; over k they sum to 1 at most.
        log: they are natural logarithms of probabilities, as most APIs give them.

    Returns:
        :class:`TopK` at T = 1. What is left to 1 is the probability of all other classes.

    Raises:
        ValueError: shapes that differ, a class twice, numbers that are no probabilities or sum to more than 1.
    """
    if index.dtype != torch.int64 or index.shape != probabilities.shape or index.numel() == 0 or index.dim() == 0:
        raise ValueError(
            f"index must be int64 and index and probabilities of the same shape (..., k), got {index.dtype} "
            f"{tuple(index.shape)} and {tuple(probabilities.shape)}"
        )
    if (index.sort(dim=-1).values.diff(dim=-1) == 0).any():
        raise ValueError("index must name each class once per position, but some class stands there twice")
    given = at_least_float32(probabilities.detach())
    probs = given.exp() if log else given
    if not ((probs >= 0) & (probs <= 1 + ROUNDING)).all():
        hint = "logarithms of probabilities are 0 at most" if log else "for their logarithms say log=True"
        raise ValueError(
            f"probabilities must lie in [0, 1], got values from {given.min():g} to {given.max():g}: {hint}"
        )
    total = probs.double().sum(dim=-1)
    if (total > 1 + ROUNDING).any():
        raise ValueError(f"the probabilities of a position must sum to 1 at most, got {total.max():g}")
    rest = torch.log1p(-total.clamp(max=1)).to(probs.dtype)
    return TopK(index, given if log else given.log(), rest, 1.0)


def top_k_kd_loss(
    student_logits: Tensor,
    targets: TopK,
    *,
    mask: Tensor | None = None,
    class_dim: int | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """T² · KL(teacher ‖ student) over k + 1 outcomes: the teacher's k classes, and "any other class".

    The student is charged for what it gives to the other classes together; how it shares that among them is free. So
    the loss never exceeds the full :func:`~kdutils.losses.kd_loss`, and equals it at k = C. Without the last outcome
    (the k probabilities as they are, or scaled to sum to 1) the student would learn that no other class is possible.

    Args:
        student_logits: ``(..., C)``.
        targets: of :func:`top_k` or :func:`top_k_from_probabilities`; their T is the student's.
        mask, class_dim, reduction: as for :func:`~kdutils.losses.kd_loss`.

    Returns:
        The loss in nats.

    Raises:
        ValueError: targets that do not belong to these logits; else as for :func:`~kdutils.losses.kd_loss`.

    Source: the log sum inequality, Cover & Thomas, Elements of Information Theory, section 2.7; what dropping the
    rest does to a student, Anshumann et al. 2025, arXiv 2503.16870.
    """
    check_reduction(reduction)
    check_shape("student_logits", student_logits)
    student = classes_last(student_logits, class_dim, "student_logits")
    _check_targets(targets, student.shape)
    index, log_probs, rest, temperature = targets
    if mask is not None:
        check_mask(mask, student.shape[:-1])
        student, index, log_probs, rest = (x[mask] for x in (student, index, log_probs, rest))
    check_finite("student_logits", student)
    answers = F.log_softmax(at_least_float32(student) / temperature, dim=-1)
    each = _kl_terms(log_probs, answers.gather(-1, index)).sum(dim=-1)
    if index.shape[-1] < answers.shape[-1]:
        each = each + _kl_terms(rest, _log_rest(answers, index))
    return reduce(each, mask, reduction) * temperature**2


def _log_rest(log_probs: Tensor, index: Tensor) -> Tensor:
    """Logarithm of the probability of all classes but these. Summed, not 1 − the others, which would round to 0."""
    return log_probs.scatter(-1, index, -torch.inf).logsumexp(dim=-1)


def _kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``p · (log p − log q)``, 0 where p is 0."""
    log_p = at_least_float32(log_p.detach())
    return torch.where(log_p == -torch.inf, 0.0, log_p.exp() * (log_p - log_q))


def _check_targets(targets: TopK, shape: torch.Size) -> None:
    if not isinstance(targets, TopK):
        raise ValueError(
            f"targets must be a TopK, from top_k or top_k_from_probabilities, got {type(targets).__name__}"
        )
    check_temperature(targets.temperature)
    index, log_probs, rest, _ = targets
    if not (index.shape == log_probs.shape and index.shape[:-1] == rest.shape == shape[:-1]):
        raise ValueError(
            f"targets for student_logits of shape {tuple(shape)} must have index and log_probs of shape "
            f"{(*shape[:-1], 'k')} and a rest of shape {tuple(shape[:-1])}, got {tuple(index.shape)}, "
            f"{tuple(log_probs.shape)} and {tuple(rest.shape)}"
        )
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= shape[-1]:
        raise ValueError(f"targets.index must lie in 0 … {shape[-1] - 1}, the student's classes, got {low} to {high}")
    if index.shape[-1] == shape[-1] and rest.exp().max() > ROUNDING:
        raise ValueError("targets name every class and leave a rest for others: their probabilities must sum to 1")


# --- another set of classes --------------------------------------------------------------------------------------


class SharedClasses(NamedTuple):
    """Which outputs of student and teacher stand for the same class, and which classes only one of them knows."""

    student: Tensor
    """Positions of the shared classes in the student's output, int64, in the student's order."""
    teacher: Tensor
    """Positions of the same classes in the teacher's output."""
    only_student: tuple
    """Names that the teacher does not know: they can be learnt from labels alone."""
    only_teacher: tuple
    """Names that the student does not know."""


def shared_classes(student_classes: Iterable[Hashable], teacher_classes: Iterable[Hashable]) -> SharedClasses:
    """Match the classes of a student and a teacher by name, never by their place in the output.

    With ``m = shared_classes(…)`` and logits s and t, ``kd_loss(s[..., m.student], t[..., m.teacher])`` compares the
    two distributions *given that it is one of the shared classes*: a softmax over some of the logits is the
    conditional distribution. What either gives to its other classes plays no part.

    Args:
        student_classes: a name per output, in the order of the outputs. Names match when they are equal.
        teacher_classes: the same for the teacher.

    Returns:
        :class:`SharedClasses` ``(student, teacher, only_student, only_teacher)``.

    Raises:
        ValueError: a name twice, no name in both, a dictionary or a string in place of a list of names.
    """
    student_classes = _names("student_classes", student_classes)
    teacher_classes = _names("teacher_classes", teacher_classes)
    place = {name: number for number, name in enumerate(teacher_classes)}
    shared = [(number, place[name]) for number, name in enumerate(student_classes) if name in place]
    if not shared:
        raise ValueError(
            "student and teacher have no class name in common, for example "
            f"{student_classes[:3]} and {teacher_classes[:3]}: names must be equal, capitals too"
        )
    student, teacher = torch.tensor(shared).unbind(dim=1)
    known = set(student_classes)
    return SharedClasses(
        student,
        teacher,
        tuple(name for name in student_classes if name not in place),
        tuple(name for name in teacher_classes if name not in known),
    )


def _names(argument: str, classes: Iterable[Hashable]) -> list[Hashable]:
    # A dictionary {0: "cat"} would give its numbers, which match by position; a string its letters.
    if isinstance(classes, Mapping | str):
        raise ValueError(
            f"{argument} must be a list of names in the order of the outputs, got a {type(classes).__name__}: "
            "for Hugging Face's id2label that is [id2label[i] for i in range(len(id2label))]"
        )
    names = list(classes)
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{argument} must name each class once, but has {', '.join(twice[:5])} more than once")
    return names
