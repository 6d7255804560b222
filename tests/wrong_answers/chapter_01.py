"""Chapter 1: background."""

import numpy as np
import torch.nn.functional as F
from scipy import stats


def pairs(sizes):
    return list(zip(sizes[:-1], sizes[1:], strict=True))


def weights(sizes):
    return sum(a * b for a, b in pairs(sizes))


def biases(sizes):
    return sum(sizes[1:])


def interval(values, quantile=None, ddof=1, root=True, factor=1.0):
    """As a reader writes it, with NumPy."""
    values = np.asarray(values) * factor
    n = len(values)
    quantile = stats.t.ppf(0.975, n - 1) if quantile is None else quantile
    half = quantile * values.std(ddof=ddof) / (np.sqrt(n) if root else 1)
    return values.mean(), values.mean() - half, values.mean() + half


def over_images(distilled, labels, **how):
    return interval((distilled - labels).mean(0), factor=labels.shape[1], **how)


def pull(soft_loss):
    """The length of a loss's gradient, by autograd."""

    def length(s, t, T):
        s.requires_grad_()
        soft_loss(s, t, T).backward()
        return s.grad.norm()

    return length


def gradient(s, t, T):
    s.requires_grad_()
    loss(s, t, T).backward()
    return s.grad


def loss(s, t, T, reduction="batchmean"):
    return T**2 * F.kl_div(F.log_softmax(s / T, dim=-1), F.softmax(t / T, dim=-1), reduction=reduction)


WRONG = {
    "01-1": [("a", "answer for the watch"), ("c", "nothing of what is stored"), ("D", "once for a whole batch")],
    "01-2": [
        (lambda sizes: (weights(sizes) + biases(sizes), weights(sizes) + biases(sizes)), "not a multiply–add"),
        (lambda sizes: (weights(sizes), weights(sizes)), "a bias is a parameter"),
        (lambda sizes: (weights(sizes), weights(sizes) + biases(sizes)), "other order"),
        (lambda sizes: (weights(sizes) + sum(sizes[1:-1]), weights(sizes)), "last layer"),
        (lambda sizes: (weights(sizes) + sum(sizes), weights(sizes)), "Inputs are pixels"),
        (lambda sizes: (weights(sizes) + biases(sizes), 2 * weights(sizes)), "one multiply–add is both"),
        (lambda sizes: ((sizes[0] + 1) * sizes[1], sizes[0] * sizes[1]), "first layer alone"),
    ],
    "01-3": [
        (lambda a, b: interval((a - b).sum(dim=1)), "over seeds"),
        (lambda a, b: over_images(b, a), "turned round"),
        (lambda a, b: interval((a - b).mean(dim=0)), "a share"),
        (lambda a, b: interval((a - b).sum(dim=0), factor=a.shape[1]), "by the number of seeds"),
        (lambda a, b: over_images(a, b, quantile=1.96), "1.96 is the quantile of the normal"),
        (lambda a, b: over_images(a, b, ddof=0), "divide by n − 1"),
        (lambda a, b: over_images(a, b, quantile=1.96, ddof=0), "Two things"),
        (lambda a, b: over_images(a, b, root=False), "single values"),
        (lambda a, b: over_images(a, b, quantile=1.0), "one standard error"),
        (lambda a, b: over_images(a, b, quantile=stats.t.ppf(0.95, a.shape[1] - 1)), "2.5 % outside"),
    ],
    "01-4": [
        (pull(lambda s, t, T: loss(s, t, T) / T**2), "T² is missing"),
        (pull(lambda s, t, T: loss(s, t, T, "mean")), "number of classes"),
        (pull(lambda s, t, T: loss(s, t, T, "sum")), "sum over the batch"),
        (pull(lambda s, t, T: loss(t, s, T)), "changed places"),
        (loss, "loss itself"),
        (pull(lambda s, t, T: loss(s, t * T, T)), "teacher's logits are not softened"),
        (pull(lambda s, t, T: loss(s * T, t, T)), "student's logits are not softened"),
        (gradient, "Its length"),
        (lambda s, t, T: gradient(s, t, T).sum(), "adds up to zero"),
        (lambda s, t, T: gradient(s, t, T).abs().sum(), "sizes of the entries"),
    ],
    "01-5": [
        ("acdbe", "before it is frozen"),
        ("dcabe", "before it was trained"),
        ("c a b d e", "not there yet"),
        (list("cadeb"), "before it has learned"),
        ("cdabe", "Nearly"),
    ],
}
