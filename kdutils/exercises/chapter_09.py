"""Chapter 9: a reader's own data."""

import torch
from torch import Tensor

from .answers import NotYet, call, choose, compare


def too_sharp(answer: object) -> str | None:
    """9.1: what a large spread of logits does at a low temperature."""
    return choose(
        answer,
        "c",
        {
            "a": "It would say more at a higher temperature. Look at what the softened target is at T = 4 when the "
            "logits are tens apart: how much of it is left for the other classes?",
            "b": "Dividing by T never changes which logit is the largest. What does it leave of the distances?",
            "d": "The factor T² makes up for gradients that a temperature made small. Has the temperature made them "
            "small here, where the target is still nearly one-hot?",
        },
    )


def mean_top(answer: object) -> str | None:
    """9.2: the mean probability of the likeliest class at a temperature."""

    def right(logits: Tensor, temperature: float) -> Tensor:
        return torch.softmax(logits / temperature, dim=-1).amax(dim=-1).mean()

    wrong = {
        "That is at T = 1. Divide the logits by the temperature first.": lambda z, T: right(z, 1.0),
        "You multiplied by the temperature. It divides the logits.": lambda z, T: right(z, 1 / T),
        "That is the largest of all. First take the likeliest class of each example, then the mean.": lambda z, T: (
            torch.softmax(z / T, dim=-1).max()
        ),
        "The softmax runs over the examples here. The classes are the last dimension.": lambda z, T: (
            torch.softmax(z / T, dim=0).amax(dim=-1).mean()
        ),
        "You divided the probabilities by T, after the softmax. Divide the logits, before it.": lambda z, T: (
            (torch.softmax(z, dim=-1) / T).amax(dim=-1).mean()
        ),
        "That is one number for each example. The mean over them is asked for.": lambda z, T: torch.softmax(
            z / T, dim=-1
        ).amax(dim=-1),
    }
    generator = torch.Generator().manual_seed(0)
    cases = [(8 * torch.randn(6, 4, generator=generator), T) for T in (4.0, 1.0, 20.0)]
    return compare(answer, cases, right, wrong)


def matched(answer: object) -> str | None:
    """9.3: the positions of the classes that two networks share."""

    def right(student: list[str], teacher: list[str]) -> list[tuple[int, int]]:
        return [(place, teacher.index(name)) for place, name in enumerate(student) if name in teacher]

    cases = [
        (["cat", "dog"], ["bird", "dog", "cat"]),
        (["dog", "cat", "horse"], ["cat", "bird", "dog"]),
        (["a", "b", "c"], ["c", "b", "a"]),
    ]
    for student, teacher in cases:
        found = call(answer, right, (list(student), list(teacher)))
        try:
            pairs = [(int(one), int(other)) for one, other in found]
        except (TypeError, ValueError):
            raise NotYet(
                "A list of pairs is asked for: the place in the student's list, then in the teacher's."
            ) from None
        expected = right(student, teacher)
        given = f"For {student} and {teacher}"
        if sorted(pairs) == sorted(expected):
            continue
        if sorted((other, one) for one, other in pairs) == sorted(expected):
            return f"{given} each pair is the wrong way round: the student's position comes first."
        if pairs == [(place, place) for place in range(min(len(student), len(teacher)))]:
            return f"{given} you went by position. What stands in one place of both lists need not be one class."
        if len(pairs) > len(expected):
            return f"{given} there is a pair too many. A class that the teacher does not know has no partner."
        return f"{given} the pairs are {expected}; your function gives {pairs}."
    return None


def from_probabilities(answer: object) -> str | None:
    """9.4: soft targets at T from probabilities at T = 1."""

    def right(p: Tensor, temperature: float) -> Tensor:
        return torch.softmax(p.log() / temperature, dim=-1)

    wrong = {
        "A softmax of probabilities: the second softmax of chapter 5. Which numbers have these probabilities as their "
        "softmax?": lambda p, T: torch.softmax(p / T, dim=-1),
        "You raised them to the power T; that sharpens. Dividing the logits by T takes the T-th root.": lambda p, T: (
            p**T / (p**T).sum(dim=-1, keepdim=True)
        ),
        "The right numbers, but the rows do not add up to 1 any more.": lambda p, T: p ** (1 / T),
        "Mixing with equal shares softens too, but it is not what a temperature does to the logits.": lambda p, T: (
            p / T + (1 - 1 / T) / p.shape[-1]
        ),
        "That is without a temperature: the probabilities came back as they were.": lambda p, T: p,
    }
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(4 * torch.randn(3, 4, generator=generator, dtype=torch.float64), dim=-1)
    return compare(answer, [(p, 4.0), (p, 2.0)], right, wrong)


EXERCISES = (too_sharp, mean_top, matched, from_probabilities)
