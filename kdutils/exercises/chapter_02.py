"""Chapter 2: soft targets and temperature."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .answers import compare, number_list


def ratios(answer: object) -> str | None:
    """2.1: the ratio at T = 2, 4 and 8, and the temperature at which it is 3."""
    *found, T = number_list(answer, 4)

    def all_near(expected: list[float]) -> bool:
        return all(abs(x - y) <= 0.02 * y for x, y in zip(found, expected, strict=True))

    if all_near([5000, 2500, 1250]):
        return (
            "You divided the ratio by T. What is divided by T are the logits, and those stand in the exponent: what "
            "does (2.2) do to the ratio?"
        )
    if all_near([2500, 625, 10_000 / 64]):
        return "You divided the ratio by T². T² belongs to the loss; for the ratio of two probabilities look at (2.2)."
    if all_near([math.log(10_000) / k for k in (2, 4, 8)]):
        return "These are the differences of the logits, divided by T. The exponential of each is the ratio."
    if all_near([1e8, 1e16, 1e32]):
        return "You raised the ratio to the power T, and it grew. A higher temperature makes ratios smaller: see (2.2)."
    for x, expected, at in zip(found, (100, 10, 10**0.5), (2, 4, 8), strict=True):
        if abs(x - expected) > 0.02 * expected:
            return f"At T = {at} the ratio is not {x:g}. By (2.2) it is the T-th root of ten thousand."
    if abs(T - math.log(10_000) / math.log(3)) <= 0.1:
        return None
    if abs(T - 10_000 / 3) < 10:
        return "The three ratios are right. For the last number, solve 10000^(1/T) = 3, which is no division by 3."
    if abs(T - math.log(10_000) / 3) < 0.1:
        return "The three ratios are right. In the last one, both sides need a logarithm: 3 became log 3."
    return (
        "The three ratios are right. The last number is the temperature at which 10000^(1/T) is 3; at yours it is "
        f"{10_000 ** (1 / T) if T > 0.1 else math.inf:.3g}."
    )


def temperature_of(z: Tensor, entropy: float) -> float:
    """The temperature at which the soft target of z has this entropy."""
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        if torch.special.entr((z / middle).softmax(-1)).sum() < entropy:
            low = middle
        else:
            high = middle
    return middle


def half_way(answer: object) -> str | None:
    """2.2: the temperature at which the entropy is half of the largest possible."""

    def right(z: Tensor) -> float:
        return temperature_of(z, math.log(len(z)) / 2)

    wrong = {
        "The search has run to its high end. Entropy rises with T: where there is too little of it, which half is to "
        "be kept? And is the entropy that you look for, half of log C, within reach?": lambda z: 1000.0,
        "Right for ten classes, but here z has another number: the largest entropy is log C, not always log 10.": (
            lambda z: temperature_of(z, min(math.log(10) / 2, math.log(len(z)) - 1e-6))
        ),
        "This is 1/T. A temperature divides the logits; it does not multiply them.": lambda z: 1 / right(z),
        "Here exp(H) is C/2, as if half of the classes were left. Half of the entropy is wanted: H = log(C)/2.": (
            lambda z: temperature_of(z, math.log(len(z) / 2))
        ),
        "Entropy and its largest value are in different units: with the natural logarithm in one of them, it has to be "
        "in the other too.": lambda z: temperature_of(z, math.log(len(z)) / 2 * math.log(2)),
        "The largest *probability* is one half there. Look for the temperature at which the entropy (2.3) is half of "
        "log C.": probability_half,
    }
    generator = torch.Generator().manual_seed(0)
    cases = [
        (size * torch.randn(n, generator=generator, dtype=torch.float64),) for n, size in ((10, 5), (4, 3), (30, 8))
    ]
    return compare(answer, cases, right, wrong)


def probability_half(z: Tensor) -> float:
    """The temperature at which the largest probability is one half; the end of the search where there is none."""
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        if (z / middle).softmax(-1).max() > 0.5:
            low = middle
        else:
            high = middle
    return middle


def smooth_labels(answer: object) -> str | None:
    """2.3: label smoothing."""

    def mixed(share_of_label: Callable, share_of_each: Callable) -> Callable[..., Tensor]:
        def targets(labels: Tensor, share: float, C: int) -> Tensor:
            hard = F.one_hot(labels, C).double()
            return share_of_label(share, C) * hard + share_of_each(share, C) * torch.ones(C, dtype=torch.float64)

        return targets

    right = mixed(lambda e, C: 1 - e, lambda e, C: e / C)
    wrong = {
        "You spread the share over the C − 1 other classes. Here it is spread over all C: the label gets its part "
        "back. (Both forms exist; their ε mean different things.)": mixed(
            lambda e, C: 1 - e - e / (C - 1), lambda e, C: e / (C - 1)
        ),
        "The rows add up to more than 1. What the other classes get has to be taken from the label first.": mixed(
            lambda e, C: 1.0, lambda e, C: e / C
        ),
        "The rows add up to less than 1: the label is one of the classes over which ε is spread, so it gets its part "
        "too.": mixed(lambda e, C: 1 - e - e / C, lambda e, C: e / C),
        "Each class gets all of ε. It is to be shared by C classes.": mixed(lambda e, C: 1 - e, lambda e, C: e),
        "ε and 1 − ε have changed places: ε is the share that is taken away from the label.": mixed(
            lambda e, C: e, lambda e, C: (1 - e) / C
        ),
        "These are logarithms. Return the probabilities; the logarithm comes when they are used as logits.": (
            lambda labels, share, C: right(labels, share, C).log()
        ),
    }
    cases = [
        (torch.tensor([2, 0, 3, 1]), 0.3, 4),
        (torch.tensor([9]), 0.1, 10),
        (torch.tensor([1, 0, 1]), 0.5, 2),
    ]
    return compare(answer, cases, right, wrong)


def class_targets(answer: object) -> str | None:
    """2.4: for each image the mean soft target of its class."""

    def by(groups: Tensor, rows: Tensor) -> Tensor:
        return torch.stack([rows[groups == group].mean(dim=0) for group in groups])

    def right(z: Tensor, labels: Tensor, T: float) -> Tensor:
        return by(labels, (z / T).softmax(-1))

    wrong = {
        "You averaged the logits and softened the mean. The mean of soft targets is something else, because the "
        "exponential lies in between: soften first.": lambda z, labels, T: (by(labels, z) / T).softmax(-1),
        "The temperature is missing: these are means at T = 1.": lambda z, labels, T: by(labels, z.softmax(-1)),
        "This is one row for each class. A student needs one for each image: pick the row by the image's label.": (
            lambda z, labels, T: torch.stack([(z / T).softmax(-1)[labels == c].mean(dim=0) for c in labels.unique()])
        ),
        "Every image has the same target, the mean over all. Average each class by itself.": (
            lambda z, labels, T: (z / T).softmax(-1).mean(dim=0).expand(z.shape)
        ),
        "These are the images' own soft targets. What they say about the single image is to be averaged away.": (
            lambda z, labels, T: (z / T).softmax(-1)
        ),
        "You grouped the images by the class that the teacher names. It may err; the class is given by the label.": (
            lambda z, labels, T: by(z.argmax(-1), (z / T).softmax(-1))
        ),
        "These are logits of the class means. Return the soft targets.": lambda z, labels, T: (
            T * right(z, labels, T).log()
        ),
    }
    generator = torch.Generator().manual_seed(0)

    def case(labels: list[int], C: int, T: float) -> tuple:
        return 3 * torch.randn(len(labels), C, generator=generator, dtype=torch.float64), torch.tensor(labels), T

    cases = [case([0, 2, 1, 1, 0, 2, 2], 3, 2.5), case([1, 1, 0, 4, 2, 3], 5, 8.0), case([0], 10, 1.5)]
    return compare(answer, cases, right, wrong)


def soften_probabilities(answer: object) -> str | None:
    """2.5: a soft target at T, from the probabilities at T = 1."""

    def right(q: Tensor, T: float) -> Tensor:
        root = q ** (1 / T)
        return root / root.sum(-1, keepdim=True)

    wrong = {
        "You took the probabilities for logits: a softmax of a softmax is nearly flat, whatever the teacher said. "
        "Which numbers are logits of q?": lambda q, T: (q / T).softmax(-1),
        "The ratios are right, but the rows do not add up to 1: divide by the sum, as (2.1) does.": (
            lambda q, T: q ** (1 / T)
        ),
        "Dividing all probabilities by T changes no ratio, and after normalising nothing has changed. (2.2) asks for "
        "roots.": lambda q, T: q,
        "This is q divided by T: its rows add up to 1/T. (2.2) asks for the T-th root of every ratio.": lambda q, T: (
            q / T
        ),
        "That made the target harder: you took the T-th power, or multiplied the logarithm by T.": lambda q, T: (
            q**T / (q**T).sum(-1, keepdim=True)
        ),
        "These are logits, divided by T. A softmax is still to be taken.": lambda q, T: q.log() / T,
        "The sum runs over the images. Every row is a distribution of its own: which dimension holds the classes?": (
            lambda q, T: q ** (1 / T) / (q ** (1 / T)).sum(0, keepdim=True)
        ),
    }
    generator = torch.Generator().manual_seed(0)

    def case(n: int, C: int, T: float) -> tuple[Tensor, float]:
        return (3 * torch.randn(n, C, generator=generator, dtype=torch.float64)).softmax(-1), T

    hint = compare(answer, [case(5, 4, 2.5), case(1, 10, 8.0), case(3, 2, 0.5)], right, wrong)
    if hint is not None:
        return hint
    rounded = torch.tensor([[0.75, 0.25, 0.0]], dtype=torch.float64)
    return (
        "Only one case is left: where a probability is exactly 0. No root brings it back, so it has to stay 0. If you "
        "added a small ε, look what the T-th root makes of it."
        if compare(answer, [(rounded, 20.0)], right, {})
        else None
    )


EXERCISES = (ratios, half_way, smooth_labels, class_targets, soften_probabilities)
