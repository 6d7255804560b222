"""Chapter 5: finding bugs, and writing a step that has none."""

import numpy as np
import torch
import torch.nn.functional as F


def mix(soft, s, labels, w=0.7):
    return w * soft + (1 - w) * F.cross_entropy(s, labels)


def step(soft, *, w=0.7, evaluate=True, no_grad=True, hard_at=1.0, swap=False):
    """A training step, with this soft term and these mistakes."""

    def loss(student, teacher, batch):
        images, labels = batch
        if swap:
            student, teacher = teacher, student
        if evaluate:
            teacher.eval()
        with torch.set_grad_enabled(not no_grad):
            t = teacher(images)
        s = student(images)
        return w * soft(s, t) + (1 - w) * F.cross_entropy(s / hard_at, labels)

    return loss


def right(s, t, T=6.0, reduction="batchmean"):
    return T**2 * F.kl_div(F.log_softmax(s / T, dim=1), F.softmax(t / T, dim=1), reduction=reduction)


def twice(s, t):
    return right(s, F.softmax(t, dim=1))


def no_log_target(s, t):
    return 36 * F.kl_div(F.log_softmax(s / 6, dim=1), F.log_softmax(t / 6, dim=1), reduction="batchmean")


def chosen(counts, by):
    return np.array([row[i] for row, i in zip(counts, by.argmin(axis=1), strict=True)])


def difference(reported, fresh):
    return chosen(fresh, reported) - chosen(reported, reported)


WRONG = {
    "05-1": [
        *(([5, 7, 11, 15, room], f"Room {room} ") for room in (1, 2, 3, 4, 6, 8, 9, 10, 12, 13, 14, 16)),
        ([5, 7, 11], "which epoch is kept"),
        ([5, 7, 15], "the same order twice"),
        ({7, 11, 15}, "call of `kl_div`"),
        ([5, 11, 15], "follow one row"),
        ([17], "no room 17"),
    ],
    "05-2": [
        ([0.9 / 1000 / (0.9 / 1000 + 0.1), 10], "The first is a share"),
        ([0.09, 10], "that of ten classes"),
        ([0.9, 10], "as it is written"),
        ([900, 10], "does not multiply"),
        ([0.5, 10], "is not 0.5"),
        ([0.0009, 1000], "the soft term alone"),
        ([0.0009, 0.1009], "must a learning rate be multiplied"),
        ([0.0009, 5], "add up to 0.505"),
    ],
    "05-3": [
        (step(right, evaluate=False), "training mode"),
        (step(right, no_grad=False), "The gradient reaches the teacher"),
        (step(lambda s, t: right(t, s)), "KL(student ‖ teacher)"),
        (step(lambda s, t: right(s, t) / 36), "T² times too small"),
        (step(lambda s, t: right(s, t, reduction="mean")), "C times too small"),
        (step(lambda s, t: right(s, t, reduction="sum")), "N times too large"),
        (step(no_log_target), "log_target=True"),
        (step(twice), "a second softmax"),
        (step(lambda s, t: right(s, t * 6)), "the teacher is not"),
        (step(right, hard_at=6.0), "labels belong to T = 1"),
        (step(right, swap=True), "are the two swapped"),
        (step(lambda s, t: right(s, t, T=4.0)), "measured as 4"),
        (step(right, w=0.3), "changed places"),
        (step(right, w=0.9), "soft weight 0.9"),
        (lambda student, teacher, batch: F.cross_entropy(student(batch[0]), batch[1]), "does not depend on"),
        (lambda student, teacher, batch: student(batch[0]), "must return a scalar"),
    ],
    "05-4": [
        (lambda reported, fresh: (fresh.min(1) - reported.min(1)).mean(), "do not exist yet"),
        (lambda reported, fresh: (chosen(fresh, fresh) - chosen(reported, fresh)).mean(), "fresh counts choose"),
        (lambda reported, fresh: -difference(reported, fresh).mean(), "turned round"),
        (lambda reported, fresh: fresh.mean() - reported.min(1).mean(), "mean fresh count of all"),
        (lambda reported, fresh: (chosen(fresh, -reported) - chosen(reported, -reported)).mean(), "fewer are better"),
        (
            lambda reported, fresh: (fresh - reported)[:, reported.mean(0).argmin()].mean(),
            "averaged over the studies before",
        ),
        (difference, "One number is asked for"),
    ],
}
