"""Chapter 6: reading a reproduction."""

import numpy as np
import torch
from torch import Tensor

from .answers import choose, compare


def is_the_teacher_needed(answer: object) -> str | None:
    """6.1: what the three numbers of the paper say."""
    return choose(
        answer,
        "c",
        {
            "a": "That forgets the third number of the paper's table: what did the student make without a teacher?",
            "b": "Asking the teacher at every image would leave the student nothing to do. Who answers when the "
            "student is used?",
            "d": "It is true that one run each has no interval, and that 74 and 67 may not differ. But the friend's "
            "claim is about training without the teacher: which number of the table speaks of that?",
        },
    )


def spread_of_runs(answer: object) -> str | None:
    """6.2: standard deviation of single runs, and the largest difference among them."""

    def right(errors: list[int]) -> tuple[float, float]:
        return float(np.std(errors, ddof=1)), max(errors) - min(errors)

    def wide(errors: list[int]) -> int:
        return max(errors) - min(errors)

    wrong = {
        "The standard deviation is divided by n. The runs are a sample of all that could have been: divide by n − 1 "
        "(ddof=1).": lambda errors: (np.std(errors), wide(errors)),
        "You divided by √n: that is the standard error of the mean. How far do *single* runs scatter?": (
            lambda errors: (np.std(errors, ddof=1) / np.sqrt(len(errors)), wide(errors))
        ),
        "The first is the variance. Its root is in errors again.": lambda errors: (
            np.var(errors, ddof=1),
            wide(errors),
        ),
        "The standard deviation is right. The largest difference of two runs is that of the least and the most.": (
            lambda errors: (np.std(errors, ddof=1), max(errors))
        ),
        "The standard deviation is right. You measured from the mean; two runs may lie on both sides of it.": (
            lambda errors: (np.std(errors, ddof=1), max(abs(np.array(errors) - np.mean(errors))))
        ),
        "The two numbers are in the other order: first the standard deviation.": lambda errors: right(errors)[::-1],
    }
    return compare(answer, [([150, 131, 144, 139],), ([80, 82],), ([60, 75, 66, 71, 90, 68],)], right, wrong)


def smallest_shift(answer: object) -> str | None:
    """6.3: the smallest shift of the bias at which enough of the omitted digit is right."""

    def first(enough) -> object:
        """The smallest shift whose row is good enough; −1 if there is none."""
        return lambda sweep, count, share: min(
            (shift for shift, total, wrong in sweep if enough(total, wrong, count, share)), default=-1.0
        )

    right = first(lambda total, wrong, count, share: count - wrong >= share * count)

    def named(sweep: list, count: int, share: float) -> float:
        return right(sweep, count, share)

    wrong = {
        "You looked at the errors in all. The last entry of each row is about the omitted digit.": first(
            lambda total, wrong, count, share: count - total >= share * count
        ),
        "You took the shift with the fewest errors in all. The question is another: from which shift on are enough of "
        "the omitted digit right?": lambda sweep, count, share: min(sweep, key=lambda row: row[1])[0],
        "At that shift enough of them are *wrong*. The rows count errors: how many are right?": first(
            lambda total, wrong, count, share: wrong >= share * count
        ),
        "You took the first row of the list that is good enough. The rows need not be in order: the smallest shift is "
        "asked for.": lambda sweep, count, share: next(
            shift for shift, _, wrong in sweep if count - wrong >= share * count
        ),
        "That is the largest shift that is good enough. The smallest is asked for.": lambda sweep, count, share: max(
            shift for shift, _, wrong in sweep if count - wrong >= share * count
        ),
        "A shift at which exactly that share is right is good enough too: *at least*.": first(
            lambda total, wrong, count, share: count - wrong > share * count
        ),
    }
    unsorted = [
        (4.5, 21, 9),
        (0.0, 240, 160),
        (4.0, 22, 15),
        (3.0, 24, 20),
        (1.0, 200, 130),
        (2.0, 45, 40),
        (5.5, 18, 2),
        (5.0, 19, 3),
        (6.0, 25, 1),
        (-1.0, 300, 185),
    ]
    cases = [
        (unsorted, 200, 0.9),
        ([(0.0, 60, 40), (0.5, 30, 20), (1.0, 9, 8), (1.5, 12, 2)], 100, 0.8),
        ([(0.0, 9, 5), (2.0, 1, 0)], 10, 0.5),
    ]
    return compare(answer, cases, named, wrong)


def gap_closed(answer: object) -> str | None:
    """6.4: the share of the gap between student and teacher that distillation closes."""

    def means(*groups: list[int]) -> list[float]:
        return [float(np.mean(group)) for group in groups]

    def right(teacher: list[int], labels: list[int], distilled: list[int]) -> float:
        a, b, c = means(teacher, labels, distilled)
        return (b - c) / (b - a)

    def of(change) -> object:
        return lambda teacher, labels, distilled: change(*means(teacher, labels, distilled))

    wrong = {
        "That is the share of the student's errors that is removed. The gap is smaller than that: it ends at the "
        "teacher.": of(lambda a, b, c: (b - c) / b),
        "That is the part of the gap that is still open. How much of it was closed?": of(
            lambda a, b, c: (c - a) / (b - a)
        ),
        "That compares the errors of teacher and student. How many errors *were* there to lose, and how many were "
        "lost?": of(lambda a, b, c: a / c),
        "That is the number of errors removed. Divide by the number that separated the student from its teacher.": of(
            lambda a, b, c: b - c
        ),
        "That is the gap upside down: the errors removed belong above the line.": of(lambda a, b, c: (b - a) / (b - c)),
        "You took the mean of shares, seed by seed. A seed with a small gap then counts as much as one with a large "
        "gap, or blows up: take the means first.": lambda teacher, labels, distilled: np.mean(
            [(b - c) / (b - a) for a, b, c in zip(teacher, labels, distilled, strict=False)]
        ),
        "The sign is turned round: errors that are removed close the gap.": of(lambda a, b, c: (c - b) / (b - a)),
    }
    cases = [
        ([67, 60, 71], [146, 130, 151], [74, 80, 86]),
        ([50, 52], [90, 80, 85, 95], [95, 88, 90, 99]),
        ([67], [146], [74]),
    ]
    return compare(answer, cases, right, wrong)


def ensemble_target(answer: object) -> str | None:
    """6.5: the soft target of an ensemble whose logits are the mean of its members' logits."""

    def right(logits: Tensor, T: float) -> Tensor:
        return (logits.mean(0) / T).softmax(-1)

    wrong = {
        "You averaged the members' probabilities. That is an ensemble too, but not this one: its *logits* are the mean "
        "of theirs.": lambda logits, T: (logits / T).softmax(-1).mean(0),
        "You averaged probabilities, and took them for logits in a second softmax. What did the members answer before "
        "any softmax?": lambda logits, T: (logits.softmax(-1).mean(0) / T).softmax(-1),
        "You averaged over the images. The members are the first dimension.": lambda logits, T: (
            logits.mean(1) / T
        ).softmax(-1),
        "You added the logits without dividing: that acts like a lower temperature.": lambda logits, T: (
            logits.sum(0) / T
        ).softmax(-1),
        "The temperature is missing: this is the target at T = 1.": lambda logits, T: logits.mean(0).softmax(-1),
        "These are logits, and they are the right ones. Soften them.": lambda logits, T: logits.mean(0),
        "These are logits divided by T. The softmax is still to come.": lambda logits, T: logits.mean(0) / T,
        "The softmax runs over the images. Each row has to add up to 1: which dimension holds the classes?": (
            lambda logits, T: (logits.mean(0) / T).softmax(0)
        ),
    }
    generator = torch.Generator().manual_seed(0)
    cases = [
        (4 * torch.randn(members, n, C, generator=generator, dtype=torch.float64), T)
        for members, n, C, T in ((4, 3, 5, 2.0), (2, 1, 10, 8.0), (3, 6, 4, 1.0))
    ]
    return compare(answer, cases, right, wrong)


EXERCISES = (is_the_teacher_needed, spread_of_runs, smallest_shift, gap_closed, ensemble_target)
