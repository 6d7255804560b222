"""Chapter 7: comparisons that prove something, and how many seeds they need."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats


def seeds(quantiles, root=0.5):
    return lambda s, gain: next(n for n in itertools.count(2) if gain >= quantiles(n) * s / n**root)


def t(q, n):
    return stats.t.ppf(q, n - 1)


needed = seeds(lambda n: t(0.975, n) + t(0.8, n))


def means(rows, labels):
    return torch.stack([rows[labels == c].mean(dim=0) for c in range(rows.shape[1])])


def soft(z, T=1.0):
    return F.softmax(z / T, dim=-1)


def within(labels, draw):
    index = torch.empty_like(labels)
    for c in labels.unique():
        places = torch.where(labels == c)[0]
        index[places] = places[draw(len(places))]
    return index


def generator(seed):
    return torch.Generator().manual_seed(seed)


WRONG = {
    "07-1": [
        (seeds(lambda n: t(0.975, n)), "exercise 4.3"),
        (seeds(lambda n: 1.96 + 0.8416), "normal distribution"),
        (seeds(lambda n: t(0.975, n) + 0.8), "added 0.8 itself"),
        (seeds(lambda n: t(0.975, n) + t(0.9, n)), "that of 0.9"),
        (seeds(lambda n: t(0.95, n) + t(0.8, n)), "that of 0.95"),
        (seeds(lambda n: 2**0.5 * (t(0.975, n) + t(0.8, n))), "√2 too many"),
        (seeds(lambda n: t(0.975, n) + t(0.8, n), root=1), "where (7.1) has √n"),
        (lambda s, gain: needed(s, gain) - 1, "One too few"),
        (lambda s, gain: needed(s, gain) + 1, "One too many"),
    ],
    "07-2": [("a", "50,000 labels"), ("b", "Close"), ("c", "lie idle")],
    "07-3": [
        (lambda z, y, T: means(z, y), "You averaged logits"),
        (lambda z, y, T: means(soft(z, T), y), "mean soft targets themselves"),
        (lambda z, y, T: means(soft(z, T), y).log(), "T times too flat"),
        (lambda z, y, T: T * means(soft(z), y).log(), "Soften first"),
        (lambda z, y, T: means(soft(z), y).log(), "did not allow for T"),
        (lambda z, y, T: T * means(soft(z, T), z.argmax(dim=1)).log(), "that the teacher names"),
        (lambda z, y, T: T * means(soft(z, T), y).log()[y], "should be of shape (3, 3); yours is of shape (8, 3)"),
    ],
    "07-4": [
        (lambda y, seed: torch.randperm(len(y), generator=generator(seed)), "of another class"),
        (lambda y, seed: torch.arange(len(y)), "keeps its own"),
        (
            lambda y, seed: within(y, lambda n: torch.randint(n, (n,), generator=generator(seed))),
            "dealt out twice",
        ),
        (lambda y, seed: within(y, lambda n: torch.randperm(n)), "another order each time"),
        (lambda y, seed: within(y, lambda n: torch.arange(n).roll(1)), "Every seed gives the same order"),
        (lambda y, seed: y[torch.randperm(len(y), generator=generator(seed))] + 0.5, "whole numbers from 0 to N − 1"),
        (lambda y, seed: y, "These are the labels"),
        (lambda y, seed: torch.arange(5), "One place for each"),
    ],
    "07-5": [
        (lambda a, b: a[min(b, key=b.get)] - min(b.values()), "never tuned, and the gain"),
        (lambda a, b: min(a.values()) - b[min(a, key=a.get)], "the distilled student that was never tuned"),
        (lambda a, b: max(a[rate] - b[rate] for rate in a), "at any one rate"),
        (lambda a, b: min(b.values()) - min(a.values()), "turned round"),
        (lambda a, b: np.mean([*a.values()]) - np.mean([*b.values()]), "means over all rates"),
        (lambda a, b: a[min(a)] - b[min(b)], "smallest rate"),
        (lambda a, b: max(a.values()) - min(b.values()), "worst rate"),
    ],
}
