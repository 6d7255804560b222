"""What is wrong with a distillation step, as far as it can be seen from outside."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import binom
from torch import Tensor, nn

from .evaluate import predict_logits
from .losses import LossParts
from .probe import WrongForm, answers, left_as_found, recorded
from .recognize import RIGHT_SOFT, fit, flat, recognize

MESSAGES = {
    "loss raises": "the loss raised {error}. `kl_div` compares two distributions over the classes; class numbers "
    "belong in `cross_entropy`.",
    "student not called": "the loss never called `student(images)`, so nothing can be learned.",
    "swapped networks": "the gradient reaches the teacher and not the student: are the two swapped?",
    "no gradient": "no gradient reaches the student: look for `no_grad`, `detach` or `requires_grad=False` around it.",
    "gradient into the teacher": "the gradient reaches the teacher: compute its logits under `torch.no_grad()`.",
    "student in eval mode": "the student ran in eval mode: call `student.train()` before each epoch, also after an "
    "evaluation.",
    "teacher in train mode": "the teacher ran in training mode, so dropout and batch norm change its answers: call "
    "`teacher.eval()`.",
    "teacher changes": "calling the loss changed the teacher's {names}: `requires_grad=False` does not stop batch "
    "norm, `teacher.eval()` does.",
    "untrained teacher": "the teacher gets {right} of {count} labels of this batch right, no better than guessing: "
    "was it trained, and did its own optimizer hold its parameters?",
    "optimizer without the student": "the optimizer does not hold {names} of the student, so they never change.",
    "optimizer holds the teacher": "the optimizer holds the teacher's {names}, and will change them.",
    "student returns probabilities": "the student returns rows that are positive and add up to 1: give the loss "
    "logits, the softmax is inside it.",
    "teacher returns probabilities": "the teacher returns rows that are positive and add up to 1: give the loss "
    "logits, the softmax is inside it.",
    "not finite": "the gradient is nan or infinite although all logits are finite.",
    "teacher ignored": "the gradient does not depend on the teacher's logits: is another tensor distilled? (Expected "
    "where only inner layers are.)",
    "different views": "student and teacher were given different images: draw the augmentation once for both.",
    "cached for other images": "the teacher was not called, and the stored targets name another class than the teacher "
    "in {wrong} of {count} images: look the logits up by the index of the example, not by its place in the batch.",
    "cached for other views": "the teacher was not called, and the stored targets are not its answers to the images "
    "that the student sees, though mostly to the same digits: were they computed before augmentation?",
    "arguments swapped": "this is KL(student ‖ teacher): `kl_div` takes the student's log-probabilities first and the "
    "teacher's distribution second.",
    "log target": "the target is a log-probability, read as a probability: pass `log_target=True`, or give `softmax`.",
    "softmax twice": "both softmaxes are taken of probabilities instead of logits.",
    "teacher's softmax twice": "the teacher's probabilities go through a second softmax: give it logits.",
    "student's softmax twice": "the student's probabilities go through a second softmax: give it logits.",
    "no logarithm": "`kl_div` was given the student's probabilities; its first argument is their logarithm: use "
    "`log_softmax`.",
    "raw logits": "`kl_div` was given the student's logits as they are: use `log_softmax`.",
    "only the teacher softened": "the teacher is softened at T = {temperature:.3g}, the student is not: divide both.",
    "only the student softened": "the student is softened at T = {temperature:.3g}, the teacher is not: divide both.",
    "hard term: softmax twice": "the hard term is the cross-entropy of probabilities: give `cross_entropy` logits.",
    "hard term at T": "the hard term is taken at T = {temperature:.3g}: labels belong to T = 1.",
    "T² missing": "the soft term is T² times too small: multiply it by T² (here {factor:.4g}), and the weights "
    "add up to 1.",
    "mean": 'the soft term is C times too small: `reduction="mean"` divides by N·C, "batchmean" by N, '
    "and then the weights add up to 1.",
    "mean, T² missing": 'the soft term is C·T² times too small: use "batchmean", and multiply by T².',
    "sum": 'the soft term is a sum over the batch, N times too large: use "batchmean".',
}


@dataclass
class Diagnosis:
    """What :func:`check_distillation` saw. It is true where there is a problem; printed, it says which.

    ``temperature``, ``soft_weight`` and ``hard_weight`` are measured on the loss itself, T² and the mean over examples
    taken off, so that correct code shows the values that it was given. None where the loss is of no known form.
    """

    problems: dict[str, str] = field(default_factory=dict)  # a short name, and a sentence that says what to do
    temperature: float | None = None
    soft_weight: float | None = None
    hard_weight: float | None = None

    def __bool__(self) -> bool:
        return bool(self.problems)

    def __str__(self) -> str:
        lines = [f"✗ {name}: {message}" for name, message in self.problems.items()] or ["✓ No problem found."]
        if self.soft_weight is None and not self.problems:
            lines.append("  The loss is of no form that this check knows: T and the weights were not measured.")
        elif self.soft_weight is not None:
            at = "" if self.temperature is None else f" at T = {self.temperature:.3g}"
            lines.append(f"  Measured: soft weight {self.soft_weight:.3g}{at}, hard weight {self.hard_weight:.3g}.")
        return "\n".join(textwrap.fill(line, width=80, subsequent_indent="  ") for line in lines)

    def add(self, name: str, **values: Any) -> None:
        """Note a problem, with the values that its message needs."""
        self.problems[name] = MESSAGES[name].format(**values)


def check_distillation(
    student: nn.Module,
    teacher: nn.Module,
    batch: Sequence[Tensor],
    loss: Callable[[nn.Module, nn.Module, Any], Tensor | LossParts],
    *,
    optimizer: torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """Look at one training step from outside, and name the mistakes that show.

    The loss is called some times: with the networks as they are, to see who is called, in which mode, and where the
    gradient goes; then with made-up logits in place of the networks' own, to see what it computes. Its gradient is
    compared with those of the terms that people write, right and wrong. Afterwards weights, buffers, modes, gradients
    and random numbers are as they were.

    Whether T² or "batchmean" is missing is told by the weights: they are expected to add up to 1.

    Not put back: generators of your own, and buffers that are no part of ``state_dict()``.

    What no single step can show: a choice made on the test set, too few seeds, a student used at T ≠ 1.

    Args:
        student: images ``(N, …)`` in, logits ``(N, C)`` out.
        teacher: the same.
        batch: ``(images, labels, …)`` with at least 16 examples, as your loop makes it; labels int64 ``(N,)``.
        loss: ``loss(student, teacher, batch)``: your training step up to the loss, forward passes included. Returns a
            scalar, or a :class:`LossParts`.
        optimizer: if given, it must hold all of the student and nothing of the teacher.

    Returns:
        A :class:`Diagnosis`: print it, or ask for its ``problems``.

    Raises:
        ValueError: a batch, a network's answer or a loss of another form.
    """
    _check_batch(batch)
    if student is teacher:
        raise ValueError("student and teacher are one network: pass two, or there is nothing to compare")
    labels = batch[1]
    seen = Diagnosis()
    with left_as_found(student, teacher) as changed:
        if optimizer is not None:
            _look_at_optimizer(student, teacher, optimizer, seen)
        calls = {student: [], teacher: []}
        try:
            with recorded(student, calls[student]), recorded(teacher, calls[teacher]):
                value = _total(loss(student, teacher, batch))
        except WrongForm as error:
            raise ValueError(str(error)) from None
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            first_line = str(error).strip().partition("\n")[0].rstrip(".")
            seen.add("loss raises", error=f"{type(error).__name__} ({first_line})")
            return seen
        if not calls[student]:
            seen.add("student not called")
            return seen
        _look_at_calls(student, teacher, calls, seen)
        if names := changed(teacher):
            seen.add("teacher changes", names=_listed(names))
        if not _look_at_gradient(student, teacher, value, seen):
            return seen
        finite = all(torch.isfinite(output).all() for model in calls for _, output, *_ in calls[model])
        if finite and not all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None):
            seen.add("not finite")
            return seen
        inputs, answered = calls[student][0][:2]
        if calls[teacher]:
            live = calls[teacher][0][1]
        else:
            live = predict_logits(teacher, inputs)
        if len(live) == len(labels):
            _look_at_teacher(live, labels, seen)
        if answered.shape == live.shape and len(live) == len(labels):
            _look_at_loss(student, teacher, batch, loss, live, answered.dtype, bool(calls[teacher]), seen)
    return seen


# --- what the networks do ---


def _look_at_optimizer(student, teacher, optimizer, seen: Diagnosis) -> None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    learning = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    missing = [name for name, parameter in learning.items() if id(parameter) not in held]
    if missing:
        seen.add("optimizer without the student", names=_listed(missing))
    foreign = [name for name, parameter in teacher.named_parameters() if id(parameter) in held]
    if foreign:
        seen.add("optimizer holds the teacher", names=_listed(foreign))


def _look_at_calls(student, teacher, calls, seen: Diagnosis) -> None:
    if not all(training for _, _, training, _ in calls[student]):
        seen.add("student in eval mode")
    if any(some and _differ(output, predict_logits(teacher, given)) for given, output, _, some in calls[teacher]):
        seen.add("teacher in train mode")
    for name, model in (("student", student), ("teacher", teacher)):
        if any(_are_probabilities(output) for _, output, _, _ in calls[model]):
            seen.add(f"{name} returns probabilities")
    given_to_student = [given for given, *_ in calls[student]]
    for given, *_ in calls[teacher]:
        if not any(_same_view(given, other) for other in given_to_student):
            seen.add("different views")
            break


def _look_at_gradient(student, teacher, value: Tensor, seen: Diagnosis) -> bool:
    """Whether a gradient reaches the student, and where else it goes."""
    for parameter in (*student.parameters(), *teacher.parameters()):
        parameter.grad = None
    if value.requires_grad:
        value.backward()
    reached, leaked = (any(p.grad is not None for p in model.parameters()) for model in (student, teacher))
    if not reached:
        seen.add("swapped networks" if leaked else "no gradient")
    elif leaked:
        seen.add("gradient into the teacher")
    return reached


def _look_at_teacher(logits: Tensor, labels: Tensor, seen: Diagnosis) -> None:
    count, classes = logits.shape
    right = int((logits.argmax(dim=-1) == labels.to(logits.device)).sum())
    # A guess gets as many right, or more, in at least one of ten batches. A stricter rule blames weak teachers.
    if binom.sf(right - 1, count, 1 / classes) > 0.1:
        seen.add("untrained teacher", right=right, count=count)


# --- what the loss computes ---


def _look_at_loss(student, teacher, batch, loss, live: Tensor, dtype, teacher_called: bool, seen: Diagnosis) -> None:
    labels = batch[1].to(live.device)
    made_up = torch.Generator().manual_seed(0)
    s, t, other = (4 * torch.randn(live.shape, generator=made_up).to(live) for _ in range(3))
    s, other_s = s.to(dtype), other.to(dtype)
    if not teacher_called:
        t = live.float()

    def gradient(s: Tensor, t: Tensor) -> Tensor:
        given = s.clone().requires_grad_()
        with torch.enable_grad(), answers(student, given), answers(teacher, t):
            value = _total(loss(student, teacher, batch))
            found = torch.autograd.grad(value, given, allow_unused=True)[0] if value.requires_grad else None
        return torch.zeros_like(s) if found is None else found

    found = gradient(s, t)
    if not torch.isfinite(found).all():
        seen.add("not finite")
        return
    if teacher_called and (found - gradient(s, other)).norm() <= 1e-5 * found.norm():
        seen.add("teacher ignored")
        return
    form = recognize(found, s, t, labels)
    if form is None:
        if not teacher_called:
            _look_at_cache(gradient, s, other_s, t, labels, seen)
        return
    soft, hard, temperature, weights = form
    if soft not in RIGHT_SOFT:
        seen.add(soft, temperature=temperature)
    if hard != "cross-entropy" and weights[1] * len(s) > 1e-3:
        seen.add(hard, temperature=temperature)
    _weigh(soft, temperature, weights * len(s), s.shape, seen)


def _weigh(soft: str, temperature: float, weights: np.ndarray, shape: torch.Size, seen: Diagnosis) -> None:
    """The weights without T², and the factor that somebody forgot if they do not add up to 1."""
    count, classes = shape
    seen.soft_weight, seen.hard_weight = weights.tolist()
    if soft in RIGHT_SOFT[1:]:
        return
    seen.temperature = temperature
    seen.soft_weight /= temperature**2
    forgotten = {
        "T² missing": temperature**2,
        "mean": classes,
        "mean, T² missing": classes * temperature**2,
        "sum": 1 / count,
    }
    if soft not in RIGHT_SOFT or _near(seen.soft_weight + seen.hard_weight, 1):
        return
    for name, factor in forgotten.items():
        if _near(seen.soft_weight * factor, 1 - seen.hard_weight):
            seen.add(name, factor=temperature**2)
            return


def _look_at_cache(gradient, s: Tensor, other: Tensor, live: Tensor, labels: Tensor, seen: Diagnosis) -> None:
    """Take the targets out of the loss and compare them with the teacher's own.

    The gradient is k·(softmax(s/T) − p) + h·(softmax(s) − y). Between two values of s, the targets p and the labels
    drop out. That gives T, k and h, and then p.
    """

    def columns(T: float) -> np.ndarray:
        pairs = [(s / a).softmax(-1) - (other / a).softmax(-1) for a in (T, 1.0)]
        return np.stack([flat(pair) for pair in pairs], axis=1)

    first = gradient(s, live)
    temperature, weights, residual = fit(flat(first - gradient(other, live)), columns)
    if residual > 2e-3 or weights[0] < 0.02 * weights[1] or abs(temperature - 1) < 0.02:
        return  # no such form, or T = 1, where the two terms cannot be told apart
    _weigh(RIGHT_SOFT[0], temperature, weights * len(s) * [temperature, 1], s.shape, seen)
    hard = weights[1] * (s.softmax(-1) - F.one_hot(labels, s.shape[-1]))
    target = (s / temperature).softmax(-1) - (first - hard) / weights[0]
    own = (live / temperature).softmax(-1)
    if (target - own).abs().sum(dim=-1).mean() / 2 < 0.01:
        return
    wrong = int((target.argmax(dim=-1) != own.argmax(dim=-1)).sum())
    name = "cached for other images" if wrong > len(s) / 2 else "cached for other views"
    seen.add(name, wrong=wrong, count=len(s))


# --- tools ---


def _differ(output: Tensor, other: Tensor) -> bool:
    return bool((output.float() - other.float()).norm() > 0.02 * other.float().norm())


def _same_view(a: Tensor, b: Tensor) -> bool:
    """Whether two inputs are the same images, perhaps normalized, flattened or stored in another way."""
    if a.numel() != b.numel():
        return a.shape[0] != b.shape[0] or a[0].numel() != b[0].numel()  # another resolution: no way to tell
    pair = torch.stack([a.flatten().cpu().double(), b.flatten().cpu().double()])
    return bool(torch.equal(*pair) or torch.corrcoef(pair)[0, 1] > 0.99)


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) < 0.01 * wanted


def _are_probabilities(output: Tensor) -> bool:
    sums = output.sum(dim=-1)
    return bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _total(loss: Tensor | LossParts) -> Tensor:
    total = loss.total if isinstance(loss, LossParts) else loss
    if not isinstance(total, Tensor) or total.numel() != 1:
        found = f"a tensor of shape {tuple(total.shape)}" if isinstance(total, Tensor) else type(total).__name__
        raise WrongForm(f"loss must return a scalar tensor, not yet called backward on, or LossParts, got {found}")
    return total


def _check_batch(batch: Sequence[Tensor]) -> None:
    if not isinstance(batch, Sequence) or len(batch) < 2 or not all(isinstance(part, Tensor) for part in batch[:2]):
        raise ValueError(f"batch must begin with images and labels, got {type(batch).__name__}")
    if batch[1].dtype != torch.int64 or batch[1].dim() != 1 or len(batch[0]) != len(batch[1]):
        raise ValueError(
            f"labels must be int64, one for each image, got {batch[1].dtype} of shape {tuple(batch[1].shape)}"
        )
    if len(batch[1]) < 16:
        raise ValueError(f"batch must hold at least 16 examples to tell anything, got {len(batch[1])}")
