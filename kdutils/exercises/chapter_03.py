"""Chapter 3: the KL loss, its factor T², its direction, its limit."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .answers import compare


def logits(*shape: int, seed: int = 0, size: float = 2.0) -> Tensor:
    """Made-up logits, float64."""
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft_loss(answer: object) -> str | None:
    """3.1: T² · KL(teacher ‖ student), the mean over the examples."""

    def pair(s: Tensor, t: Tensor, T: float) -> tuple[Tensor, Tensor]:
        return (s / T).log_softmax(-1), (t / T).log_softmax(-1)

    def kl(log_q: Tensor, log_p: Tensor) -> Tensor:
        return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    def right(s: Tensor, t: Tensor, T: float) -> Tensor:
        return T**2 * kl(*pair(s, t, T))

    def of(change):  # a mistake in T²·KL, written as a function of log Q, log P and the rest
        return lambda s, t, T: T**2 * change(*pair(s, t, T), s, t, T)

    wrong = {
        "The value is T² times too small. The gradient falls as 1/T², equation (3.15): what has to stand in front?": (
            lambda s, t, T: kl(*pair(s, t, T))
        ),
        'The value is C times too small: the default reduction, "mean", also divides by the number of classes. '
        "Which reduction divides by the number of examples alone?": of(lambda q, p, s, t, T: kl(q, p) / q.shape[-1]),
        "The value is C · T² times too small: two things are missing. Look at the reduction (trap 4), and at what "
        "stands in front of KL (section 4).": lambda s, t, T: kl(*pair(s, t, T)) / s.shape[-1],
        "This is the sum over the examples, N times too large. With it the loss would depend on the batch size: "
        "which reduction gives the mean over the examples?": of(lambda q, p, s, t, T: kl(q, p) * len(q)),
        "This is KL(Q ‖ P), the reverse direction. PyTorch takes the network's output first: who is the network "
        "that learns (trap 1)?": of(lambda q, p, s, t, T: kl(p, q)),
        "The loss is nan. Usually the target is then a log-probability that `kl_div` took for a probability: a flag "
        "tells it (trap 2).": of(lambda q, p, s, t, T: F.kl_div(q, p, reduction="batchmean")),
        "The first argument of `kl_div` is a logarithm, always. You gave it the student's probabilities (trap 2).": of(
            lambda q, p, s, t, T: F.kl_div(q.exp(), p.exp(), reduction="batchmean")
        ),
        "The student's raw logits went into `kl_div`. It expects log-probabilities: which function makes them from "
        "logits?": of(lambda q, p, s, t, T: F.kl_div(s / T, p.exp(), reduction="batchmean")),
        "Only the teacher is softened; the student is at T = 1. It would learn the teacher's logits divided by T: "
        "soften both alike.": of(lambda q, p, s, t, T: kl(s.log_softmax(-1), p)),
        "Only the student is softened; the teacher is at T = 1. It would learn T times the teacher's logits: soften "
        "both alike.": of(lambda q, p, s, t, T: kl(q, t.log_softmax(-1))),
        "This is the cross-entropy, H(P) too large, equation (3.4). Its gradient is right, but the loss is not zero "
        "for a student that equals its teacher.": of(lambda q, p, s, t, T: -(p.exp() * q).sum(-1).mean()),
        "The softmax runs over the batch: its rows do not add up to 1. Which dimension holds the classes?": (
            lambda s, t, T: T**2 * kl((s / T).log_softmax(0), (t / T).log_softmax(0))
        ),
        "The logits are multiplied by T. That makes the answers harder; to soften them, divide.": (
            lambda s, t, T: right(s * T * T, t * T * T, T)
        ),
        "The loss is divided by T² instead of multiplied. The gradient already falls as 1/T²; which factor undoes "
        "that?": lambda s, t, T: kl(*pair(s, t, T)) / T**2,
        "The factor is T where it should be T². Softening costs one 1/T by the chain rule; where does the second one "
        "come from, in section 4?": lambda s, t, T: T * kl(*pair(s, t, T)),
    }
    cases = [
        (logits(5, 4), logits(5, 4, seed=1), 3.0),
        (logits(1, 7, seed=2), logits(1, 7, seed=3), 1.5),
        (logits(3, 10, seed=4, size=8.0), logits(3, 10, seed=5, size=8.0), 20.0),
    ]
    hint = compare(answer, cases, right, wrong)
    if hint is not None:
        return hint
    far = torch.tensor([[0.0, 900.0, -900.0]], dtype=torch.float64)
    underflow = (
        "This is right for moderate logits, but not where a probability underflows to 0 and its logarithm becomes "
        "−∞ (trap 3). Is there a function that gives log-probabilities in one step?"
    )
    return underflow if compare(answer, [(far, -far, 1.0)], right, {}) else None


def weights_for_mean(answer: object) -> str | None:
    """3.2: the weight in force under "mean", and the weight to write."""

    def right(w: float, C: int) -> tuple[float, float]:
        return w / (w + (1 - w) * C), w * C / (w * C + 1 - w)

    wrong = {
        "You divided w by C and kept 1 − w as it is: that is the factor of KL, not yet a weight. As in (3.17), a "
        "weight is a share: divide by the sum of both factors.": lambda w, C: (w / C, w * C),
        "The two are swapped: the first number is the weight in force, and it is smaller than w, because the soft "
        "term is too quiet.": lambda w, C: right(w, C)[::-1],
        "You divided the hard term by C too. The reduction of `kl_div` touches the soft term only, so the balance "
        "must change.": lambda w, C: (w, w),
        "The first number is right. The second repeats it: now the other way round, which written weight is made "
        "into w by the division?": lambda w, C: (right(w, C)[0],) * 2,
        "The first number is right. For the second, check that a weight stays below 1: put it for w into your first "
        "formula, and w must come out.": lambda w, C: (right(w, C)[0], w * C),
        'C appears squared. T² has a square because of (3.15); "mean" divides by C once.': (
            lambda w, C: (w / (w + (1 - w) * C**2), w * C**2 / (w * C**2 + 1 - w))
        ),
    }
    return compare(answer, [(0.7, 20), (0.5, 10), (0.9, 100)], right, wrong)


def when_used(answer: object) -> str | None:
    """3.3: probabilities at T = 1 of a student that was softened at another temperature than its teacher."""

    def right(t: Tensor, T_teacher: float, T_student: float) -> Tensor:
        return (t * T_student / T_teacher).softmax(-1)

    wrong = {
        "That is the answer for a student at T = 1. In general KL is zero where softmax(s / T_student) equals "
        "softmax(t / T_teacher): solve that for s, then use s at T = 1.": lambda t, a, b: (t / a).softmax(-1),
        "The ratio of the temperatures is upside down. A teacher softened at a high temperature looks unsure; must "
        "the student's logits then be larger or smaller than the teacher's?": lambda t, a, b: (t * a / b).softmax(-1),
        "Those are the teacher's own probabilities, as if both had been softened alike. Set the two softened answers "
        "equal, each at its own temperature.": lambda t, a, b: t.softmax(-1),
        "These are the student's logits, and their scale is right. Asked for are the probabilities that it gives.": (
            lambda t, a, b: t * b / a
        ),
        "You divided by T_student. In the loss it stands below s; on which side does it come to stand when you solve "
        "for s?": lambda t, a, b: (t / a / b).softmax(-1),
    }
    cases = [(logits(6), 4.0, 2.5), (logits(10, seed=1), 4.0, 1.0), (logits(3, seed=2), 1.0, 5.0)]
    return compare(answer, cases, right, wrong)


def push_on_difference(answer: object) -> str | None:
    """3.4: the gradient of KL for d = s_1 − s_0, two classes, T = 1."""

    def right(d: float, P_1: float) -> float:
        return float(torch.tensor(d, dtype=torch.float64).sigmoid()) - P_1

    wrong = {
        "The sign is wrong. A student that gives class 1 too much must be pushed down, so its gradient must be "
        "positive: descent subtracts it.": lambda d, P_1: -right(d, P_1),
        "This is twice the gradient: you added the pushes on both logits. Put s = (0, d); which of the two contains "
        "d?": lambda d, P_1: 2 * right(d, P_1),
        "There is a factor Q₁·(1 − Q₁) too many. It belongs to the squared error of probabilities; in KL the "
        "logarithm cancels it.": lambda d, P_1: right(d, P_1) * (right(d, P_1) + P_1) * (1 - P_1 - right(d, P_1)),
        "Q₁ has the wrong sign of d: that is the probability of class 0. Write Q₁ with d = s_1 − s_0.": (
            lambda d, P_1: right(-d, P_1)
        ),
        "d itself is a difference of logits, not a probability. What is Q₁, written with d?": lambda d, P_1: d - P_1,
        "The gradients for s_0 and s_1 add up to zero, as softmax sees no constant. But d is not their sum.": (
            lambda d, P_1: 0.0
        ),
    }
    return compare(answer, [(0.7, 0.8), (-2.0, 0.1), (0.0, 0.5), (1.5, 0.3)], right, wrong)


def reverse_gradient(answer: object) -> str | None:
    """3.5: the gradient of KL(Q ‖ P) for the student's logits."""

    def parts(s: Tensor, t: Tensor, T: float) -> tuple[Tensor, Tensor, Tensor]:
        Q, P = (s / T).softmax(-1), (t / T).softmax(-1)
        return Q, P, (Q / P).log()

    def kl(Q: Tensor, R: Tensor) -> Tensor:
        return (Q * R).sum(-1, keepdim=True)

    def right(s: Tensor, t: Tensor, T: float) -> Tensor:
        Q, _, R = parts(s, t, T)
        return Q / T * (R - kl(Q, R))

    def of(change):
        return lambda s, t, T: change(*parts(s, t, T), T)

    wrong = {
        "This is the gradient of the forward direction, (3.11). In KL(Q ‖ P) the weights of the sum are Q, and they "
        "depend on s too.": of(lambda Q, P, R, T: (Q - P) / T),
        "The factor 1/T is missing: by (3.10) each derivative of Q brings one.": of(
            lambda Q, P, R, T: Q * (R - kl(Q, R))
        ),
        "The term with KL(Q ‖ P) is missing: it comes from the −Q_i in (3.10). Without it the gradient does not add "
        "up to zero.": of(lambda Q, P, R, T: Q * R / T),
        "The factor Q_i is missing in front: by (3.10) the derivative of Q_k is Q_k times that of log Q_k.": of(
            lambda Q, P, R, T: (R - kl(Q, R)) / T
        ),
        "The sign is wrong: where the student says too much, Q_i > P_i, the gradient is to be positive.": of(
            lambda Q, P, R, T: -Q / T * (R - kl(Q, R))
        ),
        "You added KL(Q ‖ P) where it should be subtracted: look at the sign of Q_i in (3.10).": of(
            lambda Q, P, R, T: Q / T * (R + kl(Q, R))
        ),
        "There is a factor T too many: this is T² times the gradient. The exercise asks for plain KL.": (
            lambda s, t, T: T**2 * right(s, t, T)
        ),
    }
    cases = [
        (logits(5, 4), logits(5, 4, seed=1), 2.5),
        (logits(1, 10, seed=2), logits(1, 10, seed=3), 1.0),
        (logits(3, 7, seed=4), logits(3, 7, seed=5), 8.0),
    ]
    return compare(answer, cases, right, wrong)


def limit_loss(answer: object) -> str | None:
    """3.6: what T² · KL becomes at an infinite temperature, for logits of any mean."""

    def difference(s: Tensor, t: Tensor) -> Tensor:
        return s - t - (s - t).mean(-1, keepdim=True)

    def half_square(d: Tensor) -> Tensor:
        return d.square().sum(-1) / 2

    def right(s: Tensor, t: Tensor) -> Tensor:
        return half_square(difference(s, t)).mean() / s.shape[-1]

    wrong = {
        "This changes when a constant is added to all logits of the student, and KL does not: (3.18) holds for logits "
        "with mean zero in each example.": lambda s, t: half_square(s - t).mean() / s.shape[-1],
        "This is the mean squared difference of the logits. Two things are missing: the mean zero that (3.18) asks "
        "for, and a factor.": lambda s, t: (s - t).square().mean(),
        "The value is twice too large: its gradient would be 2 (s − t)/C. Which factor makes it (s − t)/C?": (
            lambda s, t: 2 * right(s, t)
        ),
        "The value is C times too large: the gradient at a high temperature is (s − t)/C, equation (3.18).": (
            lambda s, t: right(s, t) * s.shape[-1]
        ),
        "This is the sum over the examples, N times too large. Asked for is their mean.": lambda s, t: (
            right(s, t) * len(s)
        ),
        "The mean over the batch is subtracted. A softmax does not see a constant within one example: along which "
        "dimension do its classes lie?": (
            lambda s, t: half_square(s - t - (s - t).mean(0, keepdim=True)).mean() / s.shape[-1]
        ),
        "This is the gradient, one number for each logit. Asked for is the loss that has it: one number.": (
            lambda s, t: difference(s, t) / s.shape[-1]
        ),
    }
    cases = [(logits(n, c, seed=seed) + 1.5, logits(n, c, seed=seed + 1)) for n, c, seed in ((5, 4, 0), (3, 10, 2))]
    return compare(answer, cases, right, wrong)


EXERCISES = (soft_loss, weights_for_mean, when_used, push_on_difference, reverse_gradient, limit_loss)
