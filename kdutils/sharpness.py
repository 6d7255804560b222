"""How sharp a teacher's answers are: what to look at before a temperature is chosen.

The usual temperatures, around 4, were found with teachers whose logits lie some units apart. Those of another network
may be ten times as far apart. At T = 4 its soft targets are then as hard as labels: they say little more than these,
while the factor T², made for gradients that a temperature has made small, multiplies gradients that are not.
"""

import warnings

import torch
from torch import Tensor

from .positions import at_least_float32, check_finite, check_shape

SHARP = 0.95  # a mean top probability above which soft targets count as labels
MILD = 2.0  # temperatures up to this one do little harm with any teacher
USUAL_SPREAD = 4.0  # what a sharp teacher's logits are best divided to


def spread(logits: Tensor) -> float:
    """The standard deviation of the logits ``(…, C)`` over the classes, averaged over the positions."""
    return float(_rows(logits).std(dim=-1).mean())


def top_probability(logits: Tensor, temperature: float = 1.0) -> float:
    """The probability of the likeliest class at a temperature, averaged over the positions: from 1/C to 1."""
    return float(torch.softmax(_rows(logits) / temperature, dim=-1).amax(dim=-1).mean())


def temperature_for(logits: Tensor, top: float = 0.8) -> float:
    """The temperature at which the likeliest class has the probability ``top``, averaged over the positions.

    It says how sharp the logits are; it is no advice. A temperature is chosen on validation, together with the learning
    rate: the same rate at a higher temperature makes larger steps.

    Args:
        logits: a teacher's, ``(…, C)``.
        top: between 1/C and 1.

    Returns:
        T, from 0.01 to 1000.

    Raises:
        ValueError: a probability that no temperature gives.
    """
    check_shape("logits", logits)
    check_finite("logits", logits)
    if not 1 / logits.shape[-1] < top < 1:
        raise ValueError(f"top must lie between 1/{logits.shape[-1]} and 1, got {top!r}")
    low, high = 0.01, 1000.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if top_probability(logits, middle) > top else (low, middle)
    return middle


def warn_if_sharp(logits: Tensor, temperature: float) -> None:
    """Warn where soft targets at this temperature are nearly labels, and say by how much to divide the logits."""
    found = top_probability(logits, temperature)
    if temperature <= MILD or not found >= SHARP or logits.shape[-1] == 1:  # nan is reported by the loss
        return
    apart = spread(logits)
    factor = apart / USUAL_SPREAD
    advice = (
        f"Divide the teacher's logits by {factor:.1f}: at this temperature the top probability is then "
        f"{top_probability(logits / factor, temperature):.2f}. Or lower the learning rate. "
        if factor > 1
        else "Lower the learning rate, or the temperature. "
    )
    warnings.warn(
        f"the teacher's logits have a standard deviation of {apart:.1f} over the classes: at T = {temperature:g} the "
        f"top probability of a soft target is still {found:.3f} on average. Such targets say little more than labels, "
        f"and the factor T² makes their gradient up to {temperature:g} times as large, so that the student may learn "
        f"nothing at a rate that suits labels. {advice}A higher temperature alone makes the steps larger still. Choose "
        f"on validation",
        stacklevel=4,
    )


def check_no_probabilities(logits: Tensor) -> None:
    """Raise ValueError for probabilities in place of logits: a softmax of them would be taken once more."""
    rows = _rows(logits)
    sums = rows.sum(dim=-1)
    if rows.shape[-1] > 1 and bool((rows >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(
            "the teacher gives probabilities: rows that are not negative and add up to 1. The loss wants logits; where "
            "there are none, the logarithm of the probabilities will do"
        )


def _rows(logits: Tensor) -> Tensor:
    return at_least_float32(logits.detach()).reshape(-1, logits.shape[-1])
