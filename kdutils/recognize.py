"""Which loss is this? Found by its gradient, among the terms that people write, right and wrong."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

# Soft terms as people write them, each a sum over examples and classes, of (s, t, T). The right ones come first, so
# that a loss that fits a right and a wrong one, as many do at T = 1, counts as right.
SOFT_TERMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "KL(teacher ‖ student)": lambda s, t, T: _soft_cross_entropy((s / T).log_softmax(-1), (t / T).softmax(-1)),
    "squared difference of logits": lambda s, t, T: (s - t).square().sum() / 2,
    "squared difference of probabilities": lambda s, t, T: (
        ((s / T).softmax(-1) - (t / T).softmax(-1)).square().sum() / 2
    ),
    "arguments swapped": lambda s, t, T: _reverse_kl((s / T).log_softmax(-1), (t / T).log_softmax(-1)),
    "log target": lambda s, t, T: _soft_cross_entropy((s / T).log_softmax(-1), (t / T).log_softmax(-1)),
    "softmax twice": lambda s, t, T: _soft_cross_entropy(
        (s.softmax(-1) / T).log_softmax(-1), (t.softmax(-1) / T).softmax(-1)
    ),
    "teacher's softmax twice": lambda s, t, T: _soft_cross_entropy(
        (s / T).log_softmax(-1), (t.softmax(-1) / T).softmax(-1)
    ),
    "student's softmax twice": lambda s, t, T: _soft_cross_entropy(
        (s.softmax(-1) / T).log_softmax(-1), (t / T).softmax(-1)
    ),
    "no logarithm": lambda s, t, T: _soft_cross_entropy((s / T).softmax(-1), (t / T).softmax(-1)),
    "raw logits": lambda s, t, T: _soft_cross_entropy(s / T, (t / T).softmax(-1)),
    "only the teacher softened": lambda s, t, T: _soft_cross_entropy(s.log_softmax(-1), (t / T).softmax(-1)),
    "only the student softened": lambda s, t, T: _soft_cross_entropy((s / T).log_softmax(-1), t.softmax(-1)),
}
HARD_TERMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "cross-entropy": lambda s, y, T: F.cross_entropy(s, y, reduction="sum"),
    "hard term: softmax twice": lambda s, y, T: F.cross_entropy(s.softmax(-1), y, reduction="sum"),
    "hard term at T": lambda s, y, T: F.cross_entropy(s / T, y, reduction="sum"),
}
RIGHT_SOFT = tuple(SOFT_TERMS)[:3]
RIGHT_HARD = next(iter(HARD_TERMS))

TEMPERATURES = np.geomspace(0.5, 200, 40)


def recognize(gradient: Tensor, s: Tensor, t: Tensor, labels: Tensor) -> tuple[str, str, float, np.ndarray] | None:
    """The names of the soft and the hard term, T, and the weights of both, that together have this gradient.

    Args:
        gradient: ``(N, C)``, of the loss with respect to the student's logits.
        s: ``(N, C)``, these logits.
        t: ``(N, C)``, the teacher's.
        labels: ``(N,)``.

    Returns:
        None if no pair of terms has it.
    """
    s, t, labels = s.cpu(), t.cpu(), labels.cpu()  # not every GPU knows float64
    fits = []
    for soft, soft_term in SOFT_TERMS.items():
        for hard, hard_term in HARD_TERMS.items():

            def columns(T: float, soft_term=soft_term, hard_term=hard_term) -> np.ndarray:
                given = s.double().requires_grad_()
                terms = soft_term(given, t.double(), T), hard_term(given, labels, T)
                return np.stack([flat(torch.autograd.grad(term, given)[0]) for term in terms], axis=1)

            temperature, weights, residual = fit(flat(gradient), columns)
            if residual > 1e-3 or weights[0] <= 0:
                continue
            right = soft in RIGHT_SOFT and hard == RIGHT_HARD
            if right and residual < 1e-5:
                return soft, hard, temperature, weights
            # The form itself is exact, an approximation comes near: a wrong form must fit ten times better.
            if right or TEMPERATURES[1] < temperature < TEMPERATURES[-2]:
                fits.append((residual / 10 if right else residual, (soft, hard, temperature, weights)))
    return min(fits, key=lambda found: found[0])[1] if fits else None


def fit(values: np.ndarray, columns: Callable[[float], np.ndarray]) -> tuple[float, np.ndarray, float]:
    """T and the weights of the two columns that come nearest to the values, and how far from them they stay."""

    def solve(T: float) -> tuple[np.ndarray, float]:
        matrix = columns(T)
        weights = np.linalg.lstsq(matrix, values, rcond=None)[0]
        return weights, float(np.linalg.norm(matrix @ weights - values) / np.linalg.norm(values))

    nearest = min(range(len(TEMPERATURES)), key=lambda place: solve(TEMPERATURES[place])[1])
    low, high = (math.log(TEMPERATURES[min(max(nearest + step, 0), len(TEMPERATURES) - 1)]) for step in (-1, 1))
    found = minimize_scalar(lambda x: solve(math.exp(x))[1], bounds=(low, high), method="bounded")
    temperature = math.exp(found.x)
    return temperature, *solve(temperature)


def _soft_cross_entropy(log_q: Tensor, p: Tensor) -> Tensor:
    return -(p * log_q).sum()


def _reverse_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_q.exp() * (log_q - log_p)).sum()


def flat(values: Tensor) -> np.ndarray:
    """The entries in one row, in float64."""
    return values.detach().cpu().double().numpy().ravel()
