"""Chapter 4: the whole loss, pairs of seeds, and how many of them."""

import itertools

import numpy as np
import torch.nn.functional as F
from scipy import stats


def interval(values, quantile=None, ddof=1, root=True):
    n = len(values)
    quantile = stats.t.ppf(0.975, n - 1) if quantile is None else quantile
    half = quantile * np.std(values, ddof=ddof) / (np.sqrt(n) if root else 1)
    return np.mean(values), np.mean(values) - half, np.mean(values) + half


def differences(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def two_groups(a, b):
    found = stats.ttest_ind(a, b)
    return (np.mean(a) - np.mean(b), *found.confidence_interval(0.95))


def added_variances(a, b):
    half = stats.t.ppf(0.975, len(a) - 1) * np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / len(a))
    gain = np.mean(a) - np.mean(b)
    return gain, gain - half, gain + half


def of_ends(a, b):
    (mean_a, low_a, high_a), (mean_b, low_b, high_b) = interval(a), interval(b)
    return mean_a - mean_b, low_a - high_b, high_a - low_b


def without_copies(model, step):
    before = list(model.parameters())
    step()
    return any((a != b).any() for a, b in zip(before, model.parameters(), strict=True))


def first_parameter(model, step):
    before = next(model.parameters()).clone()
    step()
    return bool((before != next(model.parameters())).any())


def by_the_sum(model, step):
    before = sum(p.sum() for p in model.parameters()).item()
    step()
    return abs(sum(p.sum() for p in model.parameters()).item() - before) > 1e-9


def always(model, step):
    step()
    return True


def never_called(model, step):
    return False


def each_parameter(model, step):
    before = [p.clone() for p in model.parameters()]
    step()
    return [bool((a != b).any()) for a, b in zip(before, model.parameters(), strict=True)]


def count(small_enough):
    return next(n for n in itertools.count(2) if small_enough(n))


def t(n, q=0.975):
    return stats.t.ppf(q, n - 1)


def needed(s, gain):
    return count(lambda n: t(n) * s / n**0.5 < gain)


def kl(s, t, T, reduction="batchmean"):
    return F.kl_div(F.log_softmax(s / T, dim=1), F.softmax(t / T, dim=1), reduction=reduction)


def ce(s, y):
    return F.cross_entropy(s, y)


WRONG = {
    "04-1": [
        (lambda a, b: interval(differences(b, a)), "turned round"),
        (two_groups, "unrelated groups. They are pairs"),
        (added_variances, "You added the variances"),
        (of_ends, "subtracted the ends"),
        (lambda a, b: [x / np.mean(a) for x in interval(differences(a, b))], "a share of the errors"),
        (lambda a, b: interval(differences(a, b), quantile=1.96), "whose distribution"),
        (lambda a, b: interval(differences(a, b), ddof=0), "ddof=1"),
        (lambda a, b: interval(differences(a, b), quantile=1.96, ddof=0), "Two things"),
        (lambda a, b: interval(differences(a, b), root=False), "scatters less"),
    ],
    "04-2": [
        (without_copies, "holds those tensors and not copies"),
        (first_parameter, "*any*"),
        (by_the_sum, "A sum or a norm"),
        (always, "a step that did nothing"),
        (never_called, "never called step()"),
        (each_parameter, "True or False"),
    ],
    "04-3": [
        (lambda s, gain: count(lambda n: 1.96 * s / n**0.5 < gain), "1.96 belongs"),
        (lambda s, gain: int(np.ceil((2 * s / gain) ** 2)), "takes 2 for the quantile"),
        (lambda s, gain: count(lambda n: t(n, 0.95) * s / n**0.5 < gain), "quantile is that of 0.95"),
        (lambda s, gain: count(lambda n: t(n + 1) * s / n**0.5 < gain), "degrees of freedom"),
        (lambda s, gain: count(lambda n: 2 * t(n) * s / n**0.5 < gain), "whole width"),
        (lambda s, gain: count(lambda n: t(n) * s / n < gain), "falls with √n"),
        (lambda s, gain: needed(s, gain) + 1, "One too many"),
    ],
    "04-4": [
        (lambda s, t, y, T, w: w * kl(s, t, T) + (1 - w) * ce(s, y), "T² is missing"),
        (lambda s, t, y, T, w: T**2 * (w * kl(s, t, T) + (1 - w) * ce(s, y)), "in front of both"),
        (lambda s, t, y, T, w: w * kl(s, t, T) + (1 - w) * T**2 * ce(s, y), "in front of the hard term"),
        (lambda s, t, y, T, w: (1 - w) * T**2 * kl(s, t, T) + w * ce(s, y), "weights have changed places"),
        (lambda s, t, y, T, w: w * T**2 * kl(s, t, T) + (1 - w) * ce(s / T, y), "softened too"),
        (lambda s, t, y, T, w: w * T**2 * kl(t, s, T) + (1 - w) * ce(s, y), "networks have changed places"),
        (lambda s, t, y, T, w: w * T**2 * kl(s, t, T) + (1 - w) * ce(t, y), "the teacher's cross-entropy"),
        (lambda s, t, y, T, w: w * T**2 * kl(s, t, T, "mean") + (1 - w) * ce(s, y), "C times too small"),
        (lambda s, t, y, T, w: w * T**2 * kl(s, t, T, "sum") + (1 - w) * ce(s, y), "a sum over the batch"),
        (lambda s, t, y, T, w: w * T**2 * kl(s, t, T) + ce(s, y), "w and 1 − w"),
        (lambda s, t, y, T, w: w * T**2 * kl(s, t, T) + (1 - w) * ce(s.softmax(1), y), "pass the logits"),
    ],
}
