"""Chapter 9: a reader's own data."""

import torch


def soft(z, T=1.0, dim=-1):
    return torch.softmax(z / T, dim=dim)


def by_name(student, teacher):
    return [(place, teacher.index(name)) for place, name in enumerate(student) if name in teacher]


WRONG = {
    "09-1": [("a", "at a higher temperature"), ("b", "never changes which"), ("d", "The factor T²")],
    "09-2": [
        (lambda z, T: soft(z).amax(-1).mean(), "That is at T = 1"),
        (lambda z, T: soft(z, 1 / T).amax(-1).mean(), "You multiplied"),
        (lambda z, T: soft(z, T).max(), "largest of all"),
        (lambda z, T: soft(z, T, 0).amax(-1).mean(), "over the examples"),
        (lambda z, T: (soft(z) / T).amax(-1).mean(), "after the softmax"),
        (lambda z, T: soft(z, T).amax(-1), "one number for each example"),
    ],
    "09-3": [
        (lambda s, t: [(b, a) for a, b in by_name(s, t)], "wrong way round"),
        (lambda s, t: [(i, i) for i in range(min(len(s), len(t)))], "by position"),
        (lambda s, t: [(i, t.index(n) if n in t else 0) for i, n in enumerate(s)], "a pair too many"),
        (lambda s, t: by_name(s, t)[:1], "your function gives"),
        (lambda s, t: 3, "A list of pairs is asked for"),
    ],
    "09-4": [
        (lambda p, T: soft(p, T), "second softmax"),
        (lambda p, T: p**T / (p**T).sum(-1, keepdim=True), "to the power T"),
        (lambda p, T: p ** (1 / T), "do not add up to 1"),
        (lambda p, T: p / T + (1 - 1 / T) / p.shape[-1], "equal shares"),
        (lambda p, T: p, "came back as they were"),
    ],
}
