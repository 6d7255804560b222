"""Chapter 4: the whole loss, pairs of seeds, and how many of them."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from .answers import as_numbers, call, compare
from .intervals import around, t_interval, wrong_intervals


def paired_gain(answer: object) -> str | None:
    """4.1: the mean of the differences with its interval."""

    def differences(labels: list[float], other: list[float]) -> np.ndarray:
        return np.subtract(labels, other)

    def right(labels: list[float], other: list[float]) -> tuple:
        return t_interval(differences(labels, other))

    def unpaired(labels: list[float], other: list[float]) -> tuple:
        interval = stats.ttest_ind(labels, other).confidence_interval()
        return np.mean(labels) - np.mean(other), *interval

    def added(labels: list[float], other: list[float]) -> tuple:
        n = len(labels)
        error = np.sqrt((np.var(labels, ddof=1) + np.var(other, ddof=1)) / n)
        return around(np.mean(labels) - np.mean(other), stats.t.ppf(0.975, n - 1) * error)

    def ends(labels: list[float], other: list[float]) -> tuple:
        a, b = t_interval(np.array(labels)), t_interval(np.array(other))
        return a[0] - b[0], a[1] - b[2], a[2] - b[1]

    one_group = (
        "The interval treats the two lists as unrelated groups. They are pairs of one seed each: take the difference "
        "in every pair first."
    )
    wrong = {
        "The sign is turned round: labels minus the other, so that errors removed count as a gain.": (
            lambda labels, other: right(other, labels)
        ),
        one_group: unpaired,
        "You added the variances of the two lists, as for unrelated groups. In a pair the luck that both share drops "
        "out: take the differences first.": added,
        "You subtracted the ends of two intervals. What scatters is the difference: compute it seed by seed, and one "
        "interval of it.": ends,
        "This is a share of the errors. The gain is asked for in errors.": lambda labels, other: tuple(
            value / np.mean(labels) for value in right(labels, other)
        ),
    } | wrong_intervals(differences)
    cases = [
        ([151.0, 163.0, 140.0, 158.0], [120.0, 137.0, 118.0, 123.0]),
        ([10.0, 12.0], [11.0, 10.0]),
        ([50.0, 53.0, 49.0, 61.0, 55.0], [52.0, 50.0, 51.0, 60.0, 57.0]),
    ]
    return compare(answer, cases, right, wrong)


def changed_by(answer: object) -> str | None:
    """4.2: whether a step changed any parameter of a network."""

    def right(model: nn.Module, step: Callable[[], None]) -> bool:
        """For :func:`call` alone, which reads its signature."""
        raise NotImplementedError

    def nothing(model: nn.Module) -> None:
        pass

    def one(model: nn.Module) -> None:
        with torch.no_grad():
            model[-1].bias[1] += 1e-3

    def everything(model: nn.Module) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1

    def balanced(model: nn.Module) -> None:
        with torch.no_grad():
            model[0].weight[0, 0] += 0.5
            model[0].weight[0, 1] -= 0.5

    hints = {
        everything: "You say that nothing changed after a step that changed every parameter. An optimizer writes into "
        "the same tensors: if `before` holds those tensors and not copies, it changes along.",
        nothing: "You say that something changed after a step that did nothing. Compare each tensor with its own copy, "
        "entry by entry.",
        one: "One entry of the last layer's bias changed, and you say that nothing did. A network has changed if *any* "
        "of its parameters has, and a small step counts too.",
        balanced: "Two weights changed and their sum stayed the same; you say that nothing changed. A sum or a norm "
        "can miss a change: compare the entries.",
    }
    for change, hint in hints.items():
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
        taken = []

        def step(change=change, model=model, taken=taken) -> None:
            change(model)
            taken.append(True)

        found = as_numbers(call(answer, right, (model, step)))
        if found.dim():
            return f"One answer is asked for, True or False; yours has shape {tuple(found.shape)}."
        if not taken:
            return "Your function never called step(). Copy the parameters, call it, then compare."
        if bool(found) != (change is not nothing):
            return hint
    return None


def seeds_needed(answer: object) -> str | None:
    """4.3: how many pairs give an interval that leaves zero out."""

    def smallest(quantile: Callable[[int], float]) -> Callable[[float, float], int]:
        return lambda s, gain: next(n for n in range(2, 100_000) if quantile(n) * s / np.sqrt(n) < gain)

    def right(s: float, gain: float) -> int:
        return smallest(lambda n: stats.t.ppf(0.975, n - 1))(s, gain)

    wrong = {
        "Too few: 1.96 belongs to a spread that is known. With few seeds Student's t is larger, and it depends on n: "
        "try n = 2, 3, 4 … until the half-width is small enough.": smallest(lambda n: 1.96),
        "Too few: that takes 2 for the quantile at every n. For few seeds Student's t is much larger.": smallest(
            lambda n: 2.0
        ),
        "The quantile is that of 0.95. An interval of 95 % leaves 2.5 % outside on each side.": smallest(
            lambda n: stats.t.ppf(0.95, n - 1)
        ),
        "You compare the whole width of the interval with the gain. Zero is left out as soon as *half* of the width is "
        "smaller.": smallest(lambda n: 2 * stats.t.ppf(0.975, n - 1)),
        "The half-width falls with √n, and not with n: ten times the seeds give an interval about three times "
        "narrower.": lambda s, gain: next(n for n in range(2, 10**5) if stats.t.ppf(0.975, n - 1) * s / n < gain),
        "One too few: at your n the half-width is still larger than the gain. Student's t has n − 1 degrees of "
        "freedom; is that what you looked up?": lambda s, gain: right(s, gain) - 1,
        "One too many: the smallest n is asked for.": lambda s, gain: right(s, gain) + 1,
    }
    return compare(answer, [(10.0, 6.0), (12.0, 20.0), (7.0, 2.0), (3.0, 5.0)], right, wrong)


def mixed_loss(answer: object) -> str | None:
    """4.4: w · T² · KL + (1 − w) · cross-entropy with the labels."""

    def kl(s: Tensor, t: Tensor, T: float) -> Tensor:
        return F.kl_div((s / T).log_softmax(-1), (t / T).log_softmax(-1), reduction="batchmean", log_target=True)

    def with_terms(
        soft: Callable[[Tensor, Tensor, float], Tensor], hard: Callable[[Tensor, Tensor, float], Tensor]
    ) -> Callable[..., Tensor]:
        return lambda s, t, y, T, w: w * soft(s, t, T) + (1 - w) * hard(s, y, T)

    def soft(s: Tensor, t: Tensor, T: float) -> Tensor:
        return T**2 * kl(s, t, T)

    def hard(s: Tensor, y: Tensor, T: float) -> Tensor:
        return F.cross_entropy(s, y)

    def right(s: Tensor, t: Tensor, y: Tensor, T: float, w: float) -> Tensor:
        return with_terms(soft, hard)(s, t, y, T, w)

    wrong = {
        "T² is missing. Without it the soft term fades as T grows, and the labels take over.": with_terms(kl, hard),
        "T² stands in front of both terms. Only the soft term fades with T: the hard one is at T = 1.": with_terms(
            soft, lambda s, y, T: T**2 * hard(s, y, T)
        ),
        "T² stands in front of the hard term. Which of the two fades as T grows?": with_terms(
            kl, lambda s, y, T: T**2 * hard(s, y, T)
        ),
        "The weights have changed places: w belongs to the soft term.": lambda s, t, y, T, w: right(s, t, y, T, 1 - w),
        "The hard term is softened too. Labels are compared with the answer that the student gives in use: at which "
        "T?": with_terms(soft, lambda s, y, T: F.cross_entropy(s / T, y)),
        "The two networks have changed places in the soft term: there the student's logarithms come first.": (
            with_terms(lambda s, t, T: soft(t, s, T), hard)
        ),
        "The hard term is the teacher's cross-entropy, which no step of the student changes.": lambda s, t, y, T, w: (
            w * soft(s, t, T) + (1 - w) * F.cross_entropy(t, y)
        ),
        'The soft term is C times too small: reduction "mean" divides by the number of classes, too.': with_terms(
            lambda s, t, T: soft(s, t, T) / s.shape[-1], hard
        ),
        "The soft term is a sum over the batch, the hard term a mean. With another batch size their balance would "
        "change.": with_terms(lambda s, t, T: soft(s, t, T) * len(s), hard),
        "Both terms are there, but the hard one has weight 1. The weights should be w and 1 − w.": (
            lambda s, t, y, T, w: w * soft(s, t, T) + hard(s, y, T)
        ),
        "`cross_entropy` was given probabilities. It takes the softmax itself: pass the logits.": with_terms(
            soft, lambda s, y, T: F.cross_entropy(s.softmax(-1), y)
        ),
    }
    generator = torch.Generator().manual_seed(0)

    def cases() -> Iterator[tuple]:
        for n, C, T, w in ((6, 5, 3.0, 0.7), (1, 10, 8.0, 0.2), (4, 3, 1.0, 0.5), (2, 4, 2.0, 1.0), (2, 4, 2.0, 0.0)):
            s, t = 3 * torch.randn(2, n, C, generator=generator, dtype=torch.float64)
            yield s, t, torch.randint(C, (n,), generator=generator), T, w

    return compare(answer, list(cases()), right, wrong)


EXERCISES = (paired_gain, changed_by, seeds_needed, mixed_loss)
