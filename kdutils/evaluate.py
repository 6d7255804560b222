"""Measuring a trained network: errors, probabilities, calibration, agreement, intervals, latency."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or eval mode; afterwards every module's own mode is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


def model_device(model: nn.Module) -> torch.device:
    """Where the model's parameters live; the CPU for a model that has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def predict_logits(model: nn.Module, images: Tensor, batch_size: int = 1000) -> Tensor:
    """Logits ``(N, C)`` of ``images`` ``(N, 1, 28, 28)``, in eval mode and without gradients.

    The model keeps its device and its mode. The logits come back on the device of ``images``.
    """
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got none")
    device = model_device(model)
    with mode(model, training=False), torch.no_grad():
        for start in range(0, len(images), batch_size):
            some = slice(start, start + batch_size)
            part = model(images[some].to(device))
            if start == 0:  # one tensor for all: many parts, kept between large activations, leave holes in memory
                logits = part.new_empty(len(images), *part.shape[1:], device=images.device)
            logits[some] = part
    return logits


def count_errors(model: nn.Module, split) -> int:
    """How many examples of ``split`` (anything with ``images`` and ``labels``) the model gets wrong."""
    predicted = predict_logits(model, split.images).argmax(dim=-1)
    return int((predicted != split.labels).sum())


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows of ``logits`` ``(N, C)`` whose largest entry is at the label; between 0 and 1."""
    _check_rows(logits, labels)
    return float((logits.argmax(dim=-1) == labels).double().mean())


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of ``−log softmax(logits)[label]`` over the examples, in nats: cross-entropy at T = 1."""
    _check_rows(logits, labels)
    return float(F.cross_entropy(logits.double(), labels))


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """How far confidence is from accuracy: the gap ``|accuracy − confidence|`` in bins of equal width, averaged
    with the bins' shares of the examples. 0 is perfect, 1 the worst.

    Source: Guo et al. 2017, arXiv 1706.04599, section 2.
    """
    _check_rows(logits, labels)
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be a whole number of at least 1, got {bins!r}")
    confidence, predicted = torch.softmax(logits.double(), dim=-1).max(dim=-1)
    correct = (predicted == labels).double()
    # Bin k holds confidences in (k/bins, (k+1)/bins]; nothing is ever exactly 0.
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add_(0, which, correct - confidence)
    return float(gap.abs().sum() / len(labels))


def agreement(logits_a: Tensor, logits_b: Tensor) -> float:
    """The share of examples on which two networks name the same class, right or wrong: fidelity, 0 to 1."""
    if logits_a.shape != logits_b.shape:
        raise ValueError(
            f"logits_a and logits_b must have the same shape, got {tuple(logits_a.shape)} and {tuple(logits_b.shape)}"
        )
    return float((logits_a.argmax(dim=-1) == logits_b.argmax(dim=-1)).double().mean())


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student's t confidence interval of independent measurements, such as one error count per seed.

    For a paired comparison pass the differences, seed by seed: an interval that leaves 0 out is evidence of a gap.

    Raises:
        ValueError: fewer than two values (one run says nothing about spread), or values that are not finite.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"values must hold at least two numbers: one run has no spread, got {numbers.tolist()!r}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"values must be finite, got {numbers.tolist()!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
    mean = float(numbers.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(numbers) - 1) * stats.sem(numbers))
    return Interval(mean, mean - half, mean + half)


def count_multiply_adds(model: nn.Module, image_shape: tuple[int, ...] = (1, 28, 28)) -> int:
    """Multiply–adds for one image, as PyTorch's own counter sees them: matrix products and convolutions.

    Biases, activations and pooling are not counted.
    """
    image = torch.zeros(1, *image_shape, device=model_device(model))
    with mode(model, training=False), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    # The counter reports floating-point operations: one multiply–add is two of them.
    return counter.get_total_flops() // 2


class Latency(NamedTuple):
    """Seconds for one call: the median, and the 10th and 90th percentiles."""

    median: float
    low: float
    high: float


def latency(model: nn.Module, images: Tensor, *, repeats: int = 50, warmup: int = 5) -> Latency:
    """Seconds that the model takes for one forward pass over ``images`` ``(N, 1, 28, 28)``, data already in place.

    Pass a single image for the delay of one answer, a large batch for throughput. The first ``warmup`` calls are
    not counted.

    Raises:
        ValueError: fewer than one repeat, or a negative warmup.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"need repeats of at least 1 and warmup of at least 0, got {repeats!r} and {warmup!r}")
    device = model_device(model)
    images = images.to(device)
    seconds = []
    with mode(model, training=False), torch.no_grad():
        for _ in range(warmup + repeats):
            _wait_for(device)
            start = time.perf_counter()
            model(images)
            _wait_for(device)
            seconds.append(time.perf_counter() - start)
    low, median, high = np.quantile(seconds[warmup:], [0.1, 0.5, 0.9])
    return Latency(float(median), float(low), float(high))


def _wait_for(device: torch.device) -> None:
    # A GPU returns before it has finished: without this the clock would measure the launch alone.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _check_rows(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"need logits (N, C) and labels (N,) with N ≥ 1, got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
