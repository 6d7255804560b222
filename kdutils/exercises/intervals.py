"""Intervals of a mean, right and as they go wrong. Chapters 1, 4 and 7 ask for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

Triple = tuple[float, float, float]


def around(mean: float, half: float) -> Triple:
    """(mean, low, high)."""
    return float(mean), float(mean - half), float(mean + half)


def t_interval(values: np.ndarray, quantile: float = 0.975) -> Triple:
    """The 95 % interval of Student's t, unless another quantile is given."""
    n = len(values)
    return around(values.mean(), stats.t.ppf(quantile, n - 1) * values.std(ddof=1) / np.sqrt(n))


def wrong_intervals(values_of: Callable[..., np.ndarray]) -> dict[str, Callable[..., Any]]:
    """Hints for the usual mistakes, with functions of the exercise's arguments that make them.

    ``values_of`` makes from these arguments the values whose mean is asked for.
    """

    def of(change: Callable[[np.ndarray, float, int], Triple]) -> Callable[..., Triple]:
        def mistake(*inputs: Any) -> Triple:
            values = values_of(*inputs)
            return change(values, values.std(ddof=1), len(values))

        return mistake

    return {
        "The mean is right, the interval too narrow: 1.96 is the quantile of the normal distribution, for a spread "
        "that is known. Yours is estimated from few values; whose distribution allows for that?": of(
            lambda v, s, n: around(v.mean(), 1.96 * s / np.sqrt(n))
        ),
        "The interval is too narrow: the standard deviation is divided by n, as if these were all values that "
        "exist. For a sample divide by n − 1 (ddof=1 in NumPy).": of(
            lambda v, s, n: around(v.mean(), stats.t.ppf(0.975, n - 1) * v.std() / np.sqrt(n))
        ),
        "Two things make the interval too narrow: the normal quantile 1.96 in place of Student's t, and a standard "
        "deviation divided by n instead of n − 1.": of(lambda v, s, n: around(v.mean(), 1.96 * v.std() / np.sqrt(n))),
        "This interval tells where single values lie. The mean of n values scatters less: by which factor?": of(
            lambda v, s, n: around(v.mean(), stats.t.ppf(0.975, n - 1) * s)
        ),
        "This is one standard error to each side. It covers the mean far less often than in 95 of 100 cases: which "
        "factor is missing?": of(lambda v, s, n: around(v.mean(), s / np.sqrt(n))),
        "The quantile is too small: 95 % between two ends leaves 2.5 % outside on each side, so 0.95 is not the "
        "quantile to look up.": of(lambda v, s, n: t_interval(v, 0.95)),
    }
