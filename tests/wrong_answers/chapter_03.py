"""Chapter 3: the KL loss."""

import math

import torch
import torch.nn.functional as F


def kl_div(q, p, **options):
    return F.kl_div(q, p, **({"reduction": "batchmean"} | options))


def log(z, T=1.0):
    return F.log_softmax(z / T, dim=-1)


def soft(z, T=1.0):
    return F.softmax(z / T, dim=-1)


def weight(w, factor):
    return w / (w + (1 - w) * factor)


def log_ratio(s, t, T):
    return log(s, T) - log(t, T)


def centred(s, t, dim=-1):
    return s - t - (s - t).mean(dim, keepdim=True)


WRONG = {
    "03-1": [
        (lambda s, t, T: kl_div(log(s, T), soft(t, T)), "T² times too small"),
        (lambda s, t, T: T**2 * kl_div(log(s, T), soft(t, T), reduction="mean"), "C times too small"),
        (lambda s, t, T: kl_div(log(s, T), soft(t, T), reduction="mean"), "two things are missing"),
        (lambda s, t, T: T**2 * kl_div(log(s, T), soft(t, T), reduction="sum"), "N times too large"),
        (lambda s, t, T: T**2 * kl_div(log(t, T), soft(s, T)), "reverse direction"),
        (lambda s, t, T: T**2 * kl_div(log(s, T), log(t, T)), "The loss is nan"),
        (lambda s, t, T: T**2 * kl_div(soft(s, T), soft(t, T)), "student's probabilities"),
        (lambda s, t, T: T**2 * kl_div(s / T, soft(t, T)), "raw logits"),
        (lambda s, t, T: T**2 * kl_div(log(s), soft(t, T)), "Only the teacher is softened"),
        (lambda s, t, T: T**2 * kl_div(log(s, T), soft(t)), "Only the student is softened"),
        (lambda s, t, T: -(T**2) * (soft(t, T) * log(s, T)).sum(dim=1).mean(), "cross-entropy"),
        (
            lambda s, t, T: T**2 * kl_div(F.log_softmax(s / T, dim=0), F.softmax(t / T, dim=0)),
            "runs over the batch",
        ),
        (lambda s, t, T: T**2 * kl_div(log(s * T), soft(t * T)), "multiplied by T"),
        (lambda s, t, T: kl_div(log(s, T), soft(t, T)) / T**2, "divided by T²"),
        (lambda s, t, T: T * kl_div(log(s, T), soft(t, T)), "T where it should be T²"),
        (lambda s, t, T: T**2 * kl_div(torch.log(soft(s, T)), soft(t, T)), "underflows"),
    ],
    "03-2": [
        (lambda w, C: (w / C, w * C), "divide by the sum of both factors"),
        (lambda w, C: (weight(w, 1 / C), weight(w, C)), "swapped"),
        (lambda w, C: (w, w), "touches the soft term only"),
        (lambda w, C: [weight(w, C)] * 2, "The second repeats it"),
        (lambda w, C: [weight(w, C), w * C], "stays below 1"),
        (lambda w, C: (weight(w, C**2), weight(w, 1 / C**2)), "C appears squared"),
    ],
    "03-3": [
        (lambda t, T_teacher, T_student: soft(t, T_teacher), "for a student at T = 1"),
        (lambda t, T_teacher, T_student: soft(t, T_student / T_teacher), "upside down"),
        (lambda t, T_teacher, T_student: soft(t), "teacher's own probabilities"),
        (lambda t, T_teacher, T_student: t * T_student / T_teacher, "the student's logits"),
        (lambda t, T_teacher, T_student: soft(t, T_teacher * T_student), "You divided by T_student"),
    ],
    "03-4": [
        (lambda d, P_1: P_1 - 1 / (1 + math.exp(-d)), "The sign is wrong"),
        (lambda d, P_1: 2 * (1 / (1 + math.exp(-d)) - P_1), "twice the gradient"),
        (lambda d, P_1: (1 / (1 + math.exp(-d)) - P_1) / (2 + math.exp(d) + math.exp(-d)), "too many"),
        (lambda d, P_1: 1 / (1 + math.exp(d)) - P_1, "probability of class 0"),
        (lambda d, P_1: d - P_1, "difference of logits"),
        (lambda d, P_1: 0, "add up to zero"),
    ],
    "03-5": [
        (lambda s, t, T: (soft(s, T) - soft(t, T)) / T, "forward direction"),
        (
            lambda s, t, T: soft(s, T) * (log_ratio(s, t, T) - (soft(s, T) * log_ratio(s, t, T)).sum(-1, keepdim=True)),
            "The factor 1/T is missing",
        ),
        (lambda s, t, T: soft(s, T) * log_ratio(s, t, T) / T, "is missing: it comes from"),
        (
            lambda s, t, T: (log_ratio(s, t, T) - (soft(s, T) * log_ratio(s, t, T)).sum(-1, keepdim=True)) / T,
            "missing in front",
        ),
        (
            lambda s, t, T: (
                soft(s, T) / T * (log_ratio(t, s, T) + (soft(s, T) * log_ratio(s, t, T)).sum(-1, keepdim=True))
            ),
            "The sign is wrong",
        ),
        (
            lambda s, t, T: (
                soft(s, T) / T * (log_ratio(s, t, T) + (soft(s, T) * log_ratio(s, t, T)).sum(-1, keepdim=True))
            ),
            "You added",
        ),
        (
            lambda s, t, T: (
                T * soft(s, T) * (log_ratio(s, t, T) - (soft(s, T) * log_ratio(s, t, T)).sum(-1, keepdim=True))
            ),
            "a factor T too many",
        ),
    ],
    "03-6": [
        (lambda s, t: (s - t).square().sum(-1).mean() / (2 * s.shape[-1]), "when a constant is added"),
        (lambda s, t: F.mse_loss(s, t), "Two things are missing"),
        (lambda s, t: centred(s, t).square().mean(), "twice too large"),
        (lambda s, t: centred(s, t).square().sum(-1).mean() / 2, "C times too large"),
        (lambda s, t: centred(s, t).square().sum() / (2 * s.shape[-1]), "N times too large"),
        (lambda s, t: centred(s, t, 0).square().mean() / 2, "The mean over the batch is subtracted"),
        (lambda s, t: centred(s, t) / s.shape[-1], "This is the gradient"),
    ],
}
