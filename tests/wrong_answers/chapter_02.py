"""Chapter 2: soft targets and temperature."""

import math

import torch
import torch.nn.functional as F


def bisect(too_low, low=0.01, high=1000.0):
    for _ in range(60):
        middle = (low + high) / 2
        if too_low(middle):
            low = middle
        else:
            high = middle
    return middle


def entropy(z, T, log=torch.log):
    q = torch.softmax(z / T, dim=-1)
    return -(q * log(q + 1e-300)).sum()


def smoothed(labels, share, C, of_label, of_others):
    targets = torch.full((len(labels), C), of_others, dtype=torch.float64)
    targets[range(len(labels)), labels] = of_label
    return targets


def means(rows, labels):
    return torch.stack([rows[labels == c].mean(dim=0) for c in labels])


def soft(z, T=1.0):
    return F.softmax(z / T, dim=-1)


WRONG = {
    "02-1": [
        ([5000, 2500, 1250, 3333], "divided the ratio by T."),
        ([2500, 625, 156.25, 1], "T² belongs to the loss"),
        ([4.6, 2.3, 1.15, 3], "differences of the logits"),
        ([1e8, 1e16, 1e32, 0.1], "and it grew"),
        ([100, 31.6, 3.16, 8.4], "At T = 4 the ratio is not 31.6"),
        ([100, 10, 3.16, 3333.3], "no division by 3"),
        ([100, 10, 3.16, 3.07], "3 became log 3"),
        ([100, 10, 3.16, 12], "at yours it is 2.15"),
        ([100, 10, 3.16], "a list of 4 numbers; you gave 3"),
    ],
    "02-2": [
        (lambda z: bisect(lambda T: entropy(z, T) > math.log(len(z)) / 2), "high end"),
        (lambda z: bisect(lambda T: entropy(z, T) < math.log(10) / 2), "not always log 10"),
        (lambda z: bisect(lambda T: entropy(z, 1 / T) > math.log(len(z)) / 2), "This is 1/T"),
        (lambda z: bisect(lambda T: entropy(z, T) < math.log(len(z) / 2)), "half of the classes"),
        (lambda z: bisect(lambda T: entropy(z, T, torch.log2) < math.log(len(z)) / 2), "different units"),
        (lambda z: bisect(lambda T: soft(z, T).max() > 0.5), "largest *probability*"),
    ],
    "02-3": [
        (lambda y, e, C: smoothed(y, e, C, 1 - e, e / (C - 1)), "the C − 1 other classes"),
        (lambda y, e, C: smoothed(y, e, C, 1 + e / C, e / C), "more than 1"),
        (lambda y, e, C: smoothed(y, e, C, 1 - e, e / C), "less than 1"),
        (lambda y, e, C: (1 - e) * F.one_hot(y, C).double() + e, "all of ε"),
        (lambda y, e, C: e * F.one_hot(y, C).double() + (1 - e) / C, "changed places"),
        (lambda y, e, C: ((1 - e) * F.one_hot(y, C).double() + e / C).log(), "These are logarithms"),
    ],
    "02-4": [
        (lambda z, y, T: soft(means(z, y), T), "You averaged the logits"),
        (lambda z, y, T: means(soft(z), y), "temperature is missing"),
        (lambda z, y, T: torch.stack([soft(z, T)[y == c].mean(0) for c in range(int(y.max()) + 1)]), "one row for"),
        (lambda z, y, T: soft(z, T).mean(0, keepdim=True).repeat(len(z), 1), "the mean over all"),
        (lambda z, y, T: soft(z, T), "own soft targets"),
        (lambda z, y, T: means(soft(z, T), z.argmax(dim=1)), "that the teacher names"),
        (lambda z, y, T: T * means(soft(z, T), y).log(), "These are logits"),
    ],
    "02-5": [
        (lambda q, T: soft(q, T), "softmax of a softmax"),
        (lambda q, T: q.pow(1 / T), "do not add up to 1"),
        (lambda q, T: (q / T) / (q / T).sum(dim=1, keepdim=True), "nothing has changed"),
        (lambda q, T: q / T, "add up to 1/T"),
        (lambda q, T: soft(q.log() * T), "harder"),
        (lambda q, T: q.log() / T, "still to be taken"),
        (lambda q, T: q.pow(1 / T) / q.pow(1 / T).sum(dim=0), "which dimension"),
        (lambda q, T: soft((q + 1e-12).log(), T), "added a small ε"),
    ],
}
