"""Chapter 7: comparisons that prove something, and how many seeds they need."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from .answers import as_numbers, call, choose, compare


def seeds_to_show(answer: object) -> str | None:
    """7.1: the smallest n that satisfies (7.1)."""

    def smallest(quantiles: Callable[[int], float]) -> Callable[[float, float], int]:
        return lambda s, gain: next(n for n in range(2, 100_000) if gain >= quantiles(n) * s / np.sqrt(n))

    def t(q: float, n: int) -> float:
        return stats.t.ppf(q, n - 1)

    def right(s: float, gain: float) -> int:
        return smallest(lambda n: t(0.975, n) + t(0.8, n))(s, gain)

    wrong = {
        "That is exercise 4.3: with so few seeds the interval leaves zero out in only half of all studies, since the "
        "measured mean scatters. Which second term does (7.1) have?": smallest(lambda n: t(0.975, n)),
        "You used quantiles of the normal distribution. s is measured on n values; (7.1) has Student's t, and with few "
        "seeds it is much larger.": smallest(lambda n: stats.norm.ppf(0.975) + stats.norm.ppf(0.8)),
        "You added 0.8 itself. The second term of (7.1) is the *quantile* of 0.8, of Student's distribution.": smallest(
            lambda n: t(0.975, n) + 0.8
        ),
        "The second quantile is that of 0.9. The luck to be safe from is on one side: 80 % of the studies are to "
        "succeed.": smallest(lambda n: t(0.975, n) + t(0.9, n)),
        "The first quantile is that of 0.95. An interval of 95 % leaves 2.5 % outside on each side.": smallest(
            lambda n: t(0.95, n) + t(0.8, n)
        ),
        "There is a √2 too many. s is already the spread of the *differences*; the formula for two unrelated groups "
        "does not apply to pairs.": smallest(lambda n: np.sqrt(2) * (t(0.975, n) + t(0.8, n))),
        "You divided by n where (7.1) has √n: four times the seeds only halve what can be shown.": lambda s, gain: next(
            n for n in range(2, 10**5) if gain >= (t(0.975, n) + t(0.8, n)) * s / n
        ),
        "One too few: at your n the right side of (7.1) is still larger than the gain. Are there n − 1 degrees of "
        "freedom in both quantiles?": lambda s, gain: right(s, gain) - 1,
        "One too many: the smallest n is asked for.": lambda s, gain: right(s, gain) + 1,
    }
    return compare(answer, [(10.0, 2.5), (12.0, 30.0), (7.0, 3.5), (9.0, 9.0)], right, wrong)


def rows_of_your_case(answer: object) -> str | None:
    """7.2: which rows speak about a thousand labels, many images, no teacher."""
    return choose(
        answer,
        "d",
        {
            "a": "That teacher saw 50,000 labels. You have none like it, and a thousand labels to make one from.",
            "b": "Close: such a teacher you can train. But in these rows it answers for the thousand labelled images "
            "only. What could it do with your other images?",
            "c": "There the student sees a thousand images, and the others lie idle. Who could give them targets?",
        },
    )


def class_logits(answer: object) -> str | None:
    """7.3: for each class the logits whose soft target at T is the class's mean soft target."""

    def of_classes(rows: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([rows[labels == c].mean(dim=0) for c in range(rows.shape[1])])

    def soft(z: Tensor, labels: Tensor, T: float) -> Tensor:
        return of_classes((z / T).softmax(-1), labels)

    def right(logits: Tensor, labels: Tensor, T: float) -> Tensor:
        return soft(logits, labels, T).log() * T

    def softened(logits: Tensor, labels: Tensor, T: float) -> Tensor:
        """What is compared: a constant added to a row of logits changes no soft target."""
        found = as_numbers(call(answer, right, (logits.clone(), labels.clone(), T)))
        given = found if found.shape == (logits.shape[1],) * 2 else torch.zeros(0)
        return (given / T).softmax(-1) if given.numel() else found

    hints = {
        "You averaged logits. Average the probabilities: the exponential lies between the two, and the means differ.": (
            lambda z, labels, T: of_classes(z, labels)
        ),
        "These are the mean soft targets themselves. `kd_loss` wants logits, and would take a softmax of them once "
        "more: which function undoes a softmax?": soft,
        "The logarithm is there, but softened at T these logits are T times too flat: by what must they be "
        "multiplied?": lambda z, labels, T: soft(z, labels, T).log(),
        "You averaged at T = 1. Soften first: the student is taught at T.": lambda z, labels, T: (
            T * of_classes(z.softmax(-1), labels).log()
        ),
        "You averaged at T = 1, and did not allow for T afterwards: both the means and the logits belong to T.": (
            lambda z, labels, T: of_classes(z.softmax(-1), labels).log()
        ),
        "You grouped by the class that the teacher names. The control groups the images by their label.": (
            lambda z, labels, T: (
                T * torch.stack([(z / T).softmax(-1)[z.argmax(-1) == c].mean(dim=0) for c in range(z.shape[1])]).log()
            )
        ),
    }

    def at_T(change: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda logits, labels, T: (change(logits, labels, T) / T).softmax(-1)

    generator = torch.Generator().manual_seed(0)
    cases = []
    for labels, T in (([0, 2, 1, 1, 0, 2, 2, 1], 3.0), ([1, 0, 0, 1, 1], 8.0)):
        of = torch.tensor(labels)
        cases.append((3 * torch.randn(len(labels), int(of.max()) + 1, generator=generator, dtype=torch.float64), of, T))
    if not callable(answer):
        return compare(answer, cases, right, {})
    return compare(softened, cases, at_T(right), {hint: at_T(mistake) for hint, mistake in hints.items()})


def shuffle_within_class(answer: object) -> str | None:
    """7.4: a permutation that gives each image the place of another image of its class."""

    def right(labels: Tensor, seed: int) -> Tensor:
        """For :func:`call` alone, which reads its signature."""
        raise NotImplementedError

    def ask(seed: int) -> Tensor:
        return as_numbers(call(answer, right, (labels.clone(), seed)))

    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0, 1, 2, 2, 0, 1, 2, 0, 0, 1, 2, 1] * 3)
    places = torch.arange(len(labels))
    index = ask(0)
    if index.shape != labels.shape:
        return f"One place for each of the {len(labels)} images is asked for; yours is of shape {tuple(index.shape)}."
    if not torch.equal(index, index.round()) or index.min() < 0 or index.max() >= len(labels):
        return "Places are whole numbers from 0 to N − 1: entry i says whose soft target image i is given."
    index = index.long()
    if torch.equal(index, labels):
        return "These are the labels. Return places: entry i says whose soft target image i is given."
    if not torch.equal(labels[index], labels):
        return (
            "Some images get the soft target of another class. That is the control *shuffled over all images*; here "
            "what the teacher knows about classes is to stay."
        )
    if not torch.equal(index.sort().values, places):
        return (
            "Some soft targets are dealt out twice, and others never. Each must be used once, or the targets as a "
            "whole are others than the teacher's."
        )
    if torch.equal(index, places):
        return "Every image keeps its own soft target, so nothing is taken away from what the teacher knows about it."
    if not torch.equal(ask(0), index.double()):
        return "The same seed gives another order each time. Draw from a torch.Generator that you seed with it."
    if torch.equal(ask(1), index.double()):
        return "Every seed gives the same order. Then all runs share one accident of the shuffle: use the seed."
    return None


def fair_gain(answer: object) -> str | None:
    """7.5: errors removed, with each side at its own best learning rate."""
    Rates = dict[float, float]

    def right(labels: Rates, distilled: Rates) -> float:
        return min(labels.values()) - min(distilled.values())

    def at(rate: Callable[[Rates, Rates], float]) -> Callable[[Rates, Rates], float]:
        return lambda labels, distilled: labels[rate(labels, distilled)] - distilled[rate(labels, distilled)]

    wrong = {
        "That takes the distilled student's best rate for both. The baseline was then never tuned, and the gain is "
        "flattered: let each side choose.": at(lambda labels, distilled: min(distilled, key=distilled.get)),
        "That takes the labels' best rate for both. Now it is the distilled student that was never tuned: let each "
        "side choose.": at(lambda labels, distilled: min(labels, key=labels.get)),
        "That is the largest difference at any one rate: the rate at which the baseline looks worst. Each side has a "
        "rate of its own.": lambda labels, distilled: max(labels[r] - distilled[r] for r in labels),
        "The sign is turned round: errors that distillation removes are a gain.": lambda labels, distilled: (
            -right(labels, distilled)
        ),
        "That compares means over all rates, bad ones too. Nobody uses a bad rate: take each side at its best.": (
            lambda labels, distilled: np.mean(list(labels.values())) - np.mean(list(distilled.values()))
        ),
        "Of a dictionary, min() looks at the keys, so both sides are taken at the smallest rate. Take the smallest "
        "*value*.": at(lambda labels, distilled: min(labels)),
        "That takes the baseline at its worst rate. Each side is to be taken at its best.": lambda labels, distilled: (
            max(labels.values()) - min(distilled.values())
        ),
    }
    cases = [
        ({0.02: 170.0, 0.05: 152.0, 0.1: 165.0, 0.2: 121.0}, {0.02: 118.0, 0.05: 96.0, 0.1: 103.0, 0.2: 131.0}),
        ({0.1: 80.0, 0.3: 75.0}, {0.1: 78.0, 0.3: 90.0}),
        ({0.1: 50.0}, {0.1: 40.0}),
    ]
    return compare(answer, cases, right, wrong)


EXERCISES = (seeds_to_show, rows_of_your_case, class_logits, shuffle_within_class, fair_gain)
