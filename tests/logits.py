"""What the tests of the losses share: random logits, and divergences written out by hand in float64."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def logits(*shape, seed=0, scale=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


@st.composite
def cases(draw):
    """A student and a teacher of random shape (..., C) and scale, and a temperature."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=2)) + [draw(st.integers(2, 12))]
    scale = draw(st.floats(0.01, 30))
    seed = draw(st.integers(0, 10_000))
    student, teacher = logits(2, *shape, seed=seed, scale=scale)
    return student, teacher, draw(st.floats(0.2, 50))


def for_all_cases(test):
    return settings(max_examples=40, deadline=None, derandomize=True)(given(cases())(test))


def probabilities(values, temperature):
    """The softmax in its plainest form."""
    powers = np.exp((values - values.max(-1, keepdim=True).values).double().numpy() / temperature)
    return powers / powers.sum(-1, keepdims=True)


def kl_by_hand(p, q):
    """KL(p ‖ q) over the last dimension, 0 · log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0).sum(-1)


def numeric_gradient(loss, point, step=1e-5):
    """Central differences of a scalar function, one number of ``point`` after the other."""
    slopes = torch.zeros_like(point)
    for place in range(point.numel()):
        nudge = torch.zeros_like(point)
        nudge.view(-1)[place] = step
        slopes.view(-1)[place] = (loss(point + nudge) - loss(point - nudge)) / (2 * step)
    return slopes


def value_and_gradient(loss, student):
    student = student.detach().clone().requires_grad_()
    value = loss(student)
    value.backward()
    return value.detach(), student.grad
